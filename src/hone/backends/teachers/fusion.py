"""The teacher of several cheap opinions: BM25, the student itself and any further encoders."""

from collections.abc import Sequence
from copy import copy

import numpy as np

from hone.backends.search.best import best_of
from hone.backends.search.bm25 import BM25
from hone.backends.search.exact import top_k
from hone.backends.teachers.settings import Mix, Teacher
from hone.core.fusion import Opinion, centred, fused_scores, mean_vector
from hone.spent import COMPARISONS, growing


class Fusion:
    """Scores whole lists: its opinion of a document depends on the pool of its query."""

    pairwise = False

    def __init__(self, teacher: Teacher, texts: Sequence[str], views: Sequence[np.ndarray]) -> None:
        """`views`: each encoder's unit vectors [n, d] of all documents, the student's first."""
        self.teacher, self.views = teacher, views
        with growing("docs"):
            self.bm25 = BM25(texts)
            self.means = [mean_vector(view) for view in views]

    def score_lists(
        self, texts: Sequence[str], queries: Sequence[np.ndarray], positions: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Queries as texts and as vectors [q, d] of each encoder, and the documents of each query, to float32 scores of
        those documents."""
        return self._by(texts, queries, positions, [self.teacher])[0]

    def by_mix(
        self, texts: Sequence[str], queries: Sequence[np.ndarray], positions: Sequence[np.ndarray],
        mixes: Sequence[Mix],
    ) -> list[list[np.ndarray]]:  # fmt: skip
        """What `score_lists` of the same with each mix gives; what depends on no mix is looked up once."""
        return self._by(texts, queries, positions, [self.teacher.mixed(mix) for mix in mixes])

    def mixed(self, mix: Mix) -> "Fusion":
        """The same with another mix."""
        other = copy(self)
        other.teacher = self.teacher.mixed(mix)
        return other

    def _by(
        self, texts: Sequence[str], queries: Sequence[np.ndarray], positions: Sequence[np.ndarray],
        teachers: Sequence[Teacher],
    ) -> list[list[np.ndarray]]:  # fmt: skip
        depth = self.teacher.pool
        nearest = [top_k(vectors, view, depth)[0] for vectors, view in zip(queries, self.views, strict=True)]
        scores: list[list[np.ndarray]] = [[] for _ in teachers]
        for at, (text, places) in enumerate(zip(texts, positions, strict=True)):
            lexical = self.bm25.scores(text)
            with growing(COMPARISONS):
                best, _ = best_of(lexical, depth)
            pool = np.unique(np.concatenate([*(near[at] for near in nearest), best, places]))
            kept = np.searchsorted(pool, places)
            asked = [vectors[at] for vectors in queries]
            for teacher, found in zip(teachers, scores, strict=True):
                found.append(self._pool_scores(teacher, asked, pool, lexical)[kept].astype(np.float32))
        return scores

    def _pool_scores(
        self, teacher: Teacher, queries: Sequence[np.ndarray], pool: np.ndarray, lexical: np.ndarray
    ) -> np.ndarray:
        shares = encoder_shares(len(self.views), teacher.encoder_weight)
        opinions = [
            self._opinion(query, np.asarray(view[pool]), mean, share, center=teacher.centred)
            for query, view, mean, share in zip(queries, self.views, self.means, shares, strict=True)
        ]
        return fused_scores(
            opinions,
            lexical[pool],
            lexical_weight=teacher.lexical_weight,
            feedback_docs=teacher.feedback_docs,
            feedback_weight=teacher.feedback_weight,
        )

    @staticmethod
    def _opinion(query: np.ndarray, docs: np.ndarray, mean: np.ndarray, share: float, *, center: bool) -> Opinion:
        if not center:
            return Opinion(query, docs, share)
        return Opinion(centred(query, mean), centred(docs, mean), share)


def encoder_shares(encoders: int, others: float) -> list[float]:
    """The share of each encoder, the student's first: all of it where there is no other, else `others` evenly among
    the others."""
    if encoders == 1:
        return [1.0]
    return [1 - others, *[others / (encoders - 1)] * (encoders - 1)]
