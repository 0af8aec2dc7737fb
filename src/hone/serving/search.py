"""The base and the tuned model's answers to one query, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from hone.backends import encoders, search
from hone.context import Job, Plan, Shard
from hone.engine import record, runner
from hone.engine.scratch import scratch_folder
from hone.errors import UserError
from hone.report.collect import TITLE_CHARS, cut, find
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.stages import stage
from hone.storage.base import Store

TOP = 10


@dataclass(frozen=True)
class Hit:
    """One answer: its document, its cosine, and its rank with the other model (0: not in that top ten)."""

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
        done = record.results(store, run_name)
        if "evaluate" not in done:
            raise UserError(f"run {run_name!r} is not finished; `hone run` its settings first")
        job = Job(_plan(done["evaluate"], done), store, scratch, Shard())
        student = cast(Any, job.plan.config).student
        self.docs = job.table("docs")
        self.sides: list[tuple[encoders.Encoder, list[str], np.ndarray]] = []
        for model in (student.model, fetch_folder(store, done["distill"], "model", scratch)):
            folder = job.source(model) if isinstance(model, str) else model
            encoder = encoders.Encoder(folder, student)
            self.sides.append((encoder, *encoders.encode_by(job, encoder, "search: encode docs", self.docs)))

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        """The ten best documents of the base and of the tuned student, best first."""
        base, tuned = (self._best(*side, query) for side in self.sides)
        found = find({doc_id for doc_id, _ in (*base, *tuned)}, self.docs)
        texts = {doc_id: (title, text) for doc_id, title, text in found}
        return _hits(base, tuned, texts), _hits(tuned, base, texts)

    def _best(
        self, encoder: "encoders.Encoder", ids: list[str], vectors: np.ndarray, query: str
    ) -> list[tuple[str, float]]:
        positions, scores = search.top_k(encoder.queries([query]), vectors, min(TOP, len(ids)))
        return [(ids[position], float(score)) for position, score in zip(positions[0], scores[0], strict=True)]


def _plan(evaluate: Manifest, done: dict[str, Manifest]) -> Plan:
    config = stage("evaluate").Config.model_validate(evaluate.config)
    inputs = {name: runner.outputs_of(done)[name] for name in evaluate.inputs}
    return Plan("evaluate", config, inputs, dict(evaluate.sources), evaluate.fingerprint)


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
