"""Effectiveness of a ranking, exactly as trec_eval computes it."""

from collections.abc import Mapping, Sequence

import numpy as np

PRIMARY = "nDCG@10"
MEASURES = (PRIMARY, "Recall@100", "MRR@10", "MAP@100")
SHALLOW, DEEP = 10, 100


def trec_order(doc_ids: Sequence[str], scores: Sequence[float]) -> tuple[list[str], list[float]]:
    """A ranking in the order trec_eval gives it, whatever order it came in.

    Scores are compared as float32; among equal scores the larger doc_id (by code point) comes first.
    """
    pairs = sorted(zip(np.asarray(scores, np.float32).tolist(), doc_ids, strict=True), reverse=True)
    return [doc_id for _, doc_id in pairs], [score for score, _ in pairs]


def effectiveness(rankings: Sequence[Sequence[str]], judgements: Sequence[Mapping[str, int]]) -> dict[str, np.ndarray]:
    """Measure to its value for every query [q] float64, in [0, 1].

    `rankings` are doc_ids, best first, empty for a query that has no result (it counts as 0, as with `trec_eval -c`);
    `judgements` are doc_id to relevance. Relevant is a relevance of at least 1; an unjudged document is not relevant.
    """
    gains = _gains(rankings, judgements)
    relevant = np.array([sum(grade > 0 for grade in judged.values()) for judged in judgements], dtype=np.float64)
    values = (
        ndcg(gains, _ideal(judgements)),
        recall(gains, relevant),
        reciprocal_rank(gains),
        average_precision(gains, relevant),
    )
    return dict(zip(MEASURES, values, strict=True))


def ndcg(gains: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """nDCG@10 from gains [q, k] in ranked order and the ten best gains there are, ideal [q, 10]; 0 if there are none.

    DCG is the sum of gain / log2(rank + 1): Jarvelin and Kekalainen, TOIS 2002, with linear gains as in trec_eval's
    `ndcg_cut`.
    """
    best = _dcg(ideal)
    return np.divide(_dcg(gains), best, out=np.zeros_like(best), where=best > 0)


def recall(gains: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Recall@100 from gains [q, k] and the number of relevant documents [q]; 0 if there are none."""
    hits = (gains[:, :DEEP] > 0).sum(axis=1).astype(np.float64)
    return np.divide(hits, relevant, out=np.zeros_like(relevant), where=relevant > 0)


def reciprocal_rank(gains: np.ndarray) -> np.ndarray:
    """MRR@10 of each query: 1 / rank of the first relevant document among ten, else 0. gains [q, k]."""
    hits = gains[:, :SHALLOW] > 0
    return np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)


def average_precision(gains: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """MAP@100 of each query: precision at the rank of every relevant document among 100, averaged over all relevant.

    gains [q, k] and the number of relevant documents [q]; 0 if there are none. As trec_eval's `map_cut`.
    """
    hits = gains[:, :DEEP] > 0
    precision = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    total = (precision * hits).sum(axis=1)
    return np.divide(total, relevant, out=np.zeros_like(relevant), where=relevant > 0)


def _dcg(gains: np.ndarray) -> np.ndarray:
    return gains[:, :SHALLOW] @ (1.0 / np.log2(np.arange(2, SHALLOW + 2)))


def _gains(rankings: Sequence[Sequence[str]], judgements: Sequence[Mapping[str, int]]) -> np.ndarray:
    gains = np.zeros((len(judgements), DEEP))
    for row, (ranking, judged) in enumerate(zip(rankings, judgements, strict=True)):
        gained = [max(0, judged.get(doc_id, 0)) for doc_id in ranking[:DEEP]]
        gains[row, : len(gained)] = gained
    return gains


def _ideal(judgements: Sequence[Mapping[str, int]]) -> np.ndarray:
    ideal = np.zeros((len(judgements), SHALLOW))
    for row, judged in enumerate(judgements):
        best = sorted((grade for grade in judged.values() if grade > 0), reverse=True)[:SHALLOW]
        ideal[row, : len(best)] = best
    return ideal
