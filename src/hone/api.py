"""The Python API: what the commands do, as functions, with results to work on.

    import hone
    done = hone.run("docs.yaml", store="hone-store")
    print(done.verdict, done.metrics.to_pandas())
    model = done.model()                       # a SentenceTransformer

`import hone` alone imports nothing heavy. Tables are Arrow tables: `.to_pandas()`, or `polars.from_arrow(...)`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hone import settings as settings_file
from hone.backends import named_extras, require
from hone.backends import search as search_backends
from hone.backends.encoders.families import doc_text
from hone.core.forecast import Forecast
from hone.engine import record, runner
from hone.engine.forecast import forecast
from hone.errors import UserError
from hone.evaluation.metrics import MEASURES, effectiveness
from hone.evaluation.rankings import answer
from hone.evaluation.test_collections import answered, themselves, with_documents
from hone.inputs import readers
from hone.inputs.model_folder import copy_declared
from hone.inputs.references import local_path
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.serving.search import Hit, top_tens
from hone.serving.tables import Tables, drawn
from hone.stages import STAGES
from hone.storage.addresses import open_store
from hone.storage.base import Store

DEFAULT_STORE = "hone-store"
DEPTH = 100
METRICS = pa.schema(
    [
        ("set", pa.string()), ("measure", pa.string()), ("queries", pa.int64()), ("base", pa.float64()),
        ("tuned", pa.float64()), ("delta", pa.float64()), ("low", pa.float64()), ("high", pa.float64()),
        ("p_value", pa.float64()), ("p_holm", pa.float64()),
    ]
)  # fmt: skip
"""`low` and `high` bound the 95% interval of `delta`."""


class Run:
    """A run in a store, as far as it came."""

    def __init__(self, name: str, store: Store, done: Mapping[str, Manifest]) -> None:
        self.name, self.store, self.done = name, store, dict(done)
        self._scratch = tempfile.TemporaryDirectory(prefix="hone-")

    @property
    def verdict(self) -> str:
        """promote, hold or reject; empty if the run has not come so far."""
        return str(self.done["gate"].facts["verdict"]) if "gate" in self.done else ""

    @property
    def reasons(self) -> list[str]:
        """What kept the model from being promoted."""
        return [str(reason) for reason in self.done["gate"].facts["reasons"]] if "gate" in self.done else []

    @cached_property
    def metrics(self) -> pa.Table:
        """Every measure of every test set, before and after: the columns of `METRICS`. Raises UserError."""
        sets = json.loads((self._folder("evaluate", "findings") / "metrics.json").read_text("utf-8"))["sets"]
        rows = [
            {"set": name, "measure": measure, "queries": facts["queries"], **_figures(values)}
            for name, facts in sets.items()
            for measure, values in facts["measures"].items()
        ]
        return pa.Table.from_pylist(rows, schema=METRICS)

    def table(self, name: str) -> pa.Table:
        """A whole table of the run, such as docs, runs or measures. Raises UserError if there is none."""
        return self._tables().open(name).read()

    def queries(self, *, style: str = "", sample: int = 0) -> pa.Table:
        """The queries that were made, all or of one style, or so many of them drawn at random."""
        return self._rows("queries", style, sample)

    def lists(self, *, style: str = "", sample: int = 0) -> pa.Table:
        """The training lists: a query, its documents, the teacher's scores."""
        return self._rows("lists", style, sample)

    def model(self) -> Any:
        """The tuned model, a `sentence_transformers.SentenceTransformer`. Raises UserError."""
        require("sentence_transformers")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self.model_folder))

    @property
    def model_folder(self) -> Path:
        """Where the tuned model lies, or a copy of it here if the store is elsewhere."""
        return self._folder("distill", "model")

    def save_model(self, folder: str | Path) -> Path:
        """Writes the tuned model to a new folder, with the card that says what was found if it was measured.

        Raises UserError, also if there is such a folder.
        """
        target = Path(folder)
        if target.exists():
            raise UserError(f"{target} exists already; name a new folder")
        copy_declared(self.model_folder, target)
        if "report" in self.done:
            shutil.copyfile(self._folder("report", "card") / "README.md", target / "README.md")
        return target

    @property
    def report(self) -> Path:
        """report.html, with the verdict on top. Raises UserError."""
        return self._folder("report", "report") / "report.html"

    def search(self, query: str) -> tuple[list[Hit], list[Hit]]:
        """The ten best documents of the base and of the tuned model."""
        return search(self, query)

    def _rows(self, name: str, style: str, sample: int) -> pa.Table:
        rows = self._tables().rows(name, {"style": style} if style else {})
        return drawn(rows, sample) if sample else pa.Table.from_batches(rows)

    def _tables(self) -> Tables:
        return Tables(self.store, self.done, Path(self._scratch.name))

    def _folder(self, stage: str, name: str) -> Path:
        if stage not in self.done:
            raise UserError(f"run {self.name!r} has not come to {stage} yet; hone.run its settings first")
        return fetch_folder(self.store, self.done[stage], name, Path(self._scratch.name))

    def __repr__(self) -> str:
        return f"<hone.Run {self.name}: {self.verdict or f'{len(self.done)} of {len(STAGES)} stages'}>"

    def _repr_html_(self) -> str:
        """In a notebook: the finding, the figures and where the report is."""
        from html import escape

        finding = str(self.done["evaluate"].facts.get("finding", "")) if "evaluate" in self.done else "not measured yet"
        place = f'<p><a href="{escape(self.report.resolve().as_uri())}">report</a></p>' if "report" in self.done else ""
        return f"<p><b>{escape(self.verdict or 'no verdict yet')}</b>: {escape(finding)}</p>{place}"


