"""Lossless early exit: a query whose source document is outscored is dropped, so stop at the first that does it."""

import math
from collections.abc import Callable, Sequence

import numpy as np

Score = Callable[[Sequence[tuple[int, int]]], np.ndarray]
"""(query, candidate) pairs to their scores."""


def best_first(scores: np.ndarray, doc_ids: Sequence[str]) -> np.ndarray:
    """[n] positions in the order of every scored list: by score, NaN last, ties by doc_id."""
    return np.lexsort((np.array(doc_ids, dtype=np.str_), -scores, np.isnan(scores)))


def beats(score: float, doc_id: str, source_score: float, source_id: str) -> bool:
    """Whether a document ranks before the source in that order."""
    return _rank(score, doc_id) < _rank(source_score, source_id)


def score_in_waves(
    doc_ids: Sequence[Sequence[str]], sources: Sequence[str], score: Score, waves: Sequence[int] = (1, 2, 5, 12, 30)
) -> list[np.ndarray | None]:
    """Scores of every candidate of every query, or None for a query whose source is not the teacher's first.

    doc_ids are the candidates, likeliest winners first; sources the source document of each query ("" for none, which
    is never dropped). The source is scored first, then waves of growing size over all queries still in, so that
    batches stay full. What is kept has exactly the scores that exhaustive scoring gives.
    """
    scores = [np.full(len(ids), np.nan, dtype=np.float32) for ids in doc_ids]
    places = [list(ids).index(source) if source in ids else -1 for ids, source in zip(doc_ids, sources, strict=True)]
    alive = [not source or place >= 0 for source, place in zip(sources, places, strict=True)]
    _fill(scores, [(query, place) for query, place in enumerate(places) if place >= 0], score)
    start = 0
    longest = max(map(len, doc_ids), default=0)
    sizes = iter(waves)
    while start < longest:
        stop = start + next(sizes, longest)
        pairs = [
            (query, place)
            for query, ids in enumerate(doc_ids)
            if alive[query]
            for place in range(start, min(stop, len(ids)))
            if place != places[query]
        ]
        _fill(scores, pairs, score)
        for query, place in pairs:
            if places[query] >= 0 and alive[query]:
                at = scores[query]
                source = places[query]
                alive[query] = not beats(at[place], doc_ids[query][place], at[source], sources[query])
        start = stop
    return [scores[query] if alive[query] else None for query in range(len(doc_ids))]


def _rank(score: float, doc_id: str) -> tuple[bool, float, str]:
    return (True, 0.0, doc_id) if math.isnan(score) else (False, -score, doc_id)


def _fill(scores: list[np.ndarray], pairs: Sequence[tuple[int, int]], score: Score) -> None:
    if pairs:
        for (query, place), value in zip(pairs, score(pairs), strict=True):
            scores[query][place] = value
