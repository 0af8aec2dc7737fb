"""prepare: reads a corpus and its judgements, cleans and deduplicates, and says what it dropped."""

import errno
import sqlite3
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import Field

from hone import tables
from hone.config import Source, StageConfig
from hone.context import Job
from hone.core import segmentation
from hone.core import text as texts
from hone.core.personal_data import masked
from hone.core.text import Chunking
from hone.errors import UserError
from hone.evaluation.test_collections import MAX_CHARS, GuardSet, JudgedSet, relevant_elsewhere
from hone.inputs import readers
from hone.inputs.references import declared_licence
from hone.progress import task

IMAGE = "cpu"
READS = ()
WRITES = ("docs", "judged_queries", "qrels", "dropped_by_prepare")
LONGEST_ID = 512
EXAMPLES_KEPT = 3
SAMPLED = 256
"""Documents of a block that are looked at for the scripts they are in."""
ROWS_AT_ONCE = 4_096
TABLES = """
create table docs (
    id text primary key, place text, title text, text text, norm text,
    judged integer default 0, held_out integer default 0
);
create table queries (id text primary key, place text, text text);
create table splits (query text primary key, split text);
create table elsewhere (norm text primary key);
create table lost (doc integer primary key, reason text, detail text);
"""


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
    max_chars: int = Field(MAX_CHARS, ge=1)
    """Texts are cut to this many characters."""
    chunk_words: int = Field(200, ge=1)
    """Text files are cut into chunks of at most this many words."""
    overlap_words: int = Field(40, ge=0)
    """Words that a chunk shares with the one before."""
    deduplicate: bool = True
    """Drop a text that another contains word by word, numbers and symbols included, if it has no title of its own;
    compared with near neighbours in sorted order; judged documents stay."""
    dedupe_letters_only: bool = False
    """Compare letters alone when looking for duplicates, without digits, punctuation, symbols and titles, as arXiv
    2502.19712 does: texts that differ in a number count as the same, and one of them stays."""
    min_chars: int = Field(1, ge=1)
    """Documents of fewer characters are dropped, title included, unless they are judged."""
    dedupe_window: int = Field(10, ge=1)
    """How many neighbours a text is compared with."""
    exclude_judged: bool = True
    """Documents judged relevant for a test query are neither asked about nor listed in training."""
    tests: tuple[JudgedSet, ...] = ()
    """Test sets beside the corpus's own: what is judged relevant there is left out too, by its text, whatever its id;
    those of evaluate.tests, unless set here."""
    guards: tuple[GuardSet, ...] = ()
    """The same of sets that choose how far training goes; those of distill.guards, unless set here."""
    synthetic_docs: int = Field(200, ge=0)
    """Without any judgements: documents that training never sees, at most a tenth of all, for a synthetic test set."""


def run(config: Config, job: Job) -> None:
    """Reads everything once into a scratch database, which keeps memory bounded, then writes the tables from it."""
    corpus = job.source(config.corpus)
    if licence := declared_licence(corpus):
        job.facts["licence"] = licence
    with _database(job.scratch / "corpus.sqlite") as database:
        _read(config, corpus, database)
        if (corpus / "qrels").is_dir():
            _judgements(config, corpus, database, job)
        if config.exclude_judged:
            _judged_elsewhere(config, database, job)
        _drop(config, database)
        _hold_out(config, database)
        _write_docs(job, database)


