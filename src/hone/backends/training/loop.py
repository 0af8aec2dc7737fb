"""The training loop: steps, looks at the dev lists, early stopping, the best weights kept."""

import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import torch

from hone.backends.distributed import processes
from hone.backends.training.batches import (
    Batch,
    Example,
    by_domain,
    epochs,
    first_of_each,
    make_batch,
    one_domain_each,
    pooled,
)
from hone.backends.training.checkpoints import Checkpoints
from hone.backends.training.embedders import Embedder
from hone.backends.training.gradients import Gradients, dev_figures, listwise_losses
from hone.backends.training.meters import Meter, Track, untracked
from hone.backends.training.schedule import course, steps_per_epoch
from hone.backends.training.settings import LossSettings, TrainingSettings
from hone.backends.training.state import State
from hone.errors import UserError
from hone.log import log
from hone.progress import Task

DEV_LISTS_AT_ONCE = 64
DEV_POOLS = 4
"""Pools of dev lists that a look at them takes where steps are pooled,"""
DEV_POOL_LISTS = 256
"""and the most lists of each."""
CALIBRATION_LISTS = 512
TAUS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3)


def train(
    gradients: Gradients,
    train_lists: Sequence[Example],
    dev: Sequence[Batch],
    settings: TrainingSettings,
    progress: Callable[[int], Task],
    checkpoints: Checkpoints | None = None,
    track: Track = untracked,
) -> State:
    """Trains the student in place, leaving the weights of the best look at the dev lists (the last without any).

    Goes on at the last checkpoint, if there is one. Raises UserError if the loss is not a number.
    """
    torch.manual_seed(settings.seed)
    embedder = gradients.embedder
    plan, watch = course([len(own) for own in by_domain(train_lists).values()], settings), Watch()
    state = State(embedder.weights, settings)
    if checkpoint := checkpoints and checkpoints.latest():
        state.restore(*checkpoint)
        log.info("resumed", step=state.step)
    else:
        with watch.looking():
            validate(embedder, dev, settings, state, 0)
    task = progress(plan.steps)
    task.resume(state.step)
    meter = Meter(gradients, state.history)

    def keep(*, over: bool) -> None:
        if checkpoints and checkpoints.due(state.step, over=over) and processes.rank() == 0:
            checkpoints.save(state.step, state.tensors(), state.record())

    for chosen in islice(steps_of(train_lists, settings), state.step, None):
        if settings.minutes and state.step >= plan.warmup:
            state.planned = state.planned or watch.fitting(state.step, plan.steps, settings, embedder.encoder.device)
            plan = replace(plan, steps=state.planned)
            task.total = plan.steps
        if state.step >= plan.steps or (dev and state.best.misses >= settings.patience):
            break
        started = time.monotonic()
        batch = make_batch(chosen, embedder.encoder.device)
        losses = take_step(gradients, batch, state, settings, plan.rate_factor(state.step))
        watch.steps.append(time.monotonic() - started)
        task.advance(1, meter.note(losses))
        track(state.step, {**state.history.steps[-1], **meter.figures()})
        if state.step % (settings.eval_every or plan.epoch) == 0 or state.step == plan.steps:
            with state.judged(), watch.looking():
                validate(embedder, dev, settings, state, state.step // plan.epoch)
            track(state.step, state.history.looks[-1])
        keep(over=False)
    keep(over=True)
    with torch.no_grad():
        for weight, best in zip(embedder.weights, state.best.kept, strict=True):
            weight.copy_(best)
    return state


def steps_of(lists: Sequence[Example], settings: TrainingSettings) -> Iterator[Sequence[Example]]:
    """What each step is trained on, for ever: lists of one domain."""
    streams = {name: _steps_of_one(own, settings) for name, own in by_domain(lists).items()}
    return one_domain_each(streams, settings.domains, settings.seed)


def _steps_of_one(lists: Sequence[Example], settings: TrainingSettings) -> Iterator[Sequence[Example]]:
    if settings.docs_per_step:
        return pooled(lists, settings.docs_per_step, settings.batch_size, settings.seed)
    steps = steps_per_epoch(len(lists), settings.batch_size, settings.min_steps_per_epoch)
    order = epochs(lists, steps, settings.seed, clustered=settings.cluster_batches)
    return ([lists[number] for number in chosen] for chosen in order)


class Watch:
    """How long the steps and the last look of this training took, in seconds."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.steps: list[float] = []
        self.validate = 0.0

    @contextmanager
    def looking(self) -> Generator[None]:
        started = time.monotonic()
        yield
        self.validate = time.monotonic() - started

    def fitting(self, taken: int, most: int, settings: TrainingSettings, device: torch.device) -> int:
        """How many steps, at most `most`, come to `distill.minutes` with the `taken` ones and the looks in between; one
        more than `taken` at least.

        The first process decides for all. The median step counts: the first ones compute what is kept for the others.
        """
        spent = time.monotonic() - self.started
        each = statistics.median(self.steps or [math.inf]) + self.validate / (settings.eval_every or math.inf)
        left = max(0.0, 60 * settings.minutes - spent)
        steps = min(most, taken + max(1, math.floor(left / each)))
        return int(processes.add_up_figures({"steps": steps if processes.rank() == 0 else 0}, device)["steps"])


def take_step(
    gradients: Gradients, batch: Batch, state: State, settings: TrainingSettings, rate_factor: float
) -> dict[str, float]:
    """One step of the optimiser; returns the losses before it. Raises UserError if they are not numbers."""
    for group in state.optimiser.param_groups:
        group["lr"] = settings.learning_rate * rate_factor
    losses = gradients.of(batch)
    state.step += 1
    norm = torch.nn.utils.clip_grad_norm_(state.weights, settings.clip)
    for name, value in (("loss", losses["loss"]), ("norm of its gradient", float(norm))):
        if not math.isfinite(value):
            advice = "lower distill.learning_rate or raise the temperatures"
            raise UserError(f"the {name} is {value} at step {state.step}; {advice}")
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)
    state.pull_back(rate_factor)
    state.average()
    rate = settings.learning_rate * rate_factor
    state.history.steps.append({"step": state.step, **losses, "gradient_norm": float(norm), "learning_rate": rate})
    state.history.slots += batch.listed
    state.history.encoded += batch.passages
    state.history.tokens += int(gradients.embedder.lengths[batch.texts].sum())
    return losses


def calibrated(
    embedder: Embedder, lists: Sequence[Example], settings: TrainingSettings, progress: Callable[[int], Task]
) -> LossSettings:
    """The loss with the student's temperature at which the untrained student's listwise loss is lowest, of TAUS."""
    sample = lists if settings.docs_per_step else first_of_each(lists, CALIBRATION_LISTS)
    batches = dev_batches(sample, embedder.encoder.device, settings.docs_per_step, settings.domains)
    losses = [settings.loss.model_copy(update={"student_tau": tau}) for tau in TAUS]
    losses_at = listwise_losses(embedder, batches, losses, settings.token_budget, progress)
    return losses[losses_at.index(min(losses_at))]


def dev_batches(
    lists: Sequence[Example], device: torch.device, docs_per_step: int = 0, weights: Mapping[str, float] | None = None
) -> list[Batch]:
    """The dev lists in the batches over which their loss is taken, each of one domain: all of them whole, or, where
    steps are pooled, a few pools of them, since all their documents would cost more than the steps between two looks.

    In a mean over lists each domain counts by its weight, however many lists it has."""
    batches = {name: _dev_batches_of_one(own, device, docs_per_step) for name, own in by_domain(lists).items()}
    counts = {name: sum(batch.queries for batch in own) for name, own in batches.items()}
    known = {name: (weights or {}).get(name, 1.0) for name in batches}
    shares = {name: known[name] / sum(known.values()) * sum(counts.values()) / counts[name] for name in batches}
    return [replace(batch, weight=shares[name]) for name, own in batches.items() for batch in own]


def _dev_batches_of_one(lists: Sequence[Example], device: torch.device, docs_per_step: int) -> list[Batch]:
    if docs_per_step:
        pools = islice(pooled(lists, docs_per_step, DEV_POOL_LISTS, seed=0), DEV_POOLS)
        return [make_batch(pool, device) for pool in pools]
    starts = range(0, len(lists), DEV_LISTS_AT_ONCE)
    return [make_batch(lists[start : start + DEV_LISTS_AT_ONCE], device) for start in starts]


def validate(embedder: Embedder, dev: Sequence[Batch], settings: TrainingSettings, state: State, epoch: int) -> None:
    """Measures the student on the dev lists, notes it and offers the weights as the best."""
    figures = dev_figures(embedder, dev, settings.loss, settings.token_budget)
    state.history.looks.append({"step": state.step, "epoch": epoch, **figures})
    state.best.offer(embedder.weights, validation_loss(figures, settings), state.step)


def validation_loss(figures: Mapping[str, float], settings: TrainingSettings) -> float:
    """What the best weights have least of, by distill.choose_by."""
    return {
        "listwise": figures["dev_loss"],
        "total": figures["dev_total"],
        "ndcg": -figures["dev_ndcg"],
    }[settings.choose_by]
