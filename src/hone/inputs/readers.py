"""Readers of corpora, queries and judgements as people keep them: BEIR, JSONL, CSV, Parquet, folders of text files.

All of them stream, and name file and row of what they cannot read.
"""

import csv
import json
import mmap
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from hone.core import scripts
from hone.core.text import Chunking, chunks
from hone.errors import UserError
from hone.inputs import parquet_guard

Row = tuple[str, dict[str, Any]]
"""Where it stands (file and row), and its fields."""
Format = Literal["auto", "beir", "jsonl", "csv", "tsv", "parquet", "text"]

SUFFIXES: dict[Format, tuple[str, ...]] = {
    "jsonl": (".jsonl",),
    "csv": (".csv",),
    "tsv": (".tsv",),
    "parquet": (".parquet",),
    "text": (".md", ".txt"),
}
TABLE_SUFFIXES = tuple(suffix for format in SUFFIXES if format != "text" for suffix in SUFFIXES[format])
LARGEST_FIELD = 64 << 20
LARGEST_CHUNK = 256 << 20
MOST_EXPANSION = 20
LARGEST_RELEVANCE = 2**31 - 1
ROWS_AT_ONCE = 1_024
ENOUGH_FOR_LANGUAGE = 200
USUAL_FIELDS = {
    "id": ("_id", "id", "doc_id", "docid", "document_id", "pid", "uuid", "url"),
    "title": ("title", "headline", "heading", "name", "subject"),
    "text": ("text", "body", "content", "contents", "passage", "document", "abstract", "description"),
}
USUAL_CHUNKS = Chunking(words=200, overlap=40, chars=2_048)


@dataclass(frozen=True)
class Look:
    """What a corpus seems to hold, from its first documents.

    `docs` is the number of documents seen, all of them if `whole`. The three fields are guesses by name, empty if
    nothing fits; `fields` are all there are.
    """

    format: Format
    docs: int
    whole: bool
    mean_words: float
    language: str
    fields: tuple[str, ...]
    id_field: str
    title_field: str
    text_field: str
    queries: bool
    splits: tuple[str, ...]

    def __str__(self) -> str:
        count = f"{self.docs:,}" if self.whole else f"{self.docs:,} or more"
        judged = f"judgements: {', '.join(self.splits)}" if self.splits else "no judgements"
        size = f"{count} documents, {self.mean_words:.0f} words on average"
        return f"{self.format} format, {size}, language: {self.language}, {judged}"


