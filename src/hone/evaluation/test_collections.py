"""Queries with judgements: those of the corpus itself, other collections, and synthetic ones where there are none."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from hone import tables
from hone.config import CorpusSource, Settings
from hone.context import Job
from hone.core import extractive, query_text
from hone.core.text import dedup_key, flat
from hone.errors import UserError
from hone.evaluation.roles import JudgedBy, Role
from hone.evaluation.test_design import design
from hone.inputs import readers
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import Docs, TableReader, TableWriter
from hone.tables import Table

SYNTHETIC = "synthetic"
SYNTHETIC_STYLE = "search"
LAST = "last test"
"""The test queries of the run whose model was published last; no other set can be called so."""
OWN: dict[str, Role] = {"test": "domain", "dev": "dev", SYNTHETIC: "domain"}
ROWS_AT_ONCE = 4_096
LONG = 256
"""Characters of a document from which its text can be that of a query that goes on."""
MAX_CHARS = 2_048
"""Characters of a document that count, unless the settings say otherwise."""


class Collection(Settings):
    """Judged queries over documents of their own."""

    setting: ClassVar[str]
    """Where a user names them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What it is called in the report; not test, dev or synthetic, which are the corpus's own."""
    folder: CorpusSource
    """A folder with documents, queries and judgements: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv as BEIR has it,
    or as MS MARCO and Hugging Face lay them out."""
    split: str = "test"
    """Which of its judgements."""


class GuardSet(Collection):
    """A collection of another domain, on which training must not cost what the student knew."""

    setting = "distill.guards"


class JudgedSet(Collection):
    """Another test set: a BEIR folder with its own corpus."""

    setting = "evaluate.tests"

    role: Literal["domain", "guard"] = "guard"
    """domain: the model must gain here too. guard: it must not degrade here."""
    judged_by: JudgedBy = "people"
    """Who judged it. What a model judged is named so everywhere, and is not proof where the policy asks for people."""


@dataclass(frozen=True)
class Judged:
    """Queries over one corpus, by position: ids, texts, the set each belongs to, and doc_id to relevance."""

    docs: Docs
    roles: Mapping[str, Role]
    """Set to its role."""
    ids: list[str]
    texts: list[str]
    sets: list[str]
    judgements: list[dict[str, int]]
    own: bool = True
    """Whether the documents are those of the corpus that the model was trained for."""
    judged_by: JudgedBy = "people"

    itself: frozenset[str] = frozenset()
    """Queries, by id, that are documents themselves (as in ArguAna), which do not answer themselves."""

    def of(self, name: str) -> list[int]:
        """Positions of the queries of one set."""
        return [at for at, own in enumerate(self.sets) if own == name]


C = TypeVar("C", bound=Collection)
SameIds = Literal["same text", "leave out", "keep"]
"""What becomes of a document that has the id of the query."""


def read_judged(
    job: Job,
    others: tuple[JudgedSet, ...],
    seed: int,
    same_ids: SameIds = "same text",
    judged_by: JudgedBy = "people",
) -> Iterator[Judged]:
    """The corpus's own judged queries, or synthetic ones where there are none, then the other test sets.

    Raises UserError naming what a test set lacks.
    """
    own = _own(job.table("docs"), *_judged_now(job))
    own = own if own.ids else _synthetic(job, seed)
    if own.ids:
        yield replace(themselves(own, same_ids), judged_by=judged_by)
    for other in distinct(others):
        collection = themselves(read_collection(other, other.role, job), same_ids)
        yield replace(collection, judged_by=other.judged_by)


def themselves(judged: Judged, same_ids: SameIds = "same text") -> Judged:
    """With the queries noted that are documents themselves: of the same id and, unless that is enough, of the same text
    and not judged relevant."""
    wanted = {query_id: at for at, query_id in enumerate(judged.ids)}
    if same_ids == "keep" or not wanted:
        return judged
    answers: set[str] = set()
    for batch in judged.docs.batches(["doc_id", "title", "text"]):
        for doc_id, title, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            at = wanted.get(doc_id, -1)
            if at >= 0 and (same_ids == "leave out" or _is_itself(judged, at, title, text)):
                answers.add(doc_id)
    return replace(judged, itself=frozenset(answers))