@contextmanager
def _database(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(f"pragma journal_mode = off; pragma synchronous = off; {TABLES}")
        database.create_function("reversed", 1, lambda text: text[::-1], deterministic=True)
        try:
            yield database
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            raise OSError(errno.ENOSPC, str(error), str(path)) from error


def _read(config: Config, corpus: Path, database: sqlite3.Connection) -> None:
    format, files = readers.corpus_files(corpus, config.format)
    fields = (config.id_field, config.title_field, config.text_field)
    chunking = Chunking(config.chunk_words, config.overlap_words, config.max_chars)
    key_of, total = _key(config), 0
    with task("prepare: read", readers.count_documents(format, files), "docs") as progress:
        for where, row in readers.documents(corpus, format, files, chunking, fields):
            doc_id, title, text = _checked(config, where, row)
            cut = texts.flat(text)[: config.max_chars]
            try:
                values = (doc_id, where, title, cut, key_of(cut))
                database.execute("insert into docs (id, place, title, text, norm) values (?, ?, ?, ?, ?)", values)
            except sqlite3.IntegrityError:
                raise _used_before(database, "docs", doc_id, where) from None
            total += 1
            progress.advance()
    if not total:
        raise UserError(f"{corpus} holds no documents; nothing can be learned from an empty corpus")
    if not database.execute("select 1 from docs where text != '' limit 1").fetchone():
        empty = f"{corpus}: field {config.text_field!r} is empty in all {total} documents"
        raise UserError(f"{empty}; set prepare.text_field")


def _checked(config: Config, where: str, row: dict[str, Any]) -> tuple[str, str, str]:
    for field, setting in ((config.id_field, "id_field"), (config.text_field, "text_field")):
        if field not in row:
            have = ", ".join(map(str, row)) or "none"
            raise UserError(f"{where}: no field {field!r} (it has {have}); set prepare.{setting}")
    doc_id, text = _checked_id(row[config.id_field], where), row[config.text_field]
    if not isinstance(text, str | None):
        fault = f"{where}: field {config.text_field!r} of {doc_id!r} is not text but {str(text)[:40]!r}"
        raise UserError(f"{fault}; write text there or set prepare.text_field")
    return doc_id, texts.flat(str(row.get(config.title_field) or "")), text or ""


def _checked_id(value: object, where: str) -> str:
    found = str(value) if isinstance(value, int) else value
    if not isinstance(found, str) or not found or not found.isprintable() or len(found.encode()) > LONGEST_ID:
        fault = f"{where}: the id {str(value)[:40]!r} is not 1 to {LONGEST_ID} bytes of printable text"
        raise UserError(f"{fault}; give every row an id of its own, of letters and digits")
    return found


def _used_before(database: sqlite3.Connection, table: str, row_id: str, where: str) -> UserError:
    first = database.execute(f"select place from {table} where id = ?", (row_id,)).fetchone()[0]
    return UserError(f"{where}: id {row_id!r} was used before ({first}); give every row its own")


def _judgements(config: Config, corpus: Path, database: sqlite3.Connection, job: Job) -> None:
    """Writes judged queries and qrels, and marks the judged documents."""
    _read_queries(corpus / "queries.jsonl", database)
    with job.writer("judged_queries") as queries, job.writer("qrels") as qrels:
        for split, name in (("dev", config.dev_split), ("test", config.test_split)):
            rows = _qrels(corpus, name, split, database)
            held_out = split == "test" and config.exclude_judged
            marks = [(held_out and relevance > 0, doc_id) for _, doc_id, relevance in rows]
            database.executemany("update docs set judged = 1, held_out = max(held_out, ?) where id = ?", marks)
            seen = list(dict.fromkeys(query_id for query_id, _, _ in rows))
            asked = (database.execute("select text from queries where id = ?", (q,)).fetchone()[0] for q in seen)
            queries.write(tables.JUDGED_QUERIES.of(seen, list(asked), [split] * len(seen)))
            qrels.write(tables.QRELS.build(dict(zip(tables.QRELS.schema.names, row, strict=True)) for row in rows))
            job.facts[f"{split}_queries"] = len(seen)


def _read_queries(path: Path, database: sqlite3.Connection) -> None:
    for where, row in readers.rows(path):
        query_id, text = _checked_id(row.get("_id"), where), row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{where}: query {query_id!r} has no text in the field 'text'; add it or remove the line")
        try:
            database.execute("insert into queries values (?, ?, ?)", (query_id, where, texts.flat(text)))
        except sqlite3.IntegrityError:
            raise _used_before(database, "queries", query_id, where) from None


def _qrels(corpus: Path, name: str, split: str, database: sqlite3.Connection) -> list[tuple[str, str, int]]:
    """The judgements of one split, each once. Raises UserError naming the line of one that cannot be meant."""
    path = corpus / "qrels" / f"{name}.tsv"
    if not path.is_file():
        if name in ("", "dev", "test"):
            return []
        there = ", ".join(readers.splits(path.parent)) or "none"
        raise UserError(f"{path} does not exist; the judgements there are {there}")
    found: dict[tuple[str, str], int] = {}
    for number, query_id, doc_id, relevance in readers.qrels(path):
        where = f"{path}, line {number}"
        if not database.execute("select 1 from queries where id = ?", (query_id,)).fetchone():
            raise UserError(f"{where}: unknown query {query_id!r}; add it to queries.jsonl or remove the line")
        if not database.execute("select 1 from docs where id = ?", (doc_id,)).fetchone():
            raise UserError(f"{where}: unknown document {doc_id!r}; add it to the corpus or remove the line")
        if found.setdefault((query_id, doc_id), relevance) != relevance:
            raise UserError(f"{where}: {query_id!r} and {doc_id!r} were judged otherwise before; keep one line of them")
        database.execute("insert or ignore into splits values (?, ?)", (query_id, split))
        if database.execute("select split from splits where query = ?", (query_id,)).fetchone()[0] != split:
            raise UserError(f"{where}: query {query_id!r} is judged in dev as well; keep it in one of them")
    return [(*pair, relevance) for pair, relevance in found.items()]


def _judged_elsewhere(config: Config, database: sqlite3.Connection, job: Job) -> None:
    """Marks documents with the text of one that is judged relevant in another collection."""
    norms = ((norm,) for norm in relevant_elsewhere((*config.tests, *config.guards), job, config.max_chars))
    database.executemany("insert into elsewhere values (?)", norms)
    database.execute("update docs set judged = 1, held_out = 1 where norm in (select norm from elsewhere)")


def _drop(config: Config, database: sqlite3.Connection) -> None:
    """Marks what is left out; of several reasons the first counts. Judged documents stay, unless they are empty."""
    lose = "insert or ignore into lost "
    titled = (lambda title: "") if config.dedupe_letters_only else texts.dedup_key
    database.create_function("titled", 1, titled, deterministic=True)
    database.execute(f"{lose} select rowid, 'empty text', '' from docs where norm = ''")
    too_short = "select rowid, 'too short', text from docs where not judged and length(trim(title || ' ' || text)) < ?"
    database.execute(lose + too_short, (config.min_chars,))
    if not config.deduplicate:
        return
    contained = (
        "select part.rowid, 'contained in another document', whole.id from docs part, docs whole "
        "where part.rowid = ? and whole.rowid = ? and not part.judged"
    )
    for text in ("norm", "reversed(norm)"):
        # Of equal texts the first stays, a judged one before all others.
        ordered = database.execute(
            f"select {text}, titled(title), rowid from docs where norm != '' order by 1, 2, not judged, rowid"
        )
        for part, whole in texts.contained(ordered, config.dedupe_window):
            database.execute(lose + contained, (part, whole))


def _key(config: Config) -> Callable[[str], str]:
    """What two texts have in common that count as the same."""
    return texts.letters_key if config.dedupe_letters_only else texts.dedup_key


def _hold_out(config: Config, database: sqlite3.Connection) -> None:
    """Without judgements, marks documents drawn by the hash of their id."""
    if database.execute("select 1 from splits limit 1").fetchone():
        return
    database.create_function("drawn", 1, lambda doc_id: blake2b(doc_id.encode()).digest(), deterministic=True)
    kept = "from docs where rowid not in (select doc from lost)"
    count = database.execute(f"select count(*) {kept}").fetchone()[0]
    most = (min(config.synthetic_docs, count // 10),)
    database.execute(
        f"update docs set held_out = 1 where rowid in (select rowid {kept} order by drawn(id) limit ?)", most
    )


def _write_docs(job: Job, database: sqlite3.Connection) -> None:
    counts: Counter[str] = Counter()
    left_out: dict[str, dict[str, Any]] = {}
    scripts: frozenset[str] = frozenset()
    cursor = database.execute(
        "select id, title, text, held_out, reason, detail "
        "from docs left join lost on doc = docs.rowid order by docs.rowid"
    )
    with job.writer("docs") as docs, job.writer("dropped_by_prepare") as dropped:
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            kept = [(doc_id, title, text, bool(held)) for doc_id, title, text, held, reason, _ in rows if not reason]
            lost = [(doc_id, "prepare", reason, detail) for doc_id, _, _, _, reason, detail in rows if reason]
            if kept:
                docs.write(tables.DOCS.of(*zip(*kept, strict=True)))
            if lost:
                dropped.write(tables.DROPPED_BY_PREPARE.of(*zip(*lost, strict=True)))
            held_out = sum(held for _, _, _, held in kept)
            counts.update({"docs": len(kept), "dropped": len(lost), "held_out": held_out})
            for doc_id, _, reason, detail in lost:
                detail = masked(detail)
                found = left_out.setdefault(reason, {"count": 0, "examples": []})
                found["count"] += 1
                if len(found["examples"]) < EXAMPLES_KEPT:
                    found["examples"].append(f"{doc_id}: {detail}" if detail else doc_id)
            for title, text in ((title, text) for _, title, text, _ in kept[:SAMPLED]):
                scripts |= segmentation.scripts(f"{title} {text}")
    job.facts.update(counts, analyser=segmentation.analyser(scripts))
    if left_out:
        job.facts["left_out"] = left_out
    if counts["held_out"] > counts["docs"] / 2:
        job.facts["warning"] = "more than half of the corpus is judged for test queries and left out of training"
