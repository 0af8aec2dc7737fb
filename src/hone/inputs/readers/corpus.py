"""The documents, queries and judgements of a corpus, one after another, and what was understood of its files."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from hone.core.segmentation import count_words
from hone.core.text import Chunking, flat
from hone.errors import UserError
from hone.inputs.readers import qrel_files as judged
from hone.inputs.readers import topics
from hone.inputs.readers.files import File, one_file
from hone.inputs.readers.formats import FORMATS, Format, Tables, Texts, format_of, opener
from hone.inputs.readers.layouts import ASKED, Layout
from hone.inputs.readers.sections import documents_of
from hone.inputs.readers.table import Dialect, Fields, Row, Table, first_names
from hone.inputs.readers.values import has, id_of, pick, plain_name, text_of

USUAL_CHUNKS = Chunking(words=200, overlap=40, chars=2_048)
USUAL_FIELDS = {
    "id": (
        "_id", "id", "doc_id", "docid", "document_id", "docno", "pid", "passage_id", "corpus-id", "uuid", "url",
        "paper_id", "chunk_id", "page_id", "article_id", "guid", "key", "put", "__index_level_0__",
    ),
    "title": (
        "title", "headline", "heading", "name", "subject", "page_title", "doc_title", "document_title", "titel",
        "titre", "título", "titulo", "titolo", "überschrift", "заголовок", "标题", "標題", "タイトル", "題名", "제목",
    ),
    "text": (
        "text", "body", "content", "contents", "passage", "document", "abstract", "description", "page_content",
        "body_text", "full_text", "fulltext", "passage_text", "chunk_text", "chunk", "paragraph", "sentence", "context",
        "article", "inhalt", "texte", "contenu", "texto", "contenido", "conteúdo", "testo", "tekst", "текст",
        "содержание", "正文", "内容", "本文", "テキスト", "본문", "내용",
    ),
}  # fmt: skip
"""What fields are called, the likeliest first."""
CONTENT_ID = 16
"""Hexadecimal digits of an id made of the content."""
WORDS_OF_TEXT = 5
QUERY_IDS = ("_id", "id", "query_id", "query-id", "qid", "queryid", "topic_id", "q_id", "question_id")
QUERY_TEXTS = ("text", "query", "question", "title", "content")
ROWS_TO_FIND_A_FIELD = 1_000
SAMPLE_BYTES = 1 << 18


EXPECTED = Fields()
RECOGNISED = Dialect()


class Corpus:
    """The documents of a corpus. While they are read, `understood` fills with what each kind of file was taken for."""

    def __init__(
        self,
        layout: Layout,
        fields: Fields = EXPECTED,
        chunking: Chunking = USUAL_CHUNKS,
        dialect: Dialect = RECOGNISED,
    ) -> None:
        self.layout, self.fields, self.chunking, self.dialect = layout, fields, chunking, dialect
        self.understood: list[dict[str, Any]] = []

    def documents(self) -> Iterator[Row]:
        """Where each stands, and its fields. Raises UserError."""
        row = FORMATS[self.layout.format]
        for file in self.layout.corpus:
            if isinstance(row, Texts):
                opened = row.by_suffix.get(file.suffix, row.by_suffix[".txt"])
                page = opened(file, self.dialect)
                yield from self._counted(file, page.facts, documents_of(file, page, self.chunking))
            else:
                table = row.open(file, self.fields, self.dialect)
                _check_columns(file, table, self.fields)
                rows = table.rows if table.columns else _with_fields(table.rows, self.fields)
                yield from self._counted(file, table.facts, rows)

    def _counted(self, file: File, facts: dict[str, str], rows: Iterator[Row]) -> Iterator[Row]:
        alike = {name: value for name, value in facts.items() if name != "rows"}
        group: dict[str, Any] | None = next((one for one in self.understood if one["how"] == alike), None)
        if group is None:
            group = {"files": 0, "first": file.name, "rows": 0, "how": alike}
            self.understood.append(group)
        group["files"] += 1
        count = 0
        for count, row in enumerate(rows, 1):  # noqa: B007
            yield row
        group["rows"] += count

    def said(self) -> list[str]:
        """What was understood of the files, a line for each kind."""
        return [
            f"{one['first']}{f' and {n:,} more' if (n := one['files'] - 1) else ''}: " + "; ".join(one["how"].values())
            for one in self.understood
        ]


def field_names(layout: Layout) -> tuple[str, ...]:
    """The names of the fields of a corpus, in its first file. Raises UserError."""
    row = FORMATS[layout.format]
    if isinstance(row, Texts):
        return Fields()
    opened = row.open(layout.corpus[0], Fields(), Dialect())
    if opened.columns:
        return opened.columns
    return tuple(dict.fromkeys(str(name) for _, one in islice(opened.rows, ROWS_TO_FIND_A_FIELD) for name in one))


def usual_fields(layout: Layout) -> Fields:
    """The fields of a corpus that nobody named: the first usual name that it has, else the one that is expected."""
    known = by_name(field_names(layout))
    return Fields(*(name or expected for name, expected in zip(known, Fields(), strict=True)))


def by_name(names: Sequence[str]) -> Fields:
    """The fields with the likeliest names, empty where none fits: as they are written, else whatever their case and
    marks are."""
    plain = {plain_name(name): name for name in reversed(names)}
    chosen: list[str] = []
    for usual in USUAL_FIELDS.values():
        exact = next((name for name in usual if name in names), "")
        chosen.append(exact or next((plain[key] for name in usual if (key := plain_name(name)) in plain), ""))
    return Fields(*chosen)


def guess(names: Sequence[str], rows: Sequence[Row]) -> Fields:
    """The fields of a corpus by their names, else by those inside an object, else, of the text, by what is longest."""
    fields = by_name(names)
    inner = [
        f"{outer}.{name}"
        for outer in names
        if rows and isinstance(rows[0][1].get(outer), Mapping)
        for name in cast(Mapping[str, Any], rows[0][1][outer])
    ]
    inside = by_name([name.rpartition(".")[2] for name in inner])
    full = {name.rpartition(".")[2]: name for name in reversed(inner)}
    text = (
        fields.text
        or full.get(inside.text, "")
        or ("" if {plain_name(one) for one in names} & ASKED else _longest(rows))
    )
    title = fields.title or (full.get(inside.title, "") if full.get(inside.title, "") != text else "")
    return Fields(fields.id or full.get(inside.id, ""), title if title != text else "", text)


def _longest(rows: Sequence[Row]) -> str:
    """The field with the longest texts, if they are texts."""
    words: Counter[str] = Counter()
    for _, row in rows:
        words.update({name: count_words(value) for name, value in row.items() if isinstance(value, str)})
    best = max(words, key=lambda name: words[name], default="")
    return best if words[best] >= WORDS_OF_TEXT * len(rows) else ""


def document(where: str, row: dict[str, Any], fields: Fields) -> tuple[str, str, str]:
    """Id, title and text of a document, neither cut nor flattened. Without a field for the id it is a hash over title
    and text. Raises UserError."""
    text, title = row.get(fields.text), row.get(fields.title)
    if type(text) is not str:
        text = text_of(pick(row, fields.text), where, fields.text)
    if type(title) is not str:
        title = text_of(pick(row, fields.title), where, fields.title, ", ") if fields.title else ""
    if not fields.id:
        return (
            blake2b(f"{title}\0{text}".encode("utf-8", "replace"), digest_size=CONTENT_ID // 2).hexdigest(),
            title,
            text,
        )
    return id_of(row[fields.id] if fields.id in row else pick(row, fields.id), where), title, text


def _check_columns(file: File, table: Table, fields: Fields) -> None:
    """A table that names its fields before its rows must have those of the id and the text. Raises UserError."""
    for name, setting in ((fields.id, "id_field"), (fields.text, "text_field")):
        if name and table.columns and name not in table.columns and name.partition(".")[0] not in table.columns:
            raise UserError(_no_field(f"{file}", name, table.columns, setting))


def _with_fields(rows: Iterator[Row], fields: Fields) -> Iterator[Row]:
    """The rows, of which each must have an id, and one among the first a text: nulls are often left out. Raises
    UserError."""
    head = list(islice(rows, ROWS_TO_FIND_A_FIELD))
    for where, row in head[:1]:
        if (not fields.id or has(row, fields.id)) and not any(has(other, fields.text) for _, other in head):
            raise UserError(_no_field(where, fields.text, row, "text_field"))
    for where, row in chain(head, rows):
        if fields.id and fields.id not in row and not has(row, fields.id):
            raise UserError(_no_field(where, fields.id, row, "id_field"))
        yield where, row


def _no_field(where: str, name: str, names: Iterable[object], setting: str) -> str:
    have = first_names([flat(str(one)) for one in names]) or "none"
    hint = f"set prepare.{setting}" + (", or leave it empty if no field holds ids" if setting == "id_field" else "")
    return f"{where}: no field {name!r} (it has {have}); {hint}"


def count_documents(layout: Layout) -> int:
    """About how many documents there are, for progress; 0 where that is not known before they are read."""
    return sum(map(_about, layout.corpus)) if isinstance(FORMATS[layout.format], Tables) else 0


def _about(file: File) -> int:
    if file.suffix == ".parquet" and (rows := FORMATS["parquet"]) and isinstance(rows, Tables):
        return int(rows.open(file, Fields(), Dialect()).facts["rows"].replace(",", ""))
    with file.open() as stream:
        sample = stream.read(SAMPLE_BYTES)
    ends = sample.count(b"\n")
    return ends if len(sample) < SAMPLE_BYTES or file.packing() or not ends else file.size * ends // len(sample)


def rows(source: Path | File, fields: Fields | None = None, format: Format = "auto") -> Iterator[Row]:
    """The rows of a table; with `fields` those at least. Raises UserError."""
    yield from open_table(source, fields or Fields("", "", ""), format).rows


def open_table(source: Path | File, fields: Fields, format: Format = "auto") -> Table:
    """A table of any format, recognised by its suffix. Raises UserError."""
    file = source if isinstance(source, File) else one_file(source)
    row = opener(file.suffix if format == "auto" else FORMATS[format].suffixes[0])
    if not isinstance(row, Tables):
        known = ", ".join(suffix for row in FORMATS.values() if isinstance(row, Tables) for suffix in row.suffixes)
        raise UserError(f"{file} is not one of {known}; convert it")
    return row.open(file, fields, Dialect())


def queries(files: Iterable[File]) -> Iterator[tuple[str, str, str]]:
    """(where, query_id, text) of every query; one without text has an empty one. Raises UserError."""
    for file in files:
        yield from read_queries(file)[0]


def read_queries(file: File) -> tuple[Iterator[tuple[str, str, str]], str]:
    """The queries in a file as (where, query_id, text), and how it is read. Raises UserError."""
    if file.suffix in topics.SUFFIXES:
        return topics.of_topics(file), "topics"
    table = open_table(file, Fields("_id", "", "text"))
    head = list(islice(table.rows, 2))
    names = table.columns or (tuple(head[0][1]) if head else ())
    own = next((name for name in QUERY_IDS if name in names), "")
    text = next((name for name in QUERY_TEXTS if name in names and name != own), "")
    if not table.named:  # then what is asked follows the id, and more may follow it
        text = next((name for name in names if name != own), "")
    if len(head) == 1 and not own and not text and all(isinstance(value, str) for value in head[0][1].values()):
        where, by_id = head[0]
        return ((where, id_of(key, where), flat(value)) for key, value in by_id.items()), "a text for every id"
    if head and not (own and text):
        have = ", ".join(flat(str(name)) for name in names)
        raise UserError(f"{head[0][0]}: a query needs the fields _id and text (it has {have}); rename them")
    if table.columns and {own, text} != {"_id", "text"} and table.named:
        table = open_table(file, Fields(own, "", text))
        head = []
    places = (
        [name if table.named else f"column {names.index(name) + 1}" for name in (own, text)] if head or names else []
    )
    asked = (
        (where, id_of(row.get(own), where), flat(text_of(row.get(text), where, text)))
        for where, row in chain(head, table.rows)
    )
    return asked, f"id from {places[0]}, text from {places[1]}" if places else "nothing"


def qrels(source: Path | File) -> Iterator[judged.Qrel]:
    """The judgements in a file of any form. Raises UserError."""
    yield from read_qrels(source)[0]


def read_qrels(source: Path | File) -> tuple[Iterator[judged.Qrel], str]:
    """The judgements in a file, and how it is read. Raises UserError."""
    file = source if isinstance(source, File) else one_file(source)
    if format_of(file.suffix) not in ("jsonl", "parquet", "arrow"):
        return judged.of_lines(file)
    table = open_table(file, Fields("", "", ""))
    head = list(islice(table.rows, 1))
    names = judged.named(table.columns or (tuple(head[0][1]) if head else ()))
    together = chain(head, table.rows)
    if names:
        return judged.of_rows(together, names), f"fields {', '.join(names)}"
    return judged.of_mapping(together), "documents and relevance for each query"
