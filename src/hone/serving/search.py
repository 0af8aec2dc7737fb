"""`hone search`: the base and the tuned model's answers to one query, side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hone.context import Job, Plan, Shard
from hone.engine import runner
from hone.engine.execute import scratch_folder
from hone.errors import UserError
from hone.report.collect import TITLE_CHARS, cut, find
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.storage.base import Store, open_store

if TYPE_CHECKING:
    from hone.backends.encoders.encoder import Encoder

TOP = 10


@dataclass(frozen=True)
class Hit:
    """One answer: its document, its cosine, and its rank with the other model (0: not in that top ten)."""

    doc_id: str
    title: str
    text: str
    score: float
    other_rank: int


def show(run_name: str, query: str, store_uri: str) -> None:
    """Prints both top tens; what moved is marked. Raises UserError."""
    if not query.strip():
        raise UserError("the query is empty; type what you would search for")
    base, tuned = top_tens(open_store(store_uri), run_name, query)
    table = Table(title=escape(query), title_justify="left")
    for heading in ("", "base", "tuned", "moved"):
        table.add_column(heading, overflow="fold")
    for rank in range(max(len(base), len(tuned))):
        left, right = (hits[rank] if rank < len(hits) else None for hits in (base, tuned))
        table.add_row(str(rank + 1), _cell(left), _cell(right), _moved(rank + 1, right))
    Console(highlight=False).print(table)


def top_tens(store: Store, run_name: str, query: str) -> tuple[list[Hit], list[Hit]]:
    """The ten best documents of the base and of the tuned student, best first. Raises UserError."""
    with scratch_folder() as scratch:
        return Searcher(store, run_name, scratch).top_tens(query)


class Searcher:
    """Both students over the documents of a finished run, loaded once for any number of queries."""

    def __init__(self, store: Store, run_name: str, scratch: Path) -> None:
        """Raises UserError if the run is not finished."""
        from hone.backends.encoders.encoder import Encoder
        from hone.backends.encoders.vectors import encode_docs

        done = runner.results(store, run_name)
        if "evaluate" not in done:
            raise UserError(f"run {run_name!r} is not finished; `hone run` its settings first")
        job = Job(_plan(done["evaluate"], done), store, scratch, Shard())
        student = cast(Any, job.plan.config).student
        self.docs = job.table("docs")
        self.sides: list[tuple[Encoder, list[str], np.ndarray]] = []
        for model in (student.model, fetch_folder(store, done["distill"], "model", scratch)):
            folder = job.source(model) if isinstance(model, str) else model
            self.sides.append((Encoder(folder, student), *encode_docs(job, student, model, "search: encode docs")))

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        """The ten best documents of the base and of the tuned student, best first."""
        base, tuned = (self._best(*side, query) for side in self.sides)
        found = find({doc_id for doc_id, _ in (*base, *tuned)}, self.docs)
        texts = {doc_id: (title, text) for doc_id, title, text in found}
        return _hits(base, tuned, texts), _hits(tuned, base, texts)

    def _best(self, encoder: "Encoder", ids: list[str], vectors: np.ndarray, query: str) -> list[tuple[str, float]]:
        from hone.backends.search.exact import top_k

        positions, scores = top_k(encoder.queries([query]), vectors, min(TOP, len(ids)))
        return [(ids[position], float(score)) for position, score in zip(positions[0], scores[0], strict=True)]


def _plan(evaluate: Manifest, done: dict[str, Manifest]) -> Plan:
    from hone.stages import stage

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


def _cell(hit: Hit | None) -> str:
    return f"{hit.score:.3f} {escape(hit.title)} [dim]{escape(hit.doc_id)}[/]" if hit else ""


def _moved(rank: int, hit: Hit | None) -> str:
    if hit is None or hit.other_rank == rank:
        return ""
    if not hit.other_rank:
        return "[green]new[/]"
    change = hit.other_rank - rank
    return f"[green]▲ {change}[/]" if change > 0 else f"[red]▼ {-change}[/]"
