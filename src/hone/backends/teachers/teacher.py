"""A teacher over the documents of a job: pairs are paid for once, whole lists scored where a teacher needs them."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import product
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from hone.backends import load
from hone.backends.encoders.corpus import Corpus
from hone.backends.encoders.vectors import View
from hone.backends.precision import resolved_precision
from hone.backends.teachers.settings import Mix, OneTeacher, Teacher
from hone.config import identity
from hone.context import Job
from hone.errors import UserError
from hone.progress import pace, task, tell
from hone.results.content_cache import ContentCache

QUARTERS = 4


EncodeQueries = Callable[[Sequence[str]], np.ndarray]


class Scorer(Protocol):
    """A teacher of any kind. Documents are positions in the corpus."""

    pairwise: bool
    """Whether its opinion of a document does not depend on the others: then a query can be left half scored."""

    def pairs(self, queries: Sequence[str], places: np.ndarray) -> np.ndarray:
        """Query texts and document positions, one of each a pair, to [n] float32 scores. Only if pairwise."""
        ...

    def lists(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> list[np.ndarray]:
        """Query texts, and the positions of the documents of each, to float32 scores of those. Under a `label` models
        that have pairs to score show how far they are."""
        ...

    def calibrate(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> None:
        """Lists whose scores set the scale of each member of an ensemble; others have nothing to do."""
        ...


class ModelOfPairs(Protocol):
    """What gives the score of a query and a document, which depends on these alone."""

    pairs_at_once: int
    """Pairs whose scores are kept together: what a killed run pays for again at most."""
    documents_first: bool
    """Whether pairs of one document that are scored together cost less than apart."""

    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 scores of n pairs, in the order given."""
        ...


