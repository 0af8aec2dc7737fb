"""Fusion of rankings and of scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[int]], k: int = 60, weights: Sequence[float] = ()
) -> list[tuple[int, float]]:
    """Items with their sum of weight / (k + rank) over the rankings, best first, ties by item; no weights are all 1.

    Source: Cormack, Clarke, Buettcher, "Reciprocal rank fusion outperforms Condorcet", SIGIR 2009.
    """
    sums: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, item in enumerate(ranking, 1):
            sums[item] = sums.get(item, 0.0) + weight / (k + rank)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))


def min_max_sum(
    rankings: Sequence[Sequence[int]], scores: Sequence[Sequence[float]], weights: Sequence[float]
) -> list[tuple[int, float]]:
    """Items with their weighted sum of scores, each ranking's scaled to [0, 1], best first, ties by item.

    An item that a ranking lacks gets 0 from it; where all scores of a ranking are equal, each becomes 1. This is
    `min_max` normalisation with `arithmetic_mean` of OpenSearch.
    """
    sums: dict[int, float] = {}
    for ranking, values, weight in zip(rankings, scores, weights, strict=True):
        low, high = min(values, default=0.0), max(values, default=0.0)
        for item, value in zip(ranking, values, strict=True):
            sums[item] = sums.get(item, 0.0) + weight * ((value - low) / (high - low) if high > low else 1.0)
    return sorted(sums.items(), key=lambda pair: (-pair[1], pair[0]))


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores of one query's pool to mean 0 and deviation 1, so that systems of different scales can be added."""
    return (scores - scores.mean()) / (scores.std() + 1e-6)


def mean_vector(vectors: np.ndarray, rows: int = 65_536) -> np.ndarray:
    """[n, d] -> [d] float32: their mean, `rows` of them in memory at a time."""
    total = np.zeros(vectors.shape[1], dtype=np.float64)
    for start in range(0, len(vectors), rows):
        total += vectors[start : start + rows].sum(axis=0, dtype=np.float64)
    return (total / max(1, len(vectors))).astype(np.float32)


def centred(vectors: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """[..., d] and [d] -> [..., d]: what is left of unit vectors without the mean, at unit length again."""
    rest = vectors - mean
    return rest / np.maximum(np.linalg.norm(rest, axis=-1, keepdims=True), 1e-9)


def feedback_query(query: np.ndarray, best_docs: np.ndarray, weight: float) -> np.ndarray:
    """The query moved towards the mean of its best documents: [d], [m, d] -> [d], unit length.

    Rocchio's positive feedback (Rocchio 1971), on dense vectors.
    """
    moved = query + weight * best_docs.mean(axis=0)
    return moved / max(float(np.linalg.norm(moved)), 1e-9)


@dataclass(frozen=True)
class Opinion:
    """What one encoder makes of a query [d] and of the n documents of its pool [n, d], unit vectors."""

    query: np.ndarray
    docs: np.ndarray
    weight: float = 1.0
    """Its share among the encoders; the shares add up to 1."""


def fused_scores(
    opinions: Sequence[Opinion], lexical: np.ndarray, *, lexical_weight: float, feedback_docs: int,
    feedback_weight: float,
) -> np.ndarray:  # fmt: skip
    """A teacher's opinion of one query's pool, from encoders and BM25: n opinions, [n] -> [n], higher is better.

    Cosines and BM25, each standardised over the pool, are added; the best documents of that sum give each encoder a
    second, moved query, whose cosines share its part equally with those of the first.
    """
    words = standardised(lexical)
    direct = [standardised(opinion.docs @ opinion.query) for opinion in opinions]
    first = (1 - lexical_weight) * _shared(opinions, direct) + lexical_weight * words
    if feedback_docs == 0:
        return first
    best = np.argsort(-first, kind="stable")[:feedback_docs]
    both = [
        (dense + standardised(one.docs @ feedback_query(one.query, one.docs[best], feedback_weight))) / 2
        for one, dense in zip(opinions, direct, strict=True)
    ]
    return (1 - lexical_weight) * _shared(opinions, both) + lexical_weight * words


def _shared(opinions: Sequence[Opinion], scores: Sequence[np.ndarray]) -> np.ndarray:
    """[n]: the sum of each encoder's scores by its share."""
    return np.sum([one.weight * values for one, values in zip(opinions, scores, strict=True)], axis=0)
