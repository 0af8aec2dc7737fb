"""The gradients of one batch, exact at any batch size, within a memory limit and over any number of processes.

Vectors are made first, the loss gives their gradients, and these are carried to the weights one micro-batch at a time.
The graphs of as many micro-batches as fit the limit are kept from the first pass; the others are encoded once more
(gradient caching: Gao et al., arXiv 2101.06983). The weights' gradients are the same bits whatever fits.
Processes share the micro-batches and the queries' rows of the loss; negatives are those of the whole batch.
"""

import itertools
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hone.backends.budget import Budget, token_batches, tokens_at_once
from hone.backends.distributed import processes
from hone.backends.training import heap
from hone.backends.training.batches import Batch
from hone.backends.training.embedders import Embedder, embed_all
from hone.backends.training.losses import Lists, anchor, names, ndcg, terms
from hone.backends.training.memory import GIB
from hone.backends.training.settings import LossSettings
from hone.progress import Task

SIMILARITIES_AT_ONCE = 1 << 24
"""Entries of the similarity matrix in one block of queries; several float32 copies of it are alive at a time."""
WORKING = 1.0
"""What carrying gradients through a micro-batch takes beside its graph, by the size of the graph (docs/training.md),"""
WEIGHTS = 2.0
"""and by that of the trained weights: their gradients by one micro-batch, and what the optimiser takes for a moment."""
LOOSE = 1.5
"""On a CPU: how many times what a step is expected to take this process may hold more than before the first step."""