class PairScorer:
    """A teacher that scores pairs. A score is kept in the store by the texts, the model and what shapes its answers."""

    pairwise = True

    def __init__(self, model: ModelOfPairs, cache: ContentCache, corpus: Corpus, job: Job) -> None:
        self.model, self.cache, self.corpus, self.job = model, cache, corpus, job
        self.paid, self.seconds = 0, 0.0

    def pairs(self, queries: Sequence[str], places: np.ndarray, label: str = "") -> np.ndarray:
        order = np.argsort(places, kind="stable") if self.model.documents_first else np.arange(len(places))
        texts, docs = [queries[at] for at in order.tolist()], self.corpus.texts.at(places[order])

        def work(at: list[int]) -> pa.Array:
            started = time.monotonic()
            scores = self.model.score_pairs([texts[i] for i in at], [docs[i] for i in at])
            self.seconds += time.monotonic() - started
            self.paid += len(at)
            self.job.cost["pairs_paid"] += len(at)
            if not label:
                tell(f"{self.paid:,} pairs, {pace(self.paid / max(self.seconds, 1e-9))}")
            return pa.array(scores, pa.float32())

        keys = [f"{query}\0{doc}" for query, doc in zip(texts, docs, strict=True)]
        with task(label, len(keys), "pairs") if label and self.cache.missing(keys) else nullcontext() as progress:
            known = self.cache.compute(keys, work, self.model.pairs_at_once, progress)
        scores = np.empty(len(places), dtype=np.float32)
        scores[order] = known.to_numpy()
        return scores

    def lists(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> list[np.ndarray]:
        counts = [len(part) for part in places]
        texts = [query for query, count in zip(queries, counts, strict=True) for _ in range(count)]
        # Every pair of every list at once, so that batches are full.
        scores = self.pairs(texts, np.concatenate([np.zeros(0, np.int64), *places]), label)
        return np.split(scores, np.cumsum(counts)[:-1]) if counts else []

    def calibrate(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> None:
        pass


class ListScorer:
    """A teacher whose opinion of a document depends on the pool of its query."""

    pairwise = False

    def __init__(self, model: Any, encoders: Sequence[EncodeQueries]) -> None:
        """`encoders`: what makes vectors of queries, the student first."""
        self.model, self.encoders = model, encoders

    def pairs(self, queries: Sequence[str], places: np.ndarray) -> np.ndarray:
        raise AssertionError("a teacher of whole lists is never asked for pairs")

    def lists(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> list[np.ndarray]:
        return self.model.score_lists(queries, self._encoded(queries), places) if queries else []

    def calibrate(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> None:
        pass

    def by_mix(
        self, queries: Sequence[str], places: Sequence[np.ndarray], mixes: Sequence[Mix]
    ) -> list[list[np.ndarray]]:
        """What `lists` of the same fusion gives with each mix."""
        return self.model.by_mix(queries, self._encoded(queries), places, mixes)

    def mixed(self, mix: Mix) -> "ListScorer":
        """The same fusion with another mix."""
        return ListScorer(self.model.mixed(mix), self.encoders)

    def _encoded(self, queries: Sequence[str]) -> list[np.ndarray]:
        return [encode(queries) for encode in self.encoders]


class Ensemble:
    """The weighted mean of several teachers, each brought to mean 0 and deviation 1 over the same lists first."""

    def __init__(
        self, members: Sequence[Scorer], weights: Sequence[float], scales: Sequence[tuple[float, float]] = ()
    ) -> None:
        """`scales`: mean and deviation of each member, or none before it is calibrated."""
        self.members, self.weights, self.scales = members, [one / sum(weights) for one in weights], list(scales)
        self.pairwise = all(member.pairwise for member in members)

    def pairs(self, queries: Sequence[str], places: np.ndarray) -> np.ndarray:
        return self._mean([member.pairs(queries, places) for member in self.members], self.weights)

    def lists(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> list[np.ndarray]:
        return self.by_weights(queries, places, [self.weights], label)[0]

    def by_weights(
        self, queries: Sequence[str], places: Sequence[np.ndarray], choices: Sequence[Sequence[float]], label: str = ""
    ) -> list[list[np.ndarray]]:
        """What `lists` of the same members gives with each of these weights, which add up to 1."""
        opinions = [member.lists(queries, places, label) for member in self.members]
        return [[self._mean(scores, weights) for scores in zip(*opinions, strict=True)] for weights in choices]

    def weighted(self, weights: Sequence[float]) -> "Ensemble":
        """The same with other weights, and without the members that have none."""
        kept = [at for at, weight in enumerate(weights) if weight]
        return Ensemble(
            [self.members[at] for at in kept], [weights[at] for at in kept], [self.scales[at] for at in kept]
        )

    def calibrate(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> None:
        self.scales = []
        for member in self.members:
            scores = np.concatenate([np.zeros(0), *member.lists(queries, places, label)])
            finite = scores[np.isfinite(scores)]
            self.scales.append((float(finite.mean()), float(finite.std()) or 1.0) if len(finite) else (0.0, 1.0))

    def _mean(self, opinions: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
        parts = zip(opinions, weights, self.scales, strict=True)
        standard = [w * ((scores.astype(np.float64) - mean) / spread) for scores, w, (mean, spread) in parts if w]
        return np.asarray(sum(standard), dtype=np.float32)


def divisions(members: int) -> list[tuple[float, ...]]:
    """All ways of dividing 1 among members in quarters, those that need the fewest members first."""
    ways = [way for way in product(range(QUARTERS + 1), repeat=members) if sum(way) == QUARTERS]
    ways.sort(key=lambda way: (members - way.count(0), [-part for part in way]))
    return [tuple(part / QUARTERS for part in way) for way in ways]


def scorer_of(teacher: Teacher, job: Job, corpus: Corpus, encode: EncodeQueries, token_budget: int) -> Scorer:
    """The teacher that the settings name. Raises UserError if its model is missing or brings code not allowed."""
    if teacher.kind != "ensemble":
        return _one(teacher, job, corpus, encode, token_budget)
    if not teacher.members:
        raise UserError("teacher.members: an ensemble is made of teachers; list at least one")
    members = [_one(member, job, corpus, encode, token_budget) for member in teacher.members]
    return Ensemble(members, [member.weight for member in teacher.members])


def _one(teacher: OneTeacher, job: Job, corpus: Corpus, encode: EncodeQueries, token_budget: int) -> Scorer:
    make = load("teacher", teacher.kind)
    if teacher.kind == "fusion":
        others = [View(job, encoder, f"{job.plan.stage}: encode docs", token_budget) for encoder in teacher.encoders]
        views = [corpus.vectors, *(view.vectors for view in others)]
        return ListScorer(make(teacher, corpus.texts, views), [encode, *(view.queries for view in others)])
    if teacher.kind == "endpoint":
        # Where the server stands shapes no score: one that moved is not asked again.
        served = {name: value for name, value in identity(teacher.server, {}).items() if name != "url"}
        return PairScorer(
            make(teacher), job.cache("scores", f"endpoint {json.dumps(served)}", pa.float32()), corpus, job
        )
    if not teacher.model:
        raise UserError(f"teacher.model is empty: name the folder of the {teacher.kind}")
    model = make(teacher, job.source(teacher.model), token_budget)
    known = teacher.identity({teacher.model: job.digest(teacher.model)})
    if "precision" in known:
        known["precision"] = resolved_precision(teacher.precision)
    return PairScorer(model, job.cache("scores", json.dumps(known), pa.float32()), corpus, job)
