"""READ FIRST: every table and folder that passes between stages.

Tables describe the world, never the schedule of whoever reads them: keys are ids, and nothing here depends on a batch
size or a number of shards. On disk a table is a list of Parquet parts named by a manifest (see `manifest.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

IDS = pa.list_(pa.string())
SCORES = pa.list_(pa.float32())


@dataclass(frozen=True)
class Column:
    name: str
    type: pa.DataType
    meaning: str


@dataclass(frozen=True)
class Table:
    """A table: what one row is, the columns that identify it, and all its columns."""

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([pa.field(column.name, column.type, nullable=False) for column in self.columns])

    def build(self, rows: Iterable[Mapping[str, object]]) -> pa.Table:
        """Rows as dictionaries to a table of this schema. For small tables; large ones are built by column."""
        return pa.Table.from_pylist(list(rows), schema=self.schema)

    def of(self, *columns: Sequence[object] | pa.Array) -> pa.Table:
        """Columns, in the order declared here, to a table of this schema."""
        arrays = [pa.array(values, type=column.type) for values, column in zip(columns, self.columns, strict=True)]
        return pa.Table.from_arrays(arrays, schema=self.schema)


@dataclass(frozen=True)
class Folder:
    """Files that belong together, such as a model."""

    name: str
    meaning: str


def _dropped_by(stage: str) -> Table:
    return Table(
        f"dropped_by_{stage}",
        f"something that {stage} left out, with its reason",
        ("id", "reason"),
        (
            Column("id", pa.string(), "doc_id or query_id of what was dropped"),
            Column("stage", pa.string(), "the stage that dropped it"),
            Column("reason", pa.string(), "a short fixed phrase, the same for all rows dropped by one rule"),
            Column("detail", pa.string(), "what in particular: the other id, the measured value, the limit"),
        ),
    )


DOCS = Table(
    "docs",
    "a document of the corpus that is searched",
    ("doc_id",),
    (
        Column("doc_id", pa.string(), "the corpus's own id, or file#chunk for chunked text files"),
        Column("title", pa.string(), "title, empty if the corpus has none"),
        Column("text", pa.string(), "body with whitespace flattened, at most `prepare.max_chars` characters"),
        Column("held_out", pa.bool_(), "judged for a test query: neither asked about nor listed in training"),
    ),
)
JUDGED_QUERIES = Table(
    "judged_queries",
    "a query with human judgements, used only to measure",
    ("query_id",),
    (
        Column("query_id", pa.string(), "the test collection's id"),
        Column("text", pa.string(), "the query as typed"),
        Column("split", pa.string(), "dev (to choose settings and qualify the teacher) or test (to report)"),
    ),
)
QRELS = Table(
    "qrels",
    "one human judgement",
    ("query_id", "doc_id"),
    (
        Column("query_id", pa.string(), "a query of judged_queries, or of another test set"),
        Column("doc_id", pa.string(), "the judged document"),
        Column("relevance", pa.int32(), "0 is not relevant; higher is better"),
    ),
)
QUERIES = Table(
    "queries",
    "a query to train with, without human judgement",
    ("query_id",),
    (
        Column("query_id", pa.string(), "stable: a hash of source, style, document and text"),
        Column("text", pa.string(), "the query"),
        Column("doc_id", pa.string(), "the document it was made from; empty for queries from a log"),
        Column("source", pa.string(), "what made it: log, extractive or an LLM backend"),
        Column("style", pa.string(), "the kind of query: question, title, search, span, log ..."),
    ),
)
CANDIDATES = Table(
    "candidates",
    "a training query with the documents it must be distinguished from, best first",
    ("query_id",),
    (
        Column("query_id", pa.string(), "a query of queries"),
        Column("doc_ids", IDS, "retrieved documents, best first, held-out ones removed"),
        Column("scores", SCORES, "the miner's score of each (cosine, or reciprocal-rank sum when fused)"),
        Column("likely", IDS, "retrieved documents left out as likely answers, by rank window or margin"),
    ),
)
TEACHER_SCORES = Table(
    "teacher_scores",
    "a training query with the teacher's raw opinion of its candidates, best first",
    ("query_id",),
    (
        Column("query_id", pa.string(), "a query of queries"),
        Column("doc_ids", IDS, "scored documents, best first, ties by doc_id"),
        Column("scores", SCORES, "raw teacher score of each (a logit for cross-encoders)"),
    ),
)
LISTS = Table(
    "lists",
    "one training example: a query and its documents with the teacher's normalised scores",
    ("query_id",),
    (
        Column("query_id", pa.string(), "a query of queries"),
        Column("text", pa.string(), "the query"),
        Column("style", pa.string(), "its style"),
        Column("doc_id", pa.string(), "the document it was made from, never its negative; empty for a query of a log"),
        Column("split", pa.string(), "train or dev, by source document"),
        Column("doc_ids", IDS, "the listed documents, teacher's best first; the first is the positive"),
        Column("scores", SCORES, "teacher scores normalised to [0, 1], or raw ones less the query's least"),
        Column("likely", IDS, "documents that mine or curate left out as likely answers, never its negatives"),
    ),
)
RUNS = Table(
    "runs",
    "what one system retrieved for one judged query",
    ("set", "system", "query_id"),
    (
        Column(
            "set", pa.string(), "the test set: test, dev or synthetic of the corpus itself, else the name of another"
        ),
        Column("system", pa.string(), "base, tuned, bm25, base+bm25, tuned+bm25 or teacher"),
        Column("query_id", pa.string(), "a query of judged_queries, or of another test set"),
        Column("doc_ids", IDS, "best first, ties by doc_id"),
        Column("scores", SCORES, "the system's scores"),
    ),
)
MEASURES = Table(
    "measures",
    "the effectiveness of one system on one judged query",
    ("set", "system", "query_id", "measure"),
    (
        Column("set", pa.string(), "the test set, as in runs"),
        Column("system", pa.string(), "as in runs"),
        Column("query_id", pa.string(), "a query of judged_queries, or of another test set"),
        Column("measure", pa.string(), "nDCG@10, Recall@100, MRR@10 or MAP@100"),
        Column("value", pa.float64(), "as trec_eval computes it, in [0, 1]"),
    ),
)
DROPPED_BY_PREPARE = _dropped_by("prepare")
DROPPED_BY_GENERATE = _dropped_by("generate")
DROPPED_BY_MINE = _dropped_by("mine")
DROPPED_BY_SCORE = _dropped_by("score")
DROPPED_BY_CURATE = _dropped_by("curate")

MODEL = Folder("model", "the tuned student, in sentence-transformers format, with training.json (its curves)")
START = Folder("start", "start.json: the published model that training started from, if it did")
QUALIFICATION = Folder(
    "qualification",
    "qualification.json: whether the teacher beat the student, the mix that dev queries chose, early exit",
)
FINDINGS = Folder(
    "findings",
    "metrics.json for programs; findings.json, all that the report says; the report as it is before the verdict",
)
VERDICT = Folder("verdict", "verdict.json: promote, hold or reject, by criterion")
REPORT = Folder("report", "report.html and report.md: the verdict, and everything that was found")
CARD = Folder("card", "README.md: the card of the model")
PUBLISHED = Folder("published", "published.json: the version of the registry that holds the model")
VECTORS = Folder("vectors", "vectors.json: where the vectors of the published model's corpus lie")

OUTPUTS: dict[str, Table | Folder] = {
    output.name: output
    for output in (
        DOCS, JUDGED_QUERIES, QRELS, QUERIES, CANDIDATES, TEACHER_SCORES, LISTS, RUNS, MEASURES,
        DROPPED_BY_PREPARE, DROPPED_BY_GENERATE, DROPPED_BY_MINE, DROPPED_BY_SCORE, DROPPED_BY_CURATE,
        QUALIFICATION, MODEL, START, FINDINGS, VERDICT, REPORT, CARD, PUBLISHED, VECTORS,
    )
}  # fmt: skip


def dropped(stage: str, rows: Iterable[tuple[str, str, str]]) -> pa.Table:
    """Rows of the table dropped_by_STAGE, each from what was dropped (its id), the reason and the detail."""
    listed = list(rows)
    ids, reasons, details = zip(*listed, strict=True) if listed else ((), (), ())
    return cast(Table, OUTPUTS[f"dropped_by_{stage}"]).of(ids, [stage] * len(listed), reasons, details)


RETIRED = frozenset({"full_report"})
"""Folders that older versions wrote and this one no longer does."""
PEOPLE = ("log", "human")
"""Sources whose queries people asked."""
