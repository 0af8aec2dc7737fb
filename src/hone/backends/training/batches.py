"""Lists to batches. Every passage that the lists of a batch share is in it once."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from hone.core.hashing import drawn

LISTS_CLUSTERED_AT_ONCE = 65_536
POOLED_FROM_EACH = 20
"""Passages, the best first, that each list drawn for a pool puts into it."""
NEAR = 30
"""A query is near a pool by how many of its first passages are in it,"""
LEAST_NEAR = 8
"""and is asked if there are this many: fewer teach little of their order."""


@dataclass(frozen=True)
class Example:
    """One list. Texts are numbers into one table of tokens."""

    query: int
    passages: np.ndarray
    """[l] int64, best first; the first is the positive."""
    scores: np.ndarray
    """[l] float32 in [0, 1]."""
    likely: tuple[int, ...] = ()
    """Passages, listed or not, that are not negatives whatever they score: what the query was made from, and what was
    left out of its list as a likely answer."""
    domain: str = ""
    """What it is of, where one student is trained for several domains."""


@dataclass
class Batch:
    """Lists of one step."""

    texts: list[int]
    """The numbers of its p distinct passages, then of its q queries."""
    slots: Tensor
    """[q, l] int64: the place in `texts` of each listed passage."""
    teacher: Tensor
    """[q, l] float32."""
    mask: Tensor
    """[q, l] bool, False where a list is shorter than l."""
    likely: Tensor
    """[q, m] int64: the places in `texts` of the passages that are not negatives of each query; -1 where the batch does
    not hold one, or there is none."""
    weight: float = 1.0
    """How much each of its lists counts in a mean over several batches."""

    @property
    def queries(self) -> int:
        return len(self.slots)

    @property
    def passages(self) -> int:
        return len(self.texts) - len(self.slots)

    @property
    def listed(self) -> int:
        return int(self.mask.sum())


def make_batch(examples: Sequence[Example], device: torch.device) -> Batch:
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
    texts = [*distinct.tolist(), *(example.query for example in examples)]
    likely = torch.from_numpy(_places(_rectangular([example.likely for example in examples]), distinct))
    return Batch(texts, slots.to(device), teacher.to(device), mask.to(device), likely.to(device))


def by_domain(lists: Sequence[Example]) -> dict[str, list[Example]]:
    """The lists of each domain, the domains in the order of their names."""
    found: dict[str, list[Example]] = {name: [] for name in sorted({one.domain for one in lists})}
    for one in lists:
        found[one.domain].append(one)
    return found


def first_of_each(lists: Sequence[Example], most: int) -> list[Example]:
    """The first lists, about `most` in all and as many of each domain; all for 0."""
    domains = by_domain(lists).values()
    each = -(-most // max(1, len(domains))) or None
    return [one for own in domains for one in own[:each]]


def domain_of(step: int, weights: Mapping[str, float], seed: int) -> str:
    """The domain of a step (0-based): drawn by weight, and by the step alone, whatever was drawn before."""
    names = sorted(weights)
    ends = np.cumsum([weights[name] for name in names])
    place = int(np.searchsorted(ends, drawn("domain", seed, step) * ends[-1], side="right"))
    return names[min(place, len(names) - 1)]


def one_domain_each(
    streams: Mapping[str, Iterator[Sequence[Example]]], weights: Mapping[str, float], seed: int
) -> Iterator[Sequence[Example]]:
    """Steps that are each the next one of a single domain's stream, for ever. Domains without a weight count 1."""
    known = {name: weights.get(name, 1.0) for name in streams}
    return (next(streams[domain_of(step, known, seed)]) for step in itertools.count())


def _rectangular(rows: Sequence[Sequence[int]]) -> np.ndarray:
    """[n, longest] int64, filled up with -1."""
    filled = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled


def _places(wanted: np.ndarray, distinct: np.ndarray) -> np.ndarray:
    """[q, m] int64: where each number stands in the sorted `distinct`; -1 where it does not."""
    places = np.searchsorted(distinct, wanted).clip(max=len(distinct) - 1)
    return np.where(distinct[places] == wanted, places, -1).astype(np.int64)