class Gradients:
    """Makes the gradients of batches. `memory` in bytes is what training may take beside weights and optimiser: the
    states that the embedder holds, where they lie in the same memory, kept graphs, and what carrying gradients through
    one of them takes for a moment. `say` is told before the first step what a step is expected to take.

    Where memory runs out all the same, half as many tokens are taken at once, and half as many graphs kept, from then
    on; the gradients are the same up to rounding. Every process does so by itself: its share depends on no budget.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: LossSettings,
        token_budget: int,
        memory: float,
        anchors: Tensor | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`anchors` [n, d]: the untrained student's vectors of all texts, needed for the loss that holds to them."""
        self.embedder, self.settings, self.anchors = embedder, settings, anchors
        encoder = embedder.encoder
        self.memory, self.say = memory - (encoder.device.type == "cpu") * embedder.held, say
        self.most_tokens = tokens_at_once(token_budget, encoder.device, encoder.width)
        self.budget, self.bytes_per_token = Budget(self.most_tokens), 0.0
        self.expected = 0.0
        """Bytes that the first step is expected to take at its peak, beside weights and optimiser."""
        self.kept = self.groups = self.padded = self.real = 0
        self.before = heap.resident()

    def of(self, batch: Batch) -> dict[str, float]:
        """Leaves the gradients of one batch in the weights and returns its losses."""
        share = self._share(batch)
        made = self.budget.fitting(partial(self._encode, batch, share))
        vectors = torch.zeros(len(batch.texts), self.embedder.encoder.dimension, device=self.embedder.encoder.device)
        for rows, part in made:
            vectors[rows] = part.detach()
        processes.add_up(vectors)
        anchors = None if self.anchors is None else self.anchors[batch.texts].to(vectors.device)
        losses, gradient = vector_gradients(vectors, batch, self.settings, anchors)
        self.budget.fitting(partial(self._carry, batch, share, made, gradient))
        self._add_up_weights()
        if vectors.device.type == "cpu" and heap.resident() > self.before + LOOSE * self.expected:
            heap.give_back()  # batches of other lengths leave gaps, gigabytes after some dozen steps
        return losses

    def _share(self, batch: Batch) -> Sequence[int]:
        """The rows of a batch that this process encodes: of every length as many as the others."""
        lengths = self.embedder.lengths[batch.texts].tolist()
        return processes.mine(sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)))

    def _cut(self, batch: Batch, share: Sequence[int], tokens: int) -> list[list[int]]:
        lengths = self.embedder.lengths[[batch.texts[row] for row in share]].tolist()
        return [[share[place] for place in group] for group in token_batches(lengths, tokens)]

    def _encode(self, batch: Batch, share: Sequence[int], tokens: int) -> list[tuple[list[int], Tensor]]:
        """The micro-batches of this process with their vectors, and with the graphs that may be kept."""
        groups = self._cut(batch, share, tokens)
        fitting = self._fitting(batch, groups, self.memory * tokens / self.most_tokens)
        return [(rows, self._embed(batch, rows, keep)) for rows, keep in zip(groups, fitting, strict=True)]

    def _carry(
        self, batch: Batch, share: Sequence[int], made: list[tuple[list[int], Tensor]], gradient: Tensor, tokens: int
    ) -> None:
        """Leaves in the weights what `gradient` [p + q, d] by the vectors of `share` comes to. Uses up `made`."""
        for weight in self.embedder.weights:
            weight.grad = None
        # Empty at a second try: the graphs of the first are gone.
        todo = made.copy() or [(rows, torch.empty(0)) for rows in self._cut(batch, share, tokens)]
        made.clear()
        while todo:
            rows, part = todo.pop(0)
            (part if part.requires_grad else self._embed(batch, rows, True)).backward(gradient[rows])

    def _embed(self, batch: Batch, rows: Sequence[int], keep: bool) -> Tensor:
        with torch.set_grad_enabled(keep):
            return self.embedder.embed([batch.texts[row] for row in rows])

    def _fitting(self, batch: Batch, groups: Sequence[Sequence[int]], memory: float) -> list[bool]:
        """Which micro-batches may keep their graph, the longest first."""
        lengths = [self.embedder.lengths[[batch.texts[row] for row in rows]] for rows in groups]
        padded = [int(of_group[0]) * len(of_group) for of_group in lengths]
        if groups and not self.bytes_per_token:
            self.bytes_per_token = self._measure(batch, groups[0]) / padded[0]
        graphs = [self.bytes_per_token * count for count in padded]
        working = WORKING * max(graphs, default=0.0) + self._of_weights()
        fitting = [taken + working <= memory for taken in itertools.accumulate(graphs)]
        if groups and not self.groups:
            kept = sum(graph for graph, fits in zip(graphs, fitting, strict=True) if fits)
            self._tell(max(kept, *graphs) + working, sum(fitting) / len(groups))
        self.kept += sum(fitting)
        self.groups += len(groups)
        self.padded += sum(padded)
        self.real += sum(int(of_group.sum()) for of_group in lengths)
        return fitting

    def _of_weights(self) -> float:
        return WEIGHTS * sum(weight.numel() * weight.element_size() for weight in self.embedder.weights)

    def _tell(self, expected: float, kept: float) -> None:
        """Says what the first step is expected to take, and where that is more than it may, what would take less."""
        self.expected = expected
        text = (
            f"a step takes about {expected / GIB:.2f} GB beside weights and optimiser, with {kept:.0%} of graphs kept"
        )
        if expected > self.memory:
            room = (self.memory - self._of_weights()) / (1 + WORKING)
            fits = int(room / self.bytes_per_token)
            advice = f"set distill.token_budget: {fits}" if fits > 0 else "the trained weights alone take it"
            text += f"; that is more than the {self.memory / GIB:.2f} GB that it may: {advice}"
        self.say(text)

    def _measure(self, batch: Batch, rows: Sequence[int]) -> float:
        """Bytes that the graph of a micro-batch of the longest texts holds."""
        with saved_bytes(list(self.embedder.encoder.model.parameters())) as seen:
            self._embed(batch, rows, True)
        return sum(seen.values())

    def _add_up_weights(self) -> None:
        if processes.count() > 1:
            for weight in self.embedder.weights:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
            processes.add_up(*(weight.grad for weight in self.embedder.weights if weight.grad is not None))


def vector_gradients(
    vectors: Tensor, batch: Batch, settings: LossSettings, anchors: Tensor | None = None
) -> tuple[dict[str, float], Tensor]:
    """The mean losses of a batch and the gradient [p + q, d] of the total by its vectors [p + q, d].

    Queries are taken in blocks, so that the matrix of similarities is never whole in memory; in smaller ones where
    memory runs out.
    """
    leaf = vectors.detach().requires_grad_()
    sums = Budget(SIMILARITIES_AT_ONCE).fitting(partial(_losses, leaf, batch, settings))
    assert leaf.grad is not None
    if anchors is not None:
        rows = processes.mine(range(len(leaf)))
        held = anchor(leaf[rows], anchors[rows]).sum() * (batch.queries / len(leaf))
        (settings.anchor_weight * held / batch.queries).backward()
        sums["anchor"] = float(held.detach())
        sums["loss"] += settings.anchor_weight * sums["anchor"]
    processes.add_up(leaf.grad)
    sums = processes.add_up_figures(sums, vectors.device)
    return {name: total / batch.queries for name, total in sums.items()}, leaf.grad