def look(path: Path, most: int = 5_000) -> Look:
    """What the first `most` documents of a corpus are like. Raises UserError if there is no corpus."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder or file of a corpus")
    format, files = corpus_files(path)
    found = list(islice(documents(path, format, files, USUAL_CHUNKS), most + 1))
    seen = [row for _, row in found[:most]]
    fields = tuple(map(str, seen[0])) if seen else ()
    guess = {role: next((name for name in names if name in fields), "") for role, names in USUAL_FIELDS.items()}
    texts = [str(row.get(guess["text"]) or "") for row in seen]
    return Look(
        format=format,
        docs=len(seen),
        whole=len(found) <= most,
        mean_words=sum(len(text.split()) for text in texts) / max(1, len(seen)),
        language=scripts.guess(texts[:ENOUGH_FOR_LANGUAGE]),
        fields=fields,
        id_field=guess["id"],
        title_field=guess["title"],
        text_field=guess["text"],
        queries=(path / "queries.jsonl").is_file(),
        splits=tuple(splits(path / "qrels")),
    )


def corpus_files(path: Path, format: Format = "auto") -> tuple[Format, list[Path]]:
    """The format of a corpus and the files that hold its documents, sorted. Raises UserError if there are none."""
    chosen = _detected(path) if format == "auto" else format
    if chosen == "beir":
        return chosen, [path / "corpus.jsonl"]
    files = [path] if path.is_file() else _visible_files(path, SUFFIXES[chosen])
    if not files:
        wanted = " or ".join(SUFFIXES[chosen])
        raise UserError(f"{path} holds no {wanted} file; correct prepare.corpus or prepare.format")
    return chosen, files


def documents(
    root: Path, format: Format, files: Iterable[Path], chunking: Chunking, fields: Sequence[str] = ()
) -> Iterator[Row]:
    """All documents of some files of a corpus; see `rows` and `text_documents`."""
    for file in files:
        yield from text_documents(root, file, chunking) if format == "text" else rows(file, fields)


def rows(path: Path, fields: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a table file. Of a Parquet file that has all of `fields`, only those are read. Raises UserError."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        yield from _json_rows(path)
    elif suffix in (".csv", ".tsv"):
        yield from _csv_rows(path, "excel-tab" if suffix == ".tsv" else "excel")
    elif suffix == ".parquet":
        yield from _parquet_rows(path, fields)
    else:
        raise UserError(f"{path} is none of {', '.join(TABLE_SUFFIXES)}; convert it")


def count_documents(format: Format, files: Iterable[Path]) -> int:
    """How many documents there are, for progress: about, where a table has blank lines; 0 for texts yet to be cut."""
    return 0 if format == "text" else sum(_count_rows(file) for file in files)


def _count_rows(path: Path) -> int:
    if path.suffix.lower() == ".parquet":
        with _readable_parquet(path) as file:
            return file.metadata.num_rows
    header = path.suffix.lower() in (".csv", ".tsv")
    return max(0, sum(1 for _ in _bytes_lines(path)) - header)


def text_documents(root: Path, path: Path, chunking: Chunking) -> Iterator[Row]:
    """The chunks of a text file as documents with _id, title and text.

    The id is the path below `root`, `#` and the chunk's number from 0; the title is the heading path, or the file's
    name where there is none.
    """
    name = path.name if path == root else path.relative_to(root).as_posix()
    body = (line for _, line in lines(path))
    for number, (title, chunk) in enumerate(chunks(body, chunking, headings=path.suffix.lower() == ".md")):
        yield f"{path}, chunk {number}", {"_id": f"{name}#{number}", "title": title or path.stem, "text": chunk}


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file without their ends, numbered from 1. Raises UserError on bytes that are not UTF-8."""
    for number, line in enumerate(_bytes_lines(path), 1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            where = f"{path}, line {number}"
            fault = f"{where}: not UTF-8 (byte {error.start + 1} of the line)"
            raise UserError(f"{fault}; save the file as UTF-8") from error


def splits(folder: Path) -> list[str]:
    """The names of the judgement files in a folder, sorted; none if there is no such folder."""
    return sorted(file.stem for file in folder.glob("*.tsv"))


def qrels(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """(line, query_id, doc_id, relevance) of a BEIR judgements file, with or without a header. Raises UserError."""
    for number, line in lines(path):
        parts = line.split("\t")
        header = number == 1 and not any(char.isdecimal() for char in parts[-1])
        if line and not header:
            yield number, *_judgement(parts, f"{path}, line {number}")


def _judgement(parts: list[str], where: str) -> tuple[str, str, int]:
    if len(parts) != 3:
        raise UserError(f"{where}: {len(parts)} columns; write query-id, corpus-id and score, separated by tabs")
    query_id, doc_id, relevance = parts
    number = relevance.removeprefix("-")
    if not (number.isascii() and number.isdecimal() and int(number[:11]) <= LARGEST_RELEVANCE):
        raise UserError(f"{where}: relevance {relevance[:40]!r} is not a whole number; write 0, 1, 2 ...")
    return query_id, doc_id, int(relevance)


def _detected(path: Path) -> Format:
    found: list[Format]
    if path.is_file():
        found = [format for format, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes]
    elif (path / "corpus.jsonl").is_file():
        found = ["beir"]
    else:
        found = [format for format, suffixes in SUFFIXES.items() if _visible_files(path, suffixes)]
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    if not found:
        raise UserError(f"{path} holds no corpus: no corpus.jsonl and nothing of {known}; correct prepare.corpus")
    # A README or notes beside tables are not what is to be searched.
    formats: list[Format] = [format for format in found if format != "text"] or found
    if len(formats) > 1:
        raise UserError(f"{path} holds {' and '.join(formats)} files; set prepare.format to the one that is the corpus")
    return formats[0]


def _visible_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files that may hold documents: not hidden, and neither the queries nor the judgements beside a corpus."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.relative_to(folder).parts[0] not in ("queries.jsonl", "qrels")
        and path.is_file()
    )


def _bytes_lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise UserError(f"cannot read {path}: {error.strerror}; correct the path or its permissions") from error
    with file:
        for number in count(1):
            line = file.readline(LARGEST_FIELD + 1)
            if len(line) > LARGEST_FIELD:
                raise UserError(
                    f"{path}, line {number}: longer than {LARGEST_FIELD >> 20} MiB; split it into documents"
                )
            if not line:
                return
            yield line


def _json_rows(path: Path) -> Iterator[Row]:
    for number, line in lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _json_object(line, where)


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}); write one JSON object a line") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a JSON object but {line[:40]!r}; write one object a line")
    return cast(dict[str, Any], row)


