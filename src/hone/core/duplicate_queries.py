"""Queries that repeat another, decided over all of them at once: neither the order of the rows nor their division into
buckets, parts or shards shows in it."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from hone.core.hashing import hashed
from hone.core.near_duplicates import NearDuplicates
from hone.core.query_text import comparable
from hone.core.rejection import Rejection


class Query(NamedTuple):
    """A query as far as it matters here. Of equal ones that of the lowest `rank` stays, then that of the lowest id;
    `near` says that it may fall for being close to another of its kind."""

    query_id: str
    text: str
    rank: int
    near: bool


def repeats(read: Callable[[], Iterable[Query]], least: float) -> dict[str, Rejection]:
    """Query ids to why they are dropped: an exact duplicate of a query that stays, or one that shares `least` of its
    letter sequences with it (0 looks for none).

    `read` gives all queries and is called four times. Held at once are ids, 8 bytes per query and band of its MinHash,
    and the texts of those alone that share a band with another.
    """
    ids, texts, ranks = [], [], []
    for query in read():
        ids.append(query.query_id)
        texts.append(hashed(comparable(query.text)))
        ranks.append(query.rank)
    order = np.array(sorted(range(len(ids)), key=lambda at: (ranks[at], ids[at])), dtype=np.int64)
    stays = _firsts(np.array(texts, dtype=np.uint64), order)
    rejected = {
        query.query_id: Rejection("duplicate", f"{query.text} | {ids[stays[at]]}")
        for at, query in enumerate(read())
        if stays[at] != at
    }
    if least:
        place = dict(zip((ids[at] for at in order), range(len(ids)), strict=True))
        exact = frozenset(rejected)
        rest = partial(filter, lambda query: query.near and query.query_id not in exact)
        rejected |= _near(lambda: rest(read()), place, least)
    return rejected


def _firsts(texts: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each query [n] the first in `order` with the same hash of its text."""
    _, first, inverse = np.unique(texts[order], return_index=True, return_inverse=True)
    firsts = np.empty(len(texts), dtype=np.int64)
    firsts[order] = order[first[inverse]]
    return firsts


def _near(read: Callable[[], Iterable[Query]], place: dict[str, int], least: float) -> dict[str, Rejection]:
    """One after another in order of `place`, each against those that stayed before it."""
    kept, rejected = NearDuplicates(least), dict[str, Rejection]()
    bands = np.array([kept.bands(comparable(query.text)) for query in read()], dtype=np.uint64)
    if not len(bands):
        return rejected
    crowded = np.zeros(len(bands), dtype=bool)
    for keys in bands.T:
        _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        crowded |= counts[inverse] > 1
    close = sorted((query for at, query in enumerate(read()) if crowded[at]), key=lambda query: place[query.query_id])
    for query in close:
        plain = comparable(query.text)
        if other := kept.find(plain):
            rejected[query.query_id] = Rejection("near duplicate", f"{query.text} | {other}")
        else:
            kept.add(plain)
    return rejected
