"""prepare: reads a corpus and its judgements, cleans and deduplicates, and says what it dropped."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from hone import readers, tables
from hone.core import text as texts
from hone.core.text import Chunking
from hone.errors import UserError
from hone.progress import task
from hone.sources import Source
from hone.stage import Job, StageConfig

IMAGE = "cpu"
READS = ()
WRITES = ("docs", "judged_queries", "qrels", "dropped_by_prepare")
LONGEST_ID = 512
ROWS_AT_ONCE = 4_096


class Config(StageConfig):
    """Settings of prepare."""

    corpus: Source
    """A BEIR folder, a .jsonl, .csv, .tsv or .parquet file or a folder of them, or a folder of .md and .txt files."""
    format: readers.Format = "auto"
    """How the corpus is written: beir, jsonl, csv, tsv, parquet or text; auto finds out."""
    id_field: str = "_id"
    """The field that holds the document's id."""
    title_field: str = "title"
    """The field that holds its title; a corpus may have none."""
    text_field: str = "text"
    """The field that holds its text."""
    dev_split: str = "dev"
    """Name of the judgements (qrels/NAME.tsv) that choose and qualify; empty for none."""
    test_split: str = "test"
    """Name of the judgements that are reported; empty for none."""
    max_chars: int = 2048
    """Texts are cut to this many characters."""
    chunk_words: int = 200
    """Text files are cut into chunks of at most this many words."""
    overlap_words: int = 40
    """Words that a chunk shares with the one before."""
    deduplicate: bool = True
    """Drop a text that another contains, compared with near neighbours in sorted order; judged documents stay."""
    dedupe_window: int = 10
    """How many neighbours a text is compared with."""
    exclude_judged: bool = True
    """Documents judged relevant for a test query are neither asked about nor listed in training."""


def run(config: Config, job: Job) -> None:
    """Reads everything once into a scratch database, which keeps memory bounded, then writes the tables from it."""
    corpus = job.source(config.corpus)
    with closing(sqlite3.connect(job.scratch / "docs.sqlite")) as database:
        database.execute("create table docs (id text primary key, place text, title text, text text, norm text)")
        _read(config, corpus, database)
        judged = _judgements(config, corpus, database, job)
        kept = {doc_id for doc_id, relevance in judged["test"].items() if relevance > 0}
        lost = dict(_duplicates(config, database, protected=set().union(*judged.values())))
        _write_docs(job, database, lost, kept if config.exclude_judged else set())


def _read(config: Config, corpus: Path, database: sqlite3.Connection) -> None:
    total = 0
    with task("prepare: read", 0, "docs") as progress:
        for where, row in _documents(config, corpus):
            doc_id, title, text = _checked(config, where, row)
            cut = texts.flat(text)[: config.max_chars]
            try:
                values = (doc_id, where, title, cut, texts.normalised(cut))
                database.execute("insert into docs values (?, ?, ?, ?, ?)", values)
            except sqlite3.IntegrityError:
                first = database.execute("select place from docs where id = ?", (doc_id,)).fetchone()[0]
                used = f"{where}: id {doc_id!r} was used before ({first})"
                raise UserError(f"{used}; give every document its own") from None
            total += 1
            progress.advance()
    if not total:
        raise UserError(f"{corpus} holds no documents; nothing can be learned from an empty corpus")
    if not database.execute("select 1 from docs where text != '' limit 1").fetchone():
        empty = f"{corpus}: field {config.text_field!r} is empty in all {total} documents"
        raise UserError(f"{empty}; set prepare.text_field")


def _documents(config: Config, corpus: Path) -> Iterator[readers.Row]:
    format, files = readers.corpus_files(corpus, config.format)
    chunking = Chunking(config.chunk_words, config.overlap_words, config.max_chars)
    return readers.documents(corpus, format, files, chunking)


def _checked(config: Config, where: str, row: dict[str, Any]) -> tuple[str, str, str]:
    for field, setting in ((config.id_field, "id_field"), (config.text_field, "text_field")):
        if field not in row:
            have = ", ".join(map(str, row)) or "none"
            raise UserError(f"{where}: no field {field!r} (it has {have}); set prepare.{setting}")
    doc_id, text = row[config.id_field], row[config.text_field]
    doc_id = str(doc_id) if isinstance(doc_id, int) else doc_id
    if not isinstance(doc_id, str) or not doc_id or len(doc_id.encode()) > LONGEST_ID or not doc_id.isprintable():
        raise UserError(f"{where}: the id {str(doc_id)[:40]!r} is not 1 to {LONGEST_ID} bytes of printable text")
    if not isinstance(text, str | None):
        raise UserError(f"{where}: field {config.text_field!r} of {doc_id!r} is not text but {str(text)[:40]!r}")
    return doc_id, texts.flat(str(row.get(config.title_field) or "")), text or ""