def _is_itself(judged: Judged, at: int, title: str, text: str) -> bool:
    """A long document may have been cut, where the query was not."""
    if judged.judgements[at].get(judged.ids[at], 0) > 0:
        return False
    asked, body = dedup_key(judged.texts[at]), dedup_key(text)
    whole = dedup_key(f"{title} {text}")
    return asked in (body, whole) or (len(text) >= LONG and bool(body) and asked.startswith((body, whole)))


def distinct(collections: Sequence[C]) -> Sequence[C]:
    """Collections that have a name each. Raises UserError on one that is taken."""
    names = [collection.name for collection in collections]
    for one in collections:
        if names.count(one.name) > 1 or one.name in OWN:
            raise UserError(f"{one.setting}: the name {one.name!r} is taken; give every set its own")
    return collections


def _judged_now(job: Job) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return job.table("judged_queries").read().to_pylist(), job.table("qrels").read().to_pylist()


def _own(docs: Docs, queries: list[dict[str, Any]], qrels: list[dict[str, Any]]) -> Judged:
    """In table order; a query without any judgement measures nothing and is left out."""
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    for row in qrels:
        judgements[row["query_id"]][row["doc_id"]] = row["relevance"]
    rows = [row for row in queries if row["query_id"] in judgements]
    ids, texts, splits = ([row[name] for row in rows] for name in ("query_id", "text", "split"))
    roles: dict[str, Role] = {name: OWN[name] for name in ("test", "dev") if name in splits}
    return Judged(docs, roles, ids, texts, splits, [judgements[query_id] for query_id in ids])


def last_tests(job: Job, prefix: str, same_ids: SameIds = "same text") -> Iterator[Judged]:
    """The test queries of an earlier run, by the prefix of its result of prepare, over the documents of this one: what
    must not be forgotten. None where they are the same as now, are gone, or none of their answers is left."""
    last = load_manifest(job.store, f"{prefix}/manifest.json") if prefix else None
    if last is None:
        return
    rows = {name: _rows_of(last, name, job) for name in ("judged_queries", "qrels")}
    before, now = _own(job.table("docs"), *rows.values()), _own(job.table("docs"), *_judged_now(job))
    there = {doc_id for batch in before.docs.batches(["doc_id"]) for doc_id in batch[0].to_pylist()}
    chosen = [at for at in before.of("test") if any(grade and d in there for d, grade in before.judgements[at].items())]
    if not chosen or _asked(before, before.of("test")) == _asked(now, now.of("test")):
        return
    ids, texts = ([column[at] for at in chosen] for column in (before.ids, before.texts))
    judged = [before.judgements[at] for at in chosen]
    yield themselves(Judged(before.docs, {LAST: "last"}, ids, texts, [LAST] * len(ids), judged, own=False), same_ids)


def _asked(judged: Judged, places: Sequence[int]) -> dict[str, tuple[str, dict[str, int]]]:
    return {judged.ids[at]: (judged.texts[at], judged.judgements[at]) for at in places}


def _rows_of(manifest: Manifest, name: str, job: Job) -> list[dict[str, Any]]:
    table = cast(Table, tables.OUTPUTS[name])
    return TableReader(table, manifest.outputs[name], manifest.prefix, job.store, job.scratch).read().to_pylist()