def _losses(leaf: Tensor, batch: Batch, settings: LossSettings, entries: int) -> dict[str, float]:
    """Sums over this process's queries of each term, `entries` similarities at once; leaves the gradient in `leaf`."""
    leaf.grad = torch.zeros_like(leaf)
    sums = dict.fromkeys(names(settings), 0.0)
    for rows in _query_blocks(batch, entries):
        losses = terms(_lists(leaf, batch, rows), settings)
        (losses["loss"].sum() / batch.queries).backward()
        for name, values in losses.items():
            sums[name] += float(values.detach().sum())
    return sums


def anchor_vectors(embedder: Embedder, settings: LossSettings, budget: int) -> Tensor | None:
    """[n, d] on CPU: what the student makes of all texts now, before training; None where the loss has no anchor."""
    if not settings.anchor_weight:
        return None
    numbers = processes.mine(range(len(embedder.lengths)))
    anchors = torch.zeros(len(embedder.lengths), embedder.encoder.dimension, device=embedder.encoder.device)
    anchors[numbers] = embed_all(embedder, numbers, budget)
    processes.add_up(anchors)
    return anchors.cpu()


@torch.no_grad()
def dev_figures(embedder: Embedder, batches: Sequence[Batch], settings: LossSettings, budget: int) -> dict[str, float]:
    """Means over the dev lists by the weight of their batches, nan without any: `dev_loss` (listwise), `dev_total` (all
    terms but the anchor) and `dev_ndcg` (nDCG@10 of each list's order, with the teacher's scores as gains)."""
    count = sum(batch.weight * batch.queries for batch in batches)
    sums = {"dev_loss": 0.0, "dev_total": 0.0, "dev_ndcg": 0.0}
    for weight, lists in _each_once(embedder, batches, budget):
        losses = terms(lists, settings)
        for name, values in zip(sums, (losses["kl"], losses["loss"], ndcg(lists)), strict=True):
            sums[name] += weight * float(values.sum())
    sums = processes.add_up_figures(sums, embedder.encoder.device)
    return {name: total / count if count else math.nan for name, total in sums.items()}


@torch.no_grad()
def listwise_losses(
    embedder: Embedder,
    batches: Sequence[Batch],
    settings: Sequence[LossSettings],
    budget: int,
    progress: Callable[[int], Task],
) -> list[float]:
    """The mean listwise loss over lists under each of several settings. Every text is encoded once for all of them;
    `progress` is given how many texts there are and called as they are encoded."""
    sums = dict.fromkeys(map(str, range(len(settings))), 0.0)
    for weight, lists in _each_once(embedder, batches, budget, progress):
        for name, loss in zip(sums, settings, strict=True):
            sums[name] += weight * float(terms(lists, loss)["kl"].sum())
    sums = processes.add_up_figures(sums, embedder.encoder.device)
    return [total / sum(batch.weight * batch.queries for batch in batches) for total in sums.values()]


def _each_once(
    embedder: Embedder, batches: Sequence[Batch], budget: int, progress: Callable[[int], Task] | None = None
) -> Generator[tuple[float, Lists]]:
    """What student and teacher say of this process's batches, each with its weight; a text that several of them hold is
    encoded once."""
    mine = processes.mine(batches)
    numbers = sorted({number for batch in mine for number in batch.texts})
    callbacks = (progress(len(numbers)).advance,) if progress else ()
    vectors = embed_all(embedder, numbers, budget, *callbacks)
    place = {number: row for row, number in enumerate(numbers)}
    for batch in mine:
        yield batch.weight, _lists(vectors[[place[number] for number in batch.texts]], batch, slice(None))


@contextmanager
def saved_bytes(weights: Sequence[Tensor]) -> Generator[dict[int, int]]:
    """Fills a dictionary with the size of every storage that graphs made in the block hold, weights left out."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        yield seen


def _lists(vectors: Tensor, batch: Batch, rows: slice) -> Lists:
    passages, queries = vectors[: batch.passages], vectors[batch.passages :]
    similarities = queries[rows] @ passages.T
    return Lists(similarities, batch.slots[rows], batch.teacher[rows], batch.mask[rows], batch.likely[rows])


def _query_blocks(batch: Batch, entries: int) -> list[slice]:
    """This process's rows of the loss, in blocks of so many similarities; which rows they are depends on no block."""
    each = -(-batch.queries // processes.count())
    first = processes.rank() * each
    last = min(first + each, batch.queries)
    size = max(1, entries // max(1, batch.passages))
    return [slice(start, min(start + size, last)) for start in range(first, last, size)]