@dataclass(frozen=True)
class Measured:
    """How well a model does on a test collection."""

    means: dict[str, float]
    """Measure to its mean over the queries."""
    values: pa.Table
    """query_id, and a column for each measure."""


def run(
    settings: str | Path | Mapping[str, Any],
    store: str = "",
    *,
    until: str = STAGES[-1],
    changes: Sequence[str] = (),
) -> Run:
    """Runs the chain of a settings file (or of settings as a mapping), and returns the run.

    `store` is a folder or s3://bucket/prefix; without one HONE_STORE, the settings and `hone-store` are asked in turn.
    `changes` are single settings, such as `mine.top_k=50`. What is done already is not done again. Raises UserError.
    """
    checked = _checked(settings, changes)
    place = _store(store, checked)
    require("torch")
    with named_extras():
        return Run(checked.name, place, runner.run(checked, place, last=until))


def load(name: str, store: str = "") -> Run:
    """A run that is in a store already. Raises UserError if there is none of that name."""
    place = _store(store)
    return Run(name, place, record.results(place, name))


def plan(
    settings: str | Path | Mapping[str, Any],
    store: str = "",
    *,
    device: str = "cpu",
    price: float = 0.0,
    changes: Sequence[str] = (),
) -> Forecast:
    """What a run would take, stage by stage; runs and writes nothing. `price` is that of an hour. Raises UserError."""
    checked = _checked(settings, changes)
    with scratch_folder() as scratch, named_extras():
        return forecast(checked, _store(store, checked), device, price, scratch)


def search(run: str | Run, query: str, store: str = "") -> tuple[list[Hit], list[Hit]]:
    """The ten best documents of the base and of the tuned model of a run. Raises UserError."""
    loaded = load(run, store) if isinstance(run, str) else run
    with named_extras():
        return top_tens(loaded.store, loaded.name, query)


def evaluate(model: Any, collection: str | Path, split: str = "test") -> Measured:
    """Measures a SentenceTransformer, or one by its folder, on a collection, as a run measures its models.

    `collection` is a folder, `s3://bucket/prefix` or `hf://datasets/OWNER/NAME` with documents, queries and judgements,
    as `evaluate.tests` takes them. A document is "title text", vectors are compared by cosine. Raises UserError.
    """
    require("sentence_transformers")
    with scratch_folder() as scratch:
        found = answered(readers.layout(local_path(str(collection), scratch)), split)
        judged = themselves(with_documents(found, split, "domain", scratch / "docs"))
        docs = {
            row["doc_id"]: doc_text(row["title"], row["text"])
            for batch in judged.docs.batches(["doc_id", "title", "text"])
            for row in batch.to_pylist()
        }
    retrieved = _retrieved(model, judged.texts, docs)
    runs = [answer(judged, at, *hits, DEPTH).doc_ids for at, hits in enumerate(retrieved)]
    values = effectiveness(runs, judged.judgements)
    table = pa.table({"query_id": judged.ids, **{name: values[name] for name in MEASURES}})
    return Measured({name: float(np.mean(values[name])) for name in MEASURES}, table)


def _retrieved(model: Any, queries: list[str], docs: Mapping[str, str]) -> list[tuple[list[str], list[float]]]:
    """The ids and scores of each query's nearest documents."""
    from sentence_transformers import SentenceTransformer

    encoder: Any = SentenceTransformer(str(model)) if isinstance(model, (str, Path)) else model
    how: dict[str, Any] = {"convert_to_numpy": True, "normalize_embeddings": True, "show_progress_bar": False}
    asked = np.asarray(encoder.encode_query(queries, **how), dtype=np.float32)
    stored = np.asarray(encoder.encode_document([*docs.values()], **how), dtype=np.float32)
    positions, scores = search_backends.top_k(asked, stored, DEPTH + 1)
    names = [*docs]
    return [([names[at] for at in row], values.tolist()) for row, values in zip(positions, scores, strict=True)]


def _figures(values: Mapping[str, Any]) -> dict[str, float]:
    low, high = values["ci95"]
    return {
        **{name: values[name] for name in ("base", "tuned", "delta", "p_value", "p_holm")},
        "low": low,
        "high": high,
    }


def _checked(settings: str | Path | Mapping[str, Any], changes: Sequence[str]) -> settings_file.RunSettings:
    if isinstance(settings, (str, Path)):
        return settings_file.load(Path(settings), changes)
    data = settings_file.overlay(dict(settings), settings_file.parse_changes(changes))
    return settings_file.check(data, "settings", Path.cwd())


def _store(uri: str, settings: settings_file.RunSettings | None = None) -> Store:
    return open_store(uri or os.environ.get("HONE_STORE") or (settings.store if settings else "") or DEFAULT_STORE)
