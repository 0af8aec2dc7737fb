"""prepare: reads a corpus and its judgements, cleans and deduplicates, and says what it dropped."""

import errno
import sqlite3
import unicodedata
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from hone import tables
from hone.config import CorpusSource, Source, StageConfig
from hone.context import Job
from hone.core import segmentation
from hone.core import text as texts
from hone.core.personal_data import masked
from hone.core.text import Chunking
from hone.errors import UserError
from hone.evaluation.test_collections import MAX_CHARS, GuardSet, JudgedSet, relevant_elsewhere
from hone.evaluation.test_design import design
from hone.inputs import readers
from hone.inputs.references import declared_licence
from hone.log import log
from hone.progress import task
from hone.spent import growing

IMAGE = "cpu"
READS = ()
WRITES = ("docs", "judged_queries", "qrels", "dropped_by_prepare")
VALIDATION = ("validation", "valid", "val")
EXAMPLES = 3
EXAMPLES_KEPT = 3
SAMPLED = 256
"""Documents of a block that are looked at for the scripts they are in."""
ROWS_AT_ONCE = 4_096
INSERT = "insert or ignore into docs (id, place, title, text, norm) values (?, ?, ?, ?, ?)"
TABLES = """
create table docs (
    id text primary key, place text, title text, text text, norm text,
    judged integer default 0, relevant integer default 0, held_out integer default 0
);
create table queries (id text primary key, place text, text text);
create table splits (query text primary key, split text);
create table elsewhere (norm text primary key);
create table lost (doc integer primary key, reason text, detail text);
"""


_Read = tuple[str, str, str, str, str]
"""A document as it is read: id, place, title, text, and what deduplication compares."""


class Config(StageConfig):
    """Settings of prepare."""

    corpus: CorpusSource
    """A folder as BEIR, MS MARCO or Hugging Face lay one out, a file of JSON, CSV, TSV, Parquet or Arrow or a folder of
    them, or a folder of Markdown, reStructuredText and plain text; packed (.gz, .zst, .bz2, .xz, .zip) or not."""
    format: readers.Format = "auto"
    """How the corpus is written: beir, jsonl (any JSON), csv, tsv, parquet, arrow, trec or text; auto finds out."""
    dialect: readers.Dialect = readers.Dialect()
    """How tables of text are written, where that is not to be recognised by content."""
    id_field: str = "_id"
    """The field that holds the document's id; name.inner is the field inner of an object. Empty where no field holds
    one: then a hash over title and text is the id."""
    title_field: str = "title"
    """The field that holds its title; a corpus may have none."""
    text_field: str = "text"
    """The field that holds its text."""
    dev_split: str = "dev"
    """Name of the judgements (such as qrels/NAME.tsv) that choose and qualify; empty for none."""
    test_split: str = "test"
    """Name of the judgements that are reported; empty for none."""
    judgements: Source = ""
    """A folder of queries.jsonl and qrels/ about the documents of the corpus, such as `hone serve` makes; without one,
    those of the corpus folder itself."""
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
    """Documents judged relevant for a test query are neither asked about nor listed in training, where at least a fifth
    of all documents stays; else, and with false, only the test queries are kept out of training, as in arXiv
    2502.19712, and report and verdict say so."""
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
    layout = readers.layout(corpus, config.format)
    if config.judgements:
        layout = _judged_apart(layout, job.source(config.judgements))
    job.facts["inputs"] = layout.facts()
    with growing("docs"), _database(job.scratch / "corpus.sqlite") as database:
        _read(config, layout, database, job)
        if layout.qrels:
            _judgements(config, layout, database, job)
        if config.exclude_judged:
            _judged_elsewhere(config, database, job)
        _drop(config, database)
        if config.exclude_judged:
            _hold_out_relevant(database)
        _hold_out(config, database)
        _write_docs(job, database)