def _synthetic(job: Job, seed: int) -> Judged:
    """A search-like query cut from each document that training never saw, with that document as its answer."""
    ids: list[str] = []
    texts: list[str] = []
    for batch in job.table("docs").batches(["doc_id", "title", "text", "held_out"]):
        for row in batch.to_pylist():
            words, doc_id = (row["title"], row["text"]), row["doc_id"]
            text = extractive.draw(SYNTHETIC_STYLE, *words, seed=seed, doc_id=doc_id, number=0)
            if row["held_out"] and text:
                ids.append(doc_id)
                texts.append(text)
    roles: dict[str, Role] = {SYNTHETIC: "domain"} if ids else {}
    names = [f"{SYNTHETIC}:{doc_id}" for doc_id in ids]
    return Judged(job.table("docs"), roles, names, texts, [SYNTHETIC] * len(ids), [{doc_id: 1} for doc_id in ids])


@dataclass(frozen=True)
class Answered:
    """The judged queries of a collection, by id."""

    layout: readers.Layout
    texts: dict[str, str]
    judgements: dict[str, dict[str, int]]
    """doc_id to relevance."""
    absent: int = 0
    """Queries that have judgements and are not there."""

    @property
    def relevant_texts(self) -> Iterator[str]:
        """The body of each document that is judged relevant."""
        wanted = {
            doc_id for grades in self.judgements.values() for doc_id, relevance in grades.items() if relevance > 0
        }
        yield from (text for doc_id, _, text in _documents(self.layout) if doc_id in wanted)


def _documents(layout: readers.Layout) -> Iterator[tuple[str, str, str]]:
    """Id, title and text of every document of a collection."""
    fields = readers.usual_fields(layout)
    for where, row in readers.Corpus(layout, fields).documents():
        doc_id, title, text = readers.document(where, row, fields)
        yield doc_id, flat(title), flat(text)


def answered(layout: readers.Layout, split: str, where: str = "") -> Answered:
    """A collection without its documents. Judgements of queries that are not there are left out. Raises UserError
    saying what it lacks, and `where` it is set."""
    files, here = layout.qrels.get(split, ()), f"{where}{layout.root}"
    if not files:
        there = ", ".join(layout.qrels) or "none"
        raise UserError(f"{here} holds no judgements called {split!r}, but {there}; correct folder or split")
    if not layout.queries:
        raise UserError(f"{here} holds no queries, such as queries.jsonl; correct folder")
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    for file in files:
        for _, query_id, doc_id, relevance in readers.qrels(file):
            judgements[query_id][doc_id] = relevance
    texts = {query_id: text for _, query_id, text in readers.queries(layout.queries) if text and query_id in judgements}
    if not texts:
        fault = f"unknown query {next(iter(judgements))!r}, as all others" if judgements else "no judgements"
        raise UserError(f"{where}{files[0]}: {fault}; correct the queries or the judgements")
    judged = {query_id: judgements[query_id] for query_id in texts}
    return Answered(layout, texts, judged, absent=len(judgements) - len(texts))


def read_set(wanted: Collection, job: Job) -> Answered:
    """A collection without its documents. Raises UserError naming what it lacks."""
    layout = readers.layout(job.source(wanted.folder))
    found = answered(layout, wanted.split, f"{wanted.setting}: {wanted.name}: ")
    if found.absent:
        job.facts[f"absent of {wanted.name}"] = {"queries": found.absent}
    return found


def test_queries(job: Job, others: Iterable[Collection]) -> Set[str]:
    """The dedup_key texts of the queries of all test sets and guard sets, none of which may be trained with.

    Raises UserError.
    """
    asked = (text for other in others for text in read_set(other, job).texts.values())
    return asked_own(job) | {query_text.comparable(text) for text in asked}


def asked_own(job: Job, of: str = "") -> Set[str]:
    """The same of the corpus's own test queries: of this run's, or those `of` another run that a stage reads."""
    rows = job.table(f"{of}judged_queries").read(["text", "split"]).to_pylist()
    return {query_text.comparable(row["text"]) for row in rows if row["split"] == "test"}


