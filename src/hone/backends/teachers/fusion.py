"""The weight-free teacher: BM25 and the student itself, for machines without a cross-encoder."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from hone.backends.search.bm25 import BM25
from hone.backends.search.exact import top_k
from hone.backends.teachers.settings import Mix, Teacher
from hone.core.fusion import centred, fused_scores, mean_vector


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
        return self._by(texts, queries, positions, [self.teacher])[0]

    def by_mix(
        self, texts: Sequence[str], queries: np.ndarray, positions: Sequence[np.ndarray], mixes: Sequence[Mix]
    ) -> list[list[np.ndarray]]:
        """What `score_lists` of the same with each mix gives; what depends on no mix is looked up once."""
        return self._by(texts, queries, positions, [self.teacher.mixed(mix) for mix in mixes])

    def mixed(self, mix: Mix) -> "Fusion":
        """The same with another mix."""
        other = copy(self)
        other.teacher = self.teacher.mixed(mix)
        return other

    def _by(
        self, texts: Sequence[str], queries: np.ndarray, positions: Sequence[np.ndarray], teachers: Sequence[Teacher]
    ) -> list[list[np.ndarray]]:
        nearest, _ = top_k(queries, self.vectors, self.teacher.pool)
        scores: list[list[np.ndarray]] = [[] for _ in teachers]
        for text, query, near, places in zip(texts, queries, nearest, positions, strict=True):
            lexical = self.bm25.scores(text)
            best = np.argsort(-lexical, kind="stable")[: self.teacher.pool]
            pool = np.unique(np.concatenate([near, best, places]))
            at = np.searchsorted(pool, places)
            for teacher, found in zip(teachers, scores, strict=True):
                found.append(self._pool_scores(teacher, query, pool, lexical)[at].astype(np.float32))
        return scores

    def _pool_scores(self, teacher: Teacher, query: np.ndarray, pool: np.ndarray, lexical: np.ndarray) -> np.ndarray:
        docs = np.asarray(self.vectors[pool])
        if teacher.centred:
            query, docs = centred(query, self.mean), centred(docs, self.mean)
        return fused_scores(
            query,
            docs,
            lexical[pool],
            lexical_weight=teacher.lexical_weight,
            feedback_docs=teacher.feedback_docs,
            feedback_weight=teacher.feedback_weight,
        )