@contextmanager
def _database(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as database:
        try:
            database.executescript(f"pragma journal_mode = off; pragma synchronous = off; {TABLES}")
            database.create_function("reversed", 1, lambda text: text[::-1], deterministic=True)
            yield database
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            raise OSError(errno.ENOSPC, str(error), str(path)) from error


def _read(config: Config, layout: readers.Layout, database: sqlite3.Connection, job: Job) -> None:
    chunking = Chunking(config.chunk_words, config.overlap_words, config.max_chars)
    fields = readers.Fields(config.id_field, config.title_field, config.text_field)
    corpus = readers.Corpus(layout, fields, chunking, config.dialect)
    key_of, total, written, equal = _key(config), 0, False, Counter[str]()
    with task("prepare: read", readers.count_documents(layout), "docs") as progress:
        documents = (_document(row, fields, config.max_chars, key_of) for row in corpus.documents())
        while batch := list(islice(documents, ROWS_AT_ONCE)):
            if database.executemany(INSERT, batch).rowcount < len(batch):
                if fields.id:
                    raise _used_before(database, "docs", [(doc_id, where) for doc_id, where, *_ in batch])
                _number_equal(database, batch, equal)
            written = written or any(title or text for _, _, title, text, _ in batch)
            total += len(batch)
            progress.advance(len(batch))
    job.facts["read"] = corpus.understood
    if not total:
        raise UserError(f"{layout.root} holds no documents; nothing can be learned from an empty corpus")
    if not written:
        empty = f"{layout.root}: field {config.text_field!r} is empty in all {total} documents"
        raise UserError(f"{empty}; set prepare.text_field")
    if alike := _composed_alike(database):
        job.facts["alike ids"] = alike


def _number_equal(database: sqlite3.Connection, batch: Sequence[_Read], equal: Counter[str]) -> None:
    """Adds those of a batch that say the same as one before, where a hash over the content is the id."""
    for doc_id, where, *rest in batch:
        if database.execute("select place from docs where id = ?", (doc_id,)).fetchone()[0] != where:
            equal[doc_id] += 1
            database.execute(INSERT, (f"{doc_id}-{equal[doc_id] + 1}", where, *rest))


def _document(row: readers.Row, fields: readers.Fields, max_chars: int, key_of: Callable[[str], str]) -> _Read:
    """Id, place, title, text, and what deduplication compares."""
    doc_id, title, text = readers.document(*row, fields)
    cut = texts.flat(text)[:max_chars]
    return doc_id, row[0], texts.flat(title), cut, key_of(cut)


def _composed_alike(database: sqlite3.Connection) -> int:
    """How many ids differ from another one in how their accents are composed only: they are two ids, and look alike."""
    database.create_function("composed", 1, lambda text: unicodedata.normalize("NFC", text), deterministic=True)
    odd = "select composed(id) as whole from docs where length(id) != length(cast(id as blob)) and composed(id) != id"
    return database.execute(f"select count(*) from ({odd}) where whole in (select id from docs)").fetchone()[0]


def _used_before(database: sqlite3.Connection, table: str, rows: Iterable[tuple[str, str]]) -> UserError:
    """Names the first of some rows (id, place) whose id another one has, and where that stands."""
    for row_id, where in rows:
        first = database.execute(f"select place from {table} where id = ?", (row_id,)).fetchone()
        if first and first[0] != where:
            return UserError(f"{where}: id {row_id!r} was used before ({first[0]}); give every row its own")
    raise AssertionError(table)


def _judged_apart(layout: readers.Layout, folder: Path) -> readers.Layout:
    """The corpus with the queries and judgements of another folder. Raises UserError if there are none."""
    qrels = {
        file.stem: (readers.File(file, f"qrels/{file.name}"),) for file in sorted((folder / "qrels").glob("*.tsv"))
    }
    if not qrels or not (folder / "queries.jsonl").is_file():
        raise UserError(f"prepare.judgements: {folder} has no queries.jsonl and qrels/test.tsv; name such a folder")
    return replace(layout, queries=(readers.File(folder / "queries.jsonl", "queries.jsonl"),), qrels=qrels)


def _judgements(config: Config, layout: readers.Layout, database: sqlite3.Connection, job: Job) -> None:
    """Writes judged queries and qrels, and marks the judged documents."""
    unread = [name for name in layout.qrels if name.lower() != "train"]
    if unread and not any(_split_files(layout, name) for name in (config.dev_split, config.test_split)):
        names = ", ".join(unread[:EXAMPLES])
        log.warning(f"judgements of {names} are not used; set prepare.test_split or prepare.dev_split to use them")
    judged = [file.name for name in (config.dev_split, config.test_split) for file in _split_files(layout, name)]
    if judged and not layout.queries:
        fault = f"{layout.root} holds judgements ({', '.join(judged)}) but no queries"
        raise UserError(f"{fault}; add them, such as queries.jsonl")
    _read_queries(layout, database)
    with job.writer("judged_queries") as queries, job.writer("qrels") as qrels:
        for split, name in (("dev", config.dev_split), ("test", config.test_split)):
            rows = _qrels(layout, name, split, database, job)
            marks = [(split == "test" and relevance > 0, doc_id) for _, doc_id, relevance in rows]
            database.executemany("update docs set judged = 1, relevant = max(relevant, ?) where id = ?", marks)
            seen = list(dict.fromkeys(query_id for query_id, _, _ in rows))
            asked = (database.execute("select text from queries where id = ?", (q,)).fetchone()[0] for q in seen)
            queries.write(tables.JUDGED_QUERIES.of(seen, list(asked), [split] * len(seen)))
            qrels.write(tables.QRELS.build(dict(zip(tables.QRELS.schema.names, row, strict=True)) for row in rows))
            job.facts[f"{split}_queries"] = len(seen)


def _read_queries(layout: readers.Layout, database: sqlite3.Connection) -> None:
    """All queries with text; the same one may stand in several files."""
    for where, query_id, text in readers.queries(layout.queries):
        known = database.execute("select text from queries where id = ?", (query_id,)).fetchone()
        if known and known[0] != text:
            raise _used_before(database, "queries", [(query_id, where)])
        if text and not known:
            database.execute("insert into queries values (?, ?, ?)", (query_id, where, text))


def _split_files(layout: readers.Layout, name: str) -> Sequence[readers.File]:
    """The files of one split, under the name that Hugging Face gives dev too. Raises UserError if a split that somebody
    named is not there."""
    names = (name, *({"dev": VALIDATION}.get(name, ())))
    chosen = next((layout.qrels[one] for one in names if one in layout.qrels), ())
    if chosen or name in ("", "dev", "test"):
        return chosen if name else ()
    there = ", ".join(layout.qrels) or "none"
    raise UserError(f"{layout.root} holds no judgements called {name!r}; those there are {there}")


def _qrels(
    layout: readers.Layout, name: str, split: str, database: sqlite3.Connection, job: Job
) -> list[tuple[str, str, int]]:
    """The judgements of one split, each once. Of a query that is not there nothing can be measured: its judgements are
    left out. A document that is not there stays judged, and is not found. Both are counted. Raises UserError naming the
    line of one that cannot be meant."""
    judged: dict[tuple[str, str], int] = {}
    queries, docs = dict[str, str](), dict[str, str]()
    known = 0
    for file in _split_files(layout, name):
        rows, description = readers.read_qrels(file)
        job.facts["inputs"][f"judgements of {split}"] = f"{file.name}: {description}"
        for where, query_id, doc_id, relevance in rows:
            if not database.execute("select 1 from queries where id = ?", (query_id,)).fetchone():
                queries.setdefault(query_id, where)
                continue
            if database.execute("select 1 from docs where id = ?", (doc_id,)).fetchone():
                known += 1
            else:
                docs.setdefault(doc_id, where)
            if judged.setdefault((query_id, doc_id), relevance) != relevance:
                fault = f"{where}: {query_id!r} and {doc_id!r} were judged otherwise before"
                raise UserError(f"{fault}; keep one line of them")
            database.execute("insert or ignore into splits values (?, ?)", (query_id, split))
            if database.execute("select split from splits where query = ?", (query_id,)).fetchone()[0] != split:
                raise UserError(f"{where}: query {query_id!r} is judged in dev as well; keep it in one of them")
    for what, absent, none in (("query", queries, not judged), ("document", docs, bool(judged) and not known)):
        if absent and none:
            some, where = next(iter(absent.items()))
            place = "the queries" if what == "query" else "the corpus"
            raise UserError(f"{where}: unknown {what} {some!r}, and no other one is in {place}; correct the ids")
    absent = {"queries": len(queries), "docs": len(docs)}
    if any(absent.values()):
        examples = [*list(queries)[:EXAMPLES], *list(docs)[:EXAMPLES]]
        job.facts[f"absent of {split}"] = {**absent, "such as": ", ".join(examples)}
    return [(*pair, relevance) for pair, relevance in judged.items()]


def _judged_elsewhere(config: Config, database: sqlite3.Connection, job: Job) -> None:
    """Marks documents with the text of one that is judged relevant in another collection."""
    norms = ((norm,) for norm in relevant_elsewhere((*config.tests, *config.guards), job, config.max_chars))
    database.executemany("insert into elsewhere values (?)", norms)
    database.execute("update docs set judged = 1, held_out = 1 where norm in (select norm from elsewhere)")


def _drop(config: Config, database: sqlite3.Connection) -> None:
    """Marks what is left out; of several reasons the first counts. Judged documents stay, unless they are empty; one
    with a title and no text is a document."""
    lose = "insert or ignore into lost "
    titled = (lambda title: "") if config.dedupe_letters_only else texts.dedup_key
    database.create_function("titled", 1, titled, deterministic=True)
    # A document that is a title alone is a document.
    database.execute(f"{lose} select rowid, 'empty text', '' from docs where norm = '' and title = ''")
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
            f"select {text}, case title when '' then '' else titled(title) end, rowid "
            "from docs where norm != '' order by 1, 2, not judged, rowid"
        )
        for part, whole in texts.contained(ordered, config.dedupe_window):
            database.execute(lose + contained, (part, whole))