def relevant_own(job: Job, of: str = "") -> Set[str]:
    """The documents judged relevant for a test query of the corpus's own; none where these are so many that only the
    queries can be kept out of training. `of` as in `asked_own`."""
    queries = job.table(f"{of}judged_queries").read(["query_id", "split"]).to_pylist()
    tested = {row["query_id"] for row in queries if row["split"] == "test"}
    qrels = job.table(f"{of}qrels").read().to_pylist()
    judged = {row["doc_id"] for row in qrels if row["query_id"] in tested and row["relevance"] > 0}
    docs = job.table(f"{of}docs")
    there = {doc_id for batch in docs.batches(["doc_id"]) for doc_id in batch[0].to_pylist() if doc_id in judged}
    return judged if design(docs.rows, len(there)) == "documents" else set()


@dataclass(frozen=True)
class Tested:
    """Queries, as `asked_own` gives them, and documents that are kept out of training."""

    queries: Set[str] = frozenset()
    docs: Set[str] = frozenset()

    def shown(self, text: str, doc_ids: Iterable[str]) -> bool:
        """Whether a query or one of these documents is among them."""
        asked = bool(self.queries) and query_text.comparable(text) in self.queries
        return asked or not self.docs.isdisjoint(doc_ids)


def elsewhere_tested(job: Job, domains: Set[str]) -> dict[str, Tested]:
    """For each domain the test queries of all others, and its documents with the text of one that is relevant for them:
    domains of one enterprise have documents in common, and a student of several is tested on each."""
    asked = {name: asked_own(job, f"{name}/") for name in domains}
    relevant = {name: {*_dedup_keys(job, name, relevant_own(job, f"{name}/"))} - {""} for name in domains}

    def tested(domain: str) -> Tested:
        others = [other for other in domains if other != domain]
        texts = {text for other in others for text in relevant[other]}
        docs = _rows_with_text(job, domain) if texts else ()
        queries = {query for other in others for query in asked[other]}
        return Tested(queries, {doc_id for doc_id, text in docs if dedup_key(text) in texts})

    return {name: tested(name) for name in domains}


def _dedup_keys(job: Job, domain: str, wanted: Set[str]) -> Iterator[str]:
    yield from (dedup_key(text) for doc_id, text in _rows_with_text(job, domain) if doc_id in wanted)


def _rows_with_text(job: Job, domain: str) -> Iterator[tuple[str, str]]:
    """Id and text of every document of a domain."""
    for batch in job.table(f"{domain}/docs").batches(["doc_id", "text"]):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def relevant_elsewhere(others: Iterable[Collection], job: Job, max_chars: int) -> Set[str]:
    """The texts of the documents that are judged relevant in these collections, cut as the corpus's are and as
    deduplication compares them. Raises UserError."""
    texts = (text for other in others for text in read_set(other, job).relevant_texts)
    return {dedup_key(text[:max_chars]) for text in texts} - {""}


def read_collection(wanted: Collection, role: Role, job: Job) -> Judged:
    """A collection with its documents. Raises UserError naming what it lacks."""
    return with_documents(read_set(wanted, job), wanted.name, role, job.scratch / f"test-set-{wanted.name}")


def with_documents(found: Answered, name: str, role: Role, folder: Path) -> Judged:
    """A collection with its documents, which are put in a `folder` that is not there yet."""
    docs, ids = _ScratchDocs(found.layout, folder), list(found.texts)
    judgements = [found.judgements[query_id] for query_id in ids]
    return Judged(docs, {name: role}, ids, list(found.texts.values()), [name] * len(ids), judgements, own=False)


class _ScratchDocs:
    """The documents of a collection, as the table docs, on local disk."""

    def __init__(self, layout: readers.Layout, folder: Path) -> None:
        folder.mkdir(parents=True)
        writer = TableWriter(tables.DOCS, folder, 0)
        documents = _documents(layout)
        while some := list(islice(documents, ROWS_AT_ONCE)):
            writer.write(tables.DOCS.of(*zip(*some, strict=True), [False] * len(some)))
        writer.close()
        self.parts = sorted(folder.glob("*.parquet"))
        self.rows = sum(pq.read_metadata(part).num_rows for part in self.parts)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        for part in self.parts:
            with pq.ParquetFile(part) as file:
                yield from file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns)
