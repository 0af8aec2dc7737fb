"""The weight-free teacher: BM25 and the student itself, for machines without a cross-encoder."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from hone.backends.bm25 import BM25
from hone.backends.search import top_k
from hone.core.fusion import centred, fused_scores, mean_vector
from hone.core.teachers import Mix, Teacher


class Fusion:
    """Scores whole lists: its opinion of a document depends on the pool of its query."""

    pairwise = False

    def __init__(self, teacher: Teacher, texts: Sequence[str], vectors: np.ndarray) -> None:
        self.teacher, self.vectors = teacher, vectors
        self.bm25 = BM25(texts)
        self.mean = mean_vector(vectors)

    def score_lists(
        self, texts: Sequence[str], queries: np.ndarray, positions: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Queries as texts and as vectors [q, d], and the documents of each, to float32 scores of those documents."""
        nearest, _ = top_k(queries, self.vectors, self.teacher.pool)
        rows = zip(texts, queries, nearest, positions, strict=True)
        return [self._score(text, query, near, places) for text, query, near, places in rows]

    def mixed(self, mix: Mix) -> "Fusion":
        """The same with another mix."""
        other = copy(self)
        other.teacher = self.teacher.mixed(mix)
        return other

    def _score(self, text: str, query: np.ndarray, nearest: np.ndarray, places: np.ndarray) -> np.ndarray:
        lexical = self.bm25.scores(text)
        best = np.argsort(-lexical, kind="stable")[: self.teacher.pool]
        pool = np.unique(np.concatenate([nearest, best, places]))
        docs = np.asarray(self.vectors[pool])
        if self.teacher.centred:
            query, docs = centred(query, self.mean), centred(docs, self.mean)
        scores = fused_scores(
            query,
            docs,
            lexical[pool],
            lexical_weight=self.teacher.lexical_weight,
            feedback_docs=self.teacher.feedback_docs,
            feedback_weight=self.teacher.feedback_weight,
        )
        return scores[np.searchsorted(pool, places)].astype(np.float32)