def pooled(lists: Sequence[Example], passages: int, queries: int, seed: int) -> Iterator[list[Example]]:
    """Steps of about `passages` distinct passages and at most `queries` lists, for ever.

    The first passages of lists drawn at random make a pool; the queries of these lists and others near the pool are
    asked about all of it that is on their lists. A passage, which is what costs time, is encoded once for many queries.
    """
    random = np.random.default_rng(seed)
    places, owners = _inverted([one.passages[:NEAR] for one in lists])
    order = iter(list[int]())
    while True:
        pool, drawn = set[int](), dict[int, None]()
        while len(pool) < passages and len(drawn) < min(queries, len(lists)):
            number = next(order, None)
            if number is None:
                order = iter(random.permutation(len(lists)).tolist())
                continue
            drawn[number] = None
            pool.update(lists[number].passages[:POOLED_FROM_EACH].tolist())
        inside = np.sort(np.fromiter(pool, dtype=np.int64))
        near = np.bincount(
            np.concatenate([owners[start:end] for start, end in map(places.__getitem__, pool)]), minlength=len(lists)
        )
        near[list(drawn)] = 0
        others = random.permutation(np.flatnonzero(near >= LEAST_NEAR))[: queries - len(drawn)]
        yield [within(lists[number], inside) for number in (*drawn, *others.tolist())]


def within(example: Example, inside: np.ndarray) -> Example:
    """The list without the passages that are not in the sorted `inside`."""
    there = _places(example.passages, inside) >= 0
    return replace(example, passages=example.passages[there], scores=example.scores[there])


def epochs(lists: Sequence[Example], steps: int, seed: int, *, clustered: bool = False) -> Iterator[np.ndarray]:
    """Batches of list numbers, `steps` to an epoch, as equal in size as can be; shuffled anew each epoch, for ever.

    With `clustered` the lists of a batch share passages where they can, so that fewer passages are encoded.
    """
    random = np.random.default_rng(seed)
    while True:
        batches = np.array_split(random.permutation(len(lists)), steps)
        if clustered:
            batches = [batch for part in _parts(batches) for batch in cluster(lists, part)]
            random.shuffle(batches)  # type: ignore[arg-type]
        yield from batches


def cluster(lists: Sequence[Example], batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Batches of the same sizes over the same list numbers: each starts with the first list that is left and takes, one
    by one, the list that adds the fewest passages to it; ties in the order given."""
    order = np.concatenate(batches)
    places, flat = _inverted([lists[number].passages for number in order])
    added = np.array([len(lists[number].passages) for number in order], dtype=np.int64)
    left = np.ones(len(order), dtype=bool)
    for size in map(len, batches):
        cost = np.where(left, added, np.iinfo(np.int64).max)
        at = int(np.argmax(left))
        chosen: list[int] = []
        inside: set[int] = set()
        while True:
            chosen.append(at)
            left[at] = False
            cost[at] = np.iinfo(np.int64).max
            if len(chosen) == size:
                break
            for passage in set(lists[order[at]].passages.tolist()) - inside:
                inside.add(passage)
                first, last = places[passage]
                cost[flat[first:last]] -= left[flat[first:last]]
            at = int(np.argmin(cost))
        yield order[chosen]


def _inverted(lists: Sequence[np.ndarray]) -> tuple[dict[int, tuple[int, int]], np.ndarray]:
    """For each passage the slice of the second value that holds the places in `lists` of the lists it is in."""
    distinct = [np.unique(passages) for passages in lists]
    passages = np.concatenate(distinct)
    owners = np.repeat(np.arange(len(lists)), [len(one) for one in distinct])
    sorting = np.argsort(passages, kind="stable")
    known, starts = np.unique(passages[sorting], return_index=True)
    ends = np.append(starts[1:], len(passages))
    return dict(zip(known.tolist(), zip(starts.tolist(), ends.tolist(), strict=True), strict=True)), owners[sorting]


def _parts(batches: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    """Some batches at a time, few enough to be clustered quickly."""
    step = max(1, LISTS_CLUSTERED_AT_ONCE // len(batches[0]))
    for start in range(0, len(batches), step):
        yield batches[start : start + step]
