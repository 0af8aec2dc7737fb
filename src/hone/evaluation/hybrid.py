"""Hybrid search: what dense vectors and BM25 find, as one ranking."""

from collections.abc import Mapping, Sequence

import numpy as np

from hone.core.fusion import min_max_sum, reciprocal_rank_fusion
from hone.evaluation.metrics import PRIMARY, effectiveness, trec_order
from hone.evaluation.rankings import Ranking

RRF_K = 60
"""As in OpenSearch, Elasticsearch and Qdrant."""
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of BM25 in a weighted sum, of which dev queries choose one."""


def fused(dense: Ranking, lexical: Ranking, depth: int, weight: float | None = None) -> Ranking:
    """Two rankings of one query as one: by reciprocal rank, or with `weight`, BM25's share, by the sum of their scores,
    each list's scaled to [0, 1]."""
    ids = sorted({*dense.doc_ids, *lexical.doc_ids})
    places = {doc_id: place for place, doc_id in enumerate(ids)}
    rankings = [[places[doc_id] for doc_id in of.doc_ids] for of in (dense, lexical)]
    if weight is None:
        pairs = reciprocal_rank_fusion(rankings, RRF_K)
    else:
        pairs = min_max_sum(rankings, [dense.scores, lexical.scores], [1 - weight, weight])
    ordered = trec_order([ids[place] for place, _ in pairs], [score for _, score in pairs])
    return Ranking(ordered[0][:depth], ordered[1][:depth])


def best_weight(
    dense: Sequence[Ranking], lexical: Sequence[Ranking], qrels: Sequence[Mapping[str, int]], depth: int
) -> float:
    """BM25's share with the best mean nDCG@10 on these queries, dev's; of equal ones the smallest."""
    pairs = list(zip(dense, lexical, strict=True))
    means = [
        effectiveness([fused(*pair, depth, weight).doc_ids for pair in pairs], qrels)[PRIMARY].mean()
        for weight in WEIGHTS
    ]
    return WEIGHTS[int(np.argmax(means))]