def _key(config: Config) -> Callable[[str], str]:
    """What two texts have in common that count as the same."""
    return texts.letters_key if config.dedupe_letters_only else texts.dedup_key


def _hold_out_relevant(database: sqlite3.Connection) -> None:
    """Holds out the documents that answer test queries, or only the queries where hardly any other document would stay;
    the latter is said before anything else is computed."""
    kept = "from docs where rowid not in (select doc from lost)"
    docs, relevant = database.execute(f"select count(*), coalesce(sum(relevant), 0) {kept}").fetchone()
    if design(docs, relevant) == "documents":
        database.execute("update docs set held_out = 1 where relevant")
    else:
        log.warning(
            f"{relevant:,} of {docs:,} documents are judged relevant for test queries: too few would stay for training "
            "without them, so only the test queries are kept out of it"
        )


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
            lost = [(doc_id, reason, masked(detail)) for doc_id, _, _, _, reason, detail in rows if reason]
            if kept:
                docs.write(tables.DOCS.of(*zip(*kept, strict=True)))
            dropped.write(tables.dropped("prepare", lost))
            held_out = sum(held for _, _, _, held in kept)
            counts.update({"docs": len(kept), "dropped": len(lost), "held_out": held_out})
            for doc_id, reason, detail in lost:
                rule = left_out.setdefault(reason, {"count": 0, "examples": []})
                rule["count"] += 1
                if len(rule["examples"]) < EXAMPLES_KEPT:
                    rule["examples"].append(f"{doc_id}: {detail}" if detail else doc_id)
            for title, text in ((title, text) for _, title, text, _ in kept[:SAMPLED]):
                scripts |= segmentation.scripts(f"{title} {text}")
    judged, lost_judged = database.execute(
        "select count(*), count(doc) from docs left join lost on doc = docs.rowid where judged"
    ).fetchone()
    job.facts.update(
        counts, judged_docs=judged, judged_docs_dropped=lost_judged, analyser=segmentation.analyser(scripts)
    )
    if left_out:
        job.facts["left_out"] = left_out
    if lost_judged:
        log.warning(f"judged documents dropped: {lost_judged:,} of {judged:,}; measuring counts them as relevant")
    if counts["held_out"] > counts["docs"] / 2:
        job.facts["warning"] = "more than half of the corpus is judged for test queries and left out of training"
