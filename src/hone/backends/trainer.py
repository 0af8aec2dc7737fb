"""Listwise distillation of a student: each distinct passage of a batch is encoded once, memory is bounded by caching.

The result equals training with every list place encoded by itself (dropout is off): a passage that many lists share
gets the sum of their gradients in one backward pass instead of many.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hone.backends.encoder import Encoder, token_batches
from hone.backends.losses import likely_relevant, listwise_kl, masked_infonce
from hone.core import schedule
from hone.core.training import LossSettings, TrainingSettings
from hone.errors import UserError
from hone.progress import Task


@dataclass(frozen=True)
class Example:
    """One list: the query's tokens, the passages (numbers into a table of tokens), the teacher's scores."""

    query: list[int]
    passages: np.ndarray
    """[l] int64, best first; the first is the positive."""
    scores: np.ndarray
    """[l] float32 in [0, 1]."""


@dataclass
class Batch:
    """Lists of one step. `slots` [q, l] points into `passages`, the distinct passages of the batch."""

    queries: list[list[int]]
    passages: list[list[int]]
    slots: Tensor
    teacher: Tensor
    mask: Tensor

    @property
    def listed(self) -> int:
        return int(self.mask.sum())


@dataclass
class History:
    """What training did, step by step and at every look at the dev lists."""

    steps: list[dict[str, float]] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    slots: int = 0
    encoded: int = 0
    tokens: int = 0


def make_batch(examples: Sequence[Example], tokens: Sequence[list[int]], device: torch.device) -> Batch:
    """Joins lists of any length; shorter ones are masked."""
    longest = max(len(example.passages) for example in examples)
    distinct, places = np.unique(np.concatenate([e.passages for e in examples]), return_inverse=True)
    slots = torch.zeros(len(examples), longest, dtype=torch.long)
    teacher = torch.zeros(len(examples), longest)
    mask = torch.zeros(len(examples), longest, dtype=torch.bool)
    start = 0
    for row, example in enumerate(examples):
        count = len(example.passages)
        slots[row, :count] = torch.from_numpy(places[start : start + count].astype(np.int64))
        teacher[row, :count] = torch.from_numpy(example.scores)
        mask[row, :count] = True
        start += count
    passages = [tokens[number] for number in distinct]
    return Batch([e.query for e in examples], passages, slots.to(device), teacher.to(device), mask.to(device))


def batch_loss(
    queries: Tensor, passages: Tensor, batch: Batch, settings: LossSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Total, listwise and InfoNCE loss of a batch: queries [q, d] and distinct passages [p, d], unit vectors."""
    similarities = queries @ passages.T
    cosines = similarities.gather(1, batch.slots)
    kl = listwise_kl(cosines, batch.teacher, batch.mask, settings.student_tau, settings.teacher_tau)
    if settings.infonce_weight == 0:
        return settings.kl_weight * kl, kl, torch.zeros_like(kl)
    excluded = likely_relevant(batch.slots, batch.teacher, batch.mask, len(passages), settings.mask_share)
    infonce = masked_infonce(similarities, batch.slots[:, 0], excluded, settings.infonce_tau)
    return settings.kl_weight * kl + settings.infonce_weight * infonce, kl, infonce


def backward(encoder: Encoder, batch: Batch, settings: LossSettings, token_budget: int) -> dict[str, float]:
    """Adds the gradients of one batch to the student's weights and returns the losses.

    Gradient caching (Gao et al., arXiv 2101.06983): vectors are made without a graph, the loss gives their gradients,
    and each micro-batch is encoded once more to carry them to the weights. A batch that fits is encoded only once.
    """
    groups = [(batch.queries, rows) for rows in _micro(batch.queries, token_budget)]
    groups += [(batch.passages, rows) for rows in _micro(batch.passages, token_budget)]
    if len(groups) == 2:
        vectors = [_embed(encoder, texts, rows) for texts, rows in groups]
        losses = _losses(encoder, batch, settings, groups, vectors)
        losses[0].backward()
        return _named(losses)
    with torch.no_grad():
        vectors = [_embed(encoder, texts, rows) for texts, rows in groups]
    leaves = [part.detach().requires_grad_() for part in vectors]
    losses = _losses(encoder, batch, settings, groups, leaves)
    losses[0].backward()
    for (texts, rows), leaf in zip(groups, leaves, strict=True):
        _embed(encoder, texts, rows).backward(leaf.grad)
    return _named(losses)


@torch.no_grad()
def dev_loss(encoder: Encoder, batches: Sequence[Batch], settings: LossSettings, token_budget: int) -> float:
    """The listwise loss over the dev lists."""
    total = 0.0
    for batch in batches:
        queries = _encode(encoder, batch.queries, token_budget)
        passages = _encode(encoder, batch.passages, token_budget)
        total += float(batch_loss(queries, passages, batch, settings)[1]) * len(batch.queries)
    return total / max(1, sum(len(batch.queries) for batch in batches))