def _csv_rows(path: Path, dialect: str) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_FIELD)
    reader = csv.reader((line + "\n" for _, line in lines(path)), dialect=dialect, strict=True)
    filled = (cells for cells in reader if cells)
    try:
        header = next(filled, [])
        if len(set(header)) < len(header):
            raise UserError(f"{path}, line {reader.line_num}: two columns share a name; give each its own")
        for cells in filled:
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(header):
                raise UserError(f"{where}: {len(cells)} fields where the first line has {len(header)}; mend the line")
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; write a quote inside quotes twice") from error


def _parquet_rows(path: Path, fields: Sequence[str]) -> Iterator[Row]:
    number = 0
    with _readable_parquet(path) as file:
        columns = list(fields) if set(fields) <= set(file.schema_arrow.names) else None
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=columns or None):
            try:
                cells = [_cells(column) for column in batch.columns]
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, after row {number}: not UTF-8; write the text columns as UTF-8") from error
            for row in zip(*cells, strict=True):
                number += 1
                yield f"{path}, row {number}", dict(zip(batch.schema.names, row, strict=True))


def _cells(column: pa.Array) -> list[Any]:
    """The values of a column. One text that stands in every row is held once, however long it is."""
    if not isinstance(column, pa.DictionaryArray):
        return column.to_pylist()
    places: pa.Array = column.indices
    distinct = places.unique()
    found = dict(zip(distinct.to_pylist(), column.dictionary.take(distinct).to_pylist(), strict=True))
    return [found[place] for place in places.to_pylist()]


@contextmanager
def _readable_parquet(path: Path) -> Generator[pq.ParquetFile]:
    try:
        schema = pq.read_schema(path)
        texts = [
            field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
        # As dictionaries: a column takes the memory of its encoded pages, not that of what they expand to.
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            _check_expansion(path, file.metadata)
            yield file
    except (pa.ArrowException, OSError, ValueError) as error:
        flaw = str(error).partition("\n")[0]
        raise UserError(f"{path} is not readable Parquet ({flaw}); write it again") from error


def _check_expansion(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuses a file that would fill the memory, whatever its footer says. Raises UserError naming the row group."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, place in product(range(metadata.num_row_groups), range(metadata.num_columns)):
            chunk = metadata.row_group(number).column(place)
            packed = chunk.total_compressed_size
            starts = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
            unpacked = parquet_guard.unpacked_bytes(data, min(start for start in starts if start > 0), packed)
            if unpacked > max(LARGEST_CHUNK, MOST_EXPANSION * packed):
                claim = (
                    f"column {chunk.path_in_schema!r} of row group {number} turns {packed:,} bytes into {unpacked:,}"
                )
                raise UserError(f"{path}: {claim}; write it with smaller row groups")
