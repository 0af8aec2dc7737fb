"""The training loop: steps, looks at the dev lists, early stopping, the best weights kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hone.backends.training.batches import Batch, Example, epochs, make_batch
from hone.backends.training.embedders import Embedder
from hone.backends.training.gradients import Gradients, dev_losses
from hone.core import schedule
from hone.core.training import LossSettings, TrainingSettings
from hone.errors import UserError
from hone.progress import Task

DEV_LISTS_AT_ONCE = 64
CALIBRATION_LISTS = 512
TAUS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3)


@dataclass
class History:
    """What training did, step by step and at every look at the dev lists."""

    steps: list[dict[str, float]] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    slots: int = 0
    encoded: int = 0
    tokens: int = 0
    kept_graphs: float = 1.0
    """Share of micro-batches whose graph was kept, so that they were encoded once and not twice."""


def train(
    embedder: Embedder,
    train_lists: Sequence[Example],
    dev: Sequence[Batch],
    settings: TrainingSettings,
    memory: float,
    progress: Callable[[int], Task],
) -> History:
    """Trains the student in place, leaving the weights of the best look at the dev lists (the last without any).

    `memory` in bytes is what kept graphs may take; it changes no result. Raises UserError if the loss is no number.
    """
    torch.manual_seed(settings.seed)
    history, weights = History(), embedder.weights
    size = schedule.batch_size(len(train_lists), settings.batch_size, settings.min_steps_per_epoch)
    epoch = schedule.steps_per_epoch(len(train_lists), size)
    total = min(settings.max_epochs * epoch, settings.max_steps or settings.max_epochs * epoch)
    warmup = schedule.warmup_steps(epoch, settings.warmup_steps, total)
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    gradients = Gradients(embedder, settings.loss, settings.token_budget, memory)
    averaged = [weight.detach().clone() for weight in weights]
    best = Best(weights)
    look(embedder, dev, settings, history, 0, 0, best)
    task = progress(total)
    order = epochs(train_lists, size, settings.seed, clustered=settings.cluster_batches)
    for step, chosen in zip(range(total), order, strict=False):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule.rate_factor(step, warmup, total)
        batch = make_batch([train_lists[number] for number in chosen], embedder.encoder.device)
        losses = gradients.add(batch)
        _check(losses["loss"], step)
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _average(averaged, weights, settings.average)
        _count(history, embedder, batch, step, losses, float(norm), optimiser.param_groups[0]["lr"])
        task.advance(1, f"loss {losses['loss']:.4f}")
        every = settings.eval_every or epoch
        if (step + 1) % every == 0 or step + 1 == total:
            with _swapped(weights, averaged if settings.average else None):
                look(embedder, dev, settings, history, step + 1, (step + 1) // epoch, best)
            if dev and best.misses >= settings.patience:
                break
    best.restore(weights)
    history.best_step = best.step
    history.kept_graphs = gradients.kept / max(1, gradients.groups)
    return history


def calibrated(embedder: Embedder, lists: Sequence[Example], settings: TrainingSettings) -> LossSettings:
    """The loss with the student's temperature at which the untrained student's listwise loss is lowest, of TAUS."""
    batches = dev_batches(lists[:CALIBRATION_LISTS], embedder.encoder.device)
    losses = [settings.loss.model_copy(update={"student_tau": tau}) for tau in TAUS]
    return min(losses, key=lambda loss: dev_losses(embedder, batches, loss, settings.token_budget)["kl"])


def dev_batches(lists: Sequence[Example], device: torch.device) -> list[Batch]:
    """The dev lists in the batches over which their loss is taken."""
    starts = range(0, len(lists), DEV_LISTS_AT_ONCE)
    return [make_batch(lists[start : start + DEV_LISTS_AT_ONCE], device) for start in starts]


class Best:
    """The weights of the best look so far, and how many looks since were no better."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.weights = weights
        self.kept = [weight.detach().clone() for weight in weights]
        self.loss, self.step, self.misses = math.inf, 0, 0

    def offer(self, loss: float, step: int) -> None:
        """Keeps the present weights if their loss is lower; without dev lists (nan) the latest are best."""
        if math.isnan(loss) or loss < self.loss:
            self.loss, self.step, self.misses = loss, step, 0
            self.kept = [weight.detach().clone() for weight in self.weights]
        else:
            self.misses += 1

    @torch.no_grad()
    def restore(self, weights: Sequence[Tensor]) -> None:
        for weight, kept in zip(weights, self.kept, strict=True):
            weight.copy_(kept)


def look(
    embedder: Embedder,
    dev: Sequence[Batch],
    settings: TrainingSettings,
    history: History,
    step: int,
    epoch: int,
    best: Best,
) -> None:
    """Measures the dev loss, notes it and offers the weights as the best."""
    loss = dev_losses(embedder, dev, settings.loss, settings.token_budget)["kl"] if dev else math.nan
    history.looks.append({"step": step, "epoch": epoch, "dev_loss": loss})
    best.offer(loss, step)


def _check(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(f"the loss is {loss} at step {step + 1}; lower distill.learning_rate or raise the temperatures")


@torch.no_grad()
def _average(averaged: list[Tensor], weights: Sequence[Tensor], decay: float) -> None:
    """Moves the running average of the weights; a decay of 0 keeps none."""
    if decay:
        for mean, weight in zip(averaged, weights, strict=True):
            mean.lerp_(weight, 1.0 - decay)


class _swapped:
    """Puts other weights in place for the time of a block."""

    def __init__(self, weights: Sequence[Tensor], others: Sequence[Tensor] | None) -> None:
        self.weights, self.others = weights, others

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for weight, other in zip(self.weights, self.others or (), strict=bool(self.others)):
            held = weight.clone()
            weight.copy_(other)
            other.copy_(held)


def _count(
    history: History,
    embedder: Embedder,
    batch: Batch,
    step: int,
    losses: dict[str, float],
    norm: float,
    rate: float,
) -> None:
    history.slots += batch.listed
    history.encoded += batch.passages
    history.tokens += sum(len(embedder.tokens[number]) for number in batch.texts)
    history.steps.append({"step": step + 1, **losses, "gradient_norm": norm, "learning_rate": rate})