def train(
    encoder: Encoder,
    tokens: Sequence[list[int]],
    train_lists: Sequence[Example],
    dev_lists: Sequence[Example],
    settings: TrainingSettings,
    progress: Callable[[int], Task],
    save_point: Callable[[], None] = lambda: None,
) -> History:
    """Trains the student in place, leaving the weights of the best look at the dev lists (the last without any).

    Raises UserError if the loss is no number.
    """
    torch.manual_seed(settings.seed)
    history, loss = History(), settings.loss
    size = schedule.batch_size(len(train_lists), settings.batch_size, settings.min_steps_per_epoch)
    epoch = schedule.steps_per_epoch(len(train_lists), size)
    total = min(settings.max_epochs * epoch, settings.max_steps or settings.max_epochs * epoch)
    warmup = schedule.warmup_steps(epoch, settings.warmup_steps, total)
    weights = trainable(encoder, settings.train_layers)
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    dev = [make_batch(part, tokens, encoder.device) for part in _parts(dev_lists, 64)]
    averaged = [weight.detach().clone() for weight in weights]
    best = Best(weights)
    look(encoder, dev, settings, history, 0, 0, best)
    task = progress(total)
    order = np.random.default_rng(settings.seed)
    for step, chosen in zip(range(total), _epochs(len(train_lists), size, order), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule.rate_factor(step, warmup, total)
        batch = make_batch([train_lists[number] for number in chosen], tokens, encoder.device)
        losses = backward(encoder, batch, loss, settings.token_budget)
        _check(losses["loss"], step)
        norm = torch.nn.utils.clip_grad_norm_(weights, settings.clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        _average(averaged, weights, settings.average)
        _count(history, batch, step, losses, float(norm), optimiser.param_groups[0]["lr"])
        task.advance(1, f"loss {losses['loss']:.4f}")
        every = settings.eval_every or epoch
        if (step + 1) % every == 0 or step + 1 == total:
            with _swapped(weights, averaged if settings.average else None):
                look(encoder, dev, settings, history, step + 1, (step + 1) // epoch, best)
            if dev and best.misses >= settings.patience:
                break
    best.restore(weights)
    history.best_step = best.step
    return history


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
    encoder: Encoder,
    dev: Sequence[Batch],
    settings: TrainingSettings,
    history: History,
    step: int,
    epoch: int,
    best: Best,
) -> None:
    """Measures the dev loss, notes it and offers the weights as the best."""
    loss = dev_loss(encoder, dev, settings.loss, settings.token_budget) if dev else math.nan
    history.looks.append({"step": step, "epoch": epoch, "dev_loss": loss})
    best.offer(loss, step)


def trainable(encoder: Encoder, top_layers: int) -> list[Tensor]:
    """The weights that are trained: all, or those of the top transformer layers; the others are frozen.

    Raises UserError if the model has no list of layers to choose from.
    """
    model: Any = encoder.model
    if top_layers == 0:
        chosen = list(model.parameters())
    else:
        layers = getattr(getattr(model, "encoder", model), "layer", None) or getattr(model, "layers", None)
        if layers is None:
            kind = type(model).__name__
            raise UserError(f"distill.train_layers: {kind} has no list of layers; set it to 0 to train all")
        chosen = [weight for layer in list(layers)[-top_layers:] for weight in layer.parameters()]
    for weight in model.parameters():
        weight.requires_grad_(False)
    for weight in chosen:
        weight.requires_grad_(True)
    return chosen


def _micro(texts: Sequence[list[int]], budget: int) -> list[list[int]]:
    return list(token_batches([len(ids) for ids in texts], budget))


def _embed(encoder: Encoder, texts: Sequence[list[int]], rows: list[int]) -> Tensor:
    return encoder.embed(*encoder.pad([texts[row] for row in rows]))


def _encode(encoder: Encoder, texts: Sequence[list[int]], budget: int) -> Tensor:
    """All texts without a graph, in their order."""
    groups = _micro(texts, budget)
    vectors = torch.cat([_embed(encoder, texts, rows) for rows in groups])
    return vectors[_back([row for rows in groups for row in rows], encoder.device)]


def _back(order: list[int], device: torch.device) -> Tensor:
    back = torch.empty(len(order), dtype=torch.long)
    back[torch.tensor(order)] = torch.arange(len(order))
    return back.to(device)


def _losses(
    encoder: Encoder, batch: Batch, settings: LossSettings, groups: list[Any], vectors: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The losses from the vectors of all micro-batches, put back into the order of the batch."""
    joined: list[Tensor] = []
    for texts in (batch.queries, batch.passages):
        mine = [(rows, part) for (of, rows), part in zip(groups, vectors, strict=True) if of is texts]
        back = _back([row for rows, _ in mine for row in rows], encoder.device)
        joined.append(torch.cat([part for _, part in mine])[back])
    return batch_loss(joined[0], joined[1], batch, settings)


def _named(losses: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
    return dict(zip(("loss", "kl", "infonce"), (float(loss.detach()) for loss in losses), strict=True))


def _parts(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]


def _epochs(count: int, size: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches of list numbers, shuffled anew each epoch, for ever."""
    while True:
        shuffled = order.permutation(count)
        yield from (shuffled[start : start + size] for start in range(0, count, size))


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


def _count(history: History, batch: Batch, step: int, losses: dict[str, float], norm: float, rate: float) -> None:
    history.slots += batch.listed
    history.encoded += len(batch.passages)
    history.tokens += sum(map(len, batch.queries)) + sum(map(len, batch.passages))
    history.steps.append({"step": step + 1, **losses, "gradient_norm": norm, "learning_rate": rate})
