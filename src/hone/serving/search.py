"""The base and the tuned model's answers to one query, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hone.backends import search
from hone.context import Job, Shard
from hone.evaluation.hybrid import fused
from hone.evaluation.rankings import ranking
from hone.inputs.references import content_digest
from hone.report.collect import TITLE_CHARS, cut, find
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.serving.finished import finished
from hone.serving.retriever import retriever
from hone.stages import evaluate
from hone.storage.base import Store

TOP = 10
DEPTH = 100
"""Documents of either ranking that are fused, as evaluate does."""


@dataclass(frozen=True)
class Hit:
    """One answer: its document, its score (a cosine, or that of fused search), and its rank with the other model, 0 if
    it is not in that top ten."""

    doc_id: str
    title: str
    text: str
    score: float
    other_rank: int


def top_tens(store: Store, run_name: str, query: str) -> tuple[list[Hit], list[Hit]]:
    """The ten best documents of the base and of the tuned student, best first. Raises UserError."""
    with scratch_folder() as scratch:
        return Searcher(store, run_name, scratch).top_tens(query)


class Searcher:
    """Both students over the documents of a finished run, loaded once for any number of queries."""

    def __init__(self, store: Store, run_name: str, scratch: Path) -> None:
        """Raises UserError if the run is not finished."""
        done, plan = finished(store, run_name)
        job = Job(plan, store, scratch, Shard())
        config = cast(evaluate.Config, job.plan.config)
        student = config.student
        self.docs = job.table("docs")
        base, tuned = job.source(student.model), fetch_folder(store, done["distill"], "model", scratch)
        digests = content_digest(base), done["distill"].outputs["model"].digest
        self.sides = [retriever(job, student, *side) for side in zip((base, tuned), digests, strict=True)]
        self.index = search.index_of(self.docs) if config.search_as == "hybrid" else None
        self.weights: dict[str, float] = done["evaluate"].facts.get("bm25_weights", {})

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        """The ten best documents of the base and of the tuned student, best first."""
        base, tuned = (
            self._fused(name, side.best(query, DEPTH), query) if self.index else side.best(query, TOP)
            for name, side in zip(("base", "tuned"), self.sides, strict=True)
        )
        shown = find({doc_id for doc_id, _ in (*base, *tuned)}, self.docs)
        texts = {doc_id: (title, text) for doc_id, title, text in shown}
        return _hits(base, tuned, texts), _hits(tuned, base, texts)

    def _fused(self, name: str, dense: list[tuple[str, float]], query: str) -> list[tuple[str, float]]:
        """The dense answers and BM25's as one list, as the run's settings have users search."""
        assert self.index
        ids, index = self.index
        places = index.top_k(query, DEPTH)
        lexical = ranking([ids[place] for place in places], index.scores(query)[places].tolist(), DEPTH)
        by_vectors = ranking([doc_id for doc_id, _ in dense], [score for _, score in dense], DEPTH)
        whole = fused(by_vectors, lexical, TOP, self.weights.get(name))
        return list(zip(whole.doc_ids, whole.scores, strict=True))


def _hits(own: list[tuple[str, float]], other: list[tuple[str, float]], texts: dict[str, tuple[str, str]]) -> list[Hit]:
    ranks = {doc_id: rank for rank, (doc_id, _) in enumerate(other, 1)}
    return [
        Hit(
            doc_id,
            cut(texts[doc_id][0] or texts[doc_id][1], TITLE_CHARS),
            texts[doc_id][1],
            score,
            ranks.get(doc_id, 0),
        )
        for doc_id, score in own
    ]