def _duplicates(
    config: Config, database: sqlite3.Connection, protected: set[str]
) -> Iterator[tuple[str, tuple[str, str]]]:
    """doc_id to (reason, detail) of everything that is left out."""
    for doc_id, norm in database.execute("select id, norm from docs"):
        if not norm:
            yield doc_id, ("empty text", "")
        elif len(norm) < texts.SHORTEST and doc_id not in protected:
            yield doc_id, ("too short", norm)
    if not config.deduplicate:
        return
    database.create_function("reversed", 1, lambda text: text[::-1], deterministic=True)
    for expression in ("norm", "reversed(norm)"):
        ordered = database.execute(f"select {expression}, rowid from docs where norm != '' order by 1, 2")
        for lost, kept in texts.contained(ordered, config.dedupe_window):
            names = [database.execute("select id from docs where rowid = ?", (n,)).fetchone()[0] for n in (lost, kept)]
            if names[0] not in protected:
                yield names[0], ("contained in another document", names[1])


def _write_docs(job: Job, database: sqlite3.Connection, lost: dict[str, tuple[str, str]], held_out: set[str]) -> None:
    counts: Counter[str] = Counter()
    with job.writer("docs") as docs, job.writer("dropped_by_prepare") as dropped:
        cursor = database.execute("select id, title, text from docs order by rowid")
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            kept = [row for row in rows if row[0] not in lost]
            out = [(row[0], "prepare", *lost[row[0]]) for row in rows if row[0] in lost]
            if kept:
                ids, titles, bodies = zip(*kept, strict=True)
                docs.write(tables.DOCS.of(ids, titles, bodies, [doc_id in held_out for doc_id in ids]))
            if out:
                dropped.write(tables.DROPPED_BY_PREPARE.of(*zip(*out, strict=True)))
            counts.update({"docs": len(kept), "dropped": len(out)})
            counts["held_out"] += sum(row[0] in held_out for row in kept)
    job.facts.update(counts)
    if counts["held_out"] > counts["docs"] / 2:
        job.facts["warning"] = "more than half of the corpus is judged for test queries and left out of training"


def _judgements(config: Config, corpus: Path, database: sqlite3.Connection, job: Job) -> dict[str, dict[str, int]]:
    """Writes judged queries and qrels; returns the judged documents of dev and test with their highest relevance."""
    judged: dict[str, dict[str, int]] = {"dev": {}, "test": {}}
    splits = {"dev": config.dev_split, "test": config.test_split}
    if not (corpus / "qrels").is_dir():
        return judged
    rows = readers.rows(corpus / "queries.jsonl")
    queries = {str(row.get("_id")): texts.flat(str(row.get("text"))) for _, row in rows}
    with job.writer("judged_queries") as query_rows, job.writer("qrels") as qrel_rows:
        for split, name in splits.items():
            rows = _qrels(corpus, name, queries, database) if name else []
            seen = list(dict.fromkeys(query_id for query_id, _, _ in rows))
            query_rows.write(tables.JUDGED_QUERIES.of(seen, [queries[q] for q in seen], [split] * len(seen)))
            if rows:
                qrel_rows.write(tables.QRELS.of(*zip(*rows, strict=True)))
            for _, doc_id, relevance in rows:
                judged[split][doc_id] = max(relevance, judged[split].get(doc_id, 0))
            job.facts[f"{split}_queries"] = len(seen)
    return judged


def _qrels(
    corpus: Path, name: str, queries: dict[str, str], database: sqlite3.Connection
) -> list[tuple[str, str, int]]:
    path = corpus / "qrels" / f"{name}.tsv"
    if not path.is_file():
        there = sorted(file.stem for file in path.parent.glob("*.tsv"))
        if name in ("dev", "test"):
            return []
        raise UserError(f"{path} does not exist; the judgements there are {', '.join(there) or 'none'}")
    rows: list[tuple[str, str, int]] = []
    for where, query_id, doc_id, relevance in readers.qrels(path):
        if query_id not in queries:
            raise UserError(f"{where}: unknown query {query_id!r}; add it to queries.jsonl or remove the line")
        if not database.execute("select 1 from docs where id = ?", (doc_id,)).fetchone():
            raise UserError(f"{where}: unknown document {doc_id!r}; add it to the corpus or remove the line")
        rows.append((query_id, doc_id, relevance))
    return rows
