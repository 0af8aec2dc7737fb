"""Parquet of every writer: only the wanted columns are decoded, in every encoding that pyarrow knows."""

import mmap
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from hone.errors import UserError
from hone.inputs import parquet_guard
from hone.inputs.readers.files import FAULTS, File, shown
from hone.inputs.readers.foreign import FIRST_BYTES, refuse_binary, refuse_pages
from hone.inputs.readers.table import Dialect, Fields, Row, Table

LARGEST_CHUNK = 256 << 20
MOST_EXPANSION = 20
ROWS_AT_ONCE = 1_024
PARQUET = b"PAR1"
AS_DICTIONARY = {"PLAIN", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "RLE", "BIT_PACKED"}
"""Encodings that pyarrow reads as a dictionary: a column then takes the memory of its encoded pages, not that of what
they expand to. Of other columns only one batch is held decoded."""


def open_parquet(file: File, fields: Fields, dialect: Dialect) -> Table:
    """A Parquet file. Raises UserError."""
    with _readable(file) as held, _parquet(file, held) as reader:
        metadata = reader.metadata
        names = _names(metadata)
        writer = str(metadata.created_by or "").partition(" (")[0]
        facts = {"rows": f"{metadata.num_rows:,}"} | ({"writer": f"written by {writer}"} if writer else {})
    wanted = [name for name in dict.fromkeys(_top(name, names) for name in fields.columns) if name in names]
    return Table(_rows(file, wanted), tuple(names), facts)


def _top(name: str, names: Sequence[str]) -> str:
    """The column that holds a field: `title` holds title.en."""
    return name if name in names else name.partition(".")[0]


def _names(metadata: pq.FileMetaData) -> list[str]:
    """The names of the columns at the top, without making an Arrow schema of types that nobody asked for."""
    paths = (metadata.schema.column(place).path for place in range(metadata.num_columns))
    tops = (path if _is_plain(metadata, path) else path.partition(".")[0] for path in paths)
    return list(dict.fromkeys(tops))


def _is_plain(metadata: pq.FileMetaData, path: str) -> bool:
    """Whether a path is one name with dots in it and not a place inside an object."""
    column = next(
        metadata.schema.column(at) for at in range(metadata.num_columns) if metadata.schema.column(at).path == path
    )
    return column.name == path


def _rows(file: File, wanted: list[str]) -> Iterator[Row]:
    number, start = 0, f"{file}, row "
    with _readable(file) as held:
        with _parquet(file, held) as reader:
            metadata = reader.metadata
        names = wanted or _names(metadata)
        places = [place for place in range(metadata.num_columns) if _own(metadata.schema.column(place).path, names)]
        _check_expansion(file, held, metadata, places)
        with _parquet(file, held, _dictionaries(metadata, places)) as reader:
            for batch in reader.iter_batches(batch_size=ROWS_AT_ONCE, columns=names):
                columns = [(name, batch.column(batch.schema.get_field_index(name))) for name in names]
                cells = [cells_of(column, file, name, number) for name, column in columns]
                for row in zip(*cells, strict=True):
                    number += 1
                    yield f"{start}{number}", dict(zip(names, row, strict=True))


def _own(path: str, names: Sequence[str]) -> bool:
    return path in names or path.partition(".")[0] in names


def _dictionaries(metadata: pq.FileMetaData, places: Sequence[int]) -> list[str]:
    """The columns of texts that can be read as dictionaries in every row group."""
    paths: list[str] = []
    for place in places:
        column = metadata.schema.column(place)
        groups = (metadata.row_group(number).column(place) for number in range(metadata.num_row_groups))
        if column.physical_type == "BYTE_ARRAY" and all(set(group.encodings) <= AS_DICTIONARY for group in groups):
            paths.append(column.path)
    return paths


def cells_of(column: pa.Array, file: File, name: str, after: int) -> list[Any]:
    """The values of a column. One text that stands in every row is held once, however long it is."""
    if isinstance(column, pa.DictionaryArray):
        places: pa.Array = column.indices
        distinct = places.unique()
        texts = cells_of(column.dictionary.take(distinct), file, name, after)
        text_of = dict(zip(distinct.to_pylist(), texts, strict=True))
        return [text_of[place] for place in places.to_pylist()]
    if isinstance(column, pa.ExtensionArray) and not isinstance(column, pa.UuidArray):
        column = cast(pa.Array, column.storage)
    if pa.types.is_timestamp(column.type):
        # Of any unit and zone, even one that this machine does not know: what is reported is the time in UTC.
        column = column.cast(pa.timestamp(column.type.unit)).cast(pa.timestamp("us"), safe=False)
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        fault = f"{file}, after row {after}: field {name!r} is not UTF-8"
        raise UserError(f"{fault}; write the column as UTF-8 text") from error


@contextmanager
def _readable(file: File) -> Generator["mmap.mmap | bytes"]:
    """The bytes of a file, mapped where they lie unpacked on disk. Raises UserError on what is not Parquet."""
    try:
        if file.member or file.packing():
            with file.open() as stream:
                yield stream.read()
            return
        with Path(file.path).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (pa.ArrowException, ValueError, *FAULTS) as error:
        with suppress(*FAULTS), file.open() as stream:
            start = stream.read(FIRST_BYTES)
            if not start.startswith(PARQUET):
                refuse_binary(file, start)
                refuse_pages(file, start.decode("latin-1"), "Parquet")
        flaw = str(error).partition("\n")[0]
        raise UserError(f"{file} is not readable Parquet ({flaw}); write it again") from error


@contextmanager
def _parquet(file: File, held: "mmap.mmap | bytes", texts: Sequence[str] = ()) -> Generator[pq.ParquetFile]:
    if isinstance(held, bytes):
        with pq.ParquetFile(pa.BufferReader(held), read_dictionary=list(texts)) as reader:
            yield reader
    elif shown(str(file.path)) == str(file.path):
        with pq.ParquetFile(str(file.path), read_dictionary=list(texts)) as reader:
            yield reader
    else:
        with file.path.open("rb") as stream, pq.ParquetFile(stream, read_dictionary=list(texts)) as reader:
            yield reader


def _check_expansion(file: File, data: "mmap.mmap | bytes", metadata: pq.FileMetaData, places: Sequence[int]) -> None:
    """Refuses a file that would fill the memory, whatever its footer says. Raises UserError naming the row group."""
    for number in range(metadata.num_row_groups):
        for place in places:
            chunk = metadata.row_group(number).column(place)
            packed = chunk.total_compressed_size
            starts = [chunk.data_page_offset, chunk.dictionary_page_offset or 0]
            unpacked = parquet_guard.unpacked_bytes(data, min(start for start in starts if start > 0), packed)
            if unpacked > max(LARGEST_CHUNK, MOST_EXPANSION * packed):
                claim = (
                    f"column {chunk.path_in_schema!r} of row group {number} turns {packed:,} bytes into {unpacked:,}"
                )
                raise UserError(f"{file}: {claim}; write it with smaller row groups")
