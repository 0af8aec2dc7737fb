"""Arrow files and streams, as Hugging Face data sets are saved to disk, and Feather files."""

from collections.abc import Iterator

import pyarrow as pa

from hone.errors import UserError
from hone.inputs.readers.files import FAULTS, File
from hone.inputs.readers.parquet import cells_of
from hone.inputs.readers.table import Dialect, Fields, Row, Table

FILE_MARK = b"ARROW1"
DAMAGED = (pa.ArrowException, ValueError, MemoryError, *FAULTS)
"""A damaged length may ask for more memory than there is."""


def open_arrow(file: File, fields: Fields, dialect: Dialect) -> Table:
    """An Arrow file or stream. Raises UserError."""
    try:
        with file.open() as stream, _opened(stream) as reader:
            names = tuple(reader.schema.names)
    except DAMAGED as error:
        raise _refusal(file, error) from error
    return Table(_rows(file, fields), names)


def _opened(stream: object) -> "pa.ipc.RecordBatchStreamReader | pa.ipc.RecordBatchFileReader":
    source = pa.PythonFile(stream, mode="r")
    start = stream.peek(6)[:6]  # type: ignore[attr-defined]
    return pa.ipc.open_file(source) if start == FILE_MARK else pa.ipc.open_stream(source)


def _rows(file: File, fields: Fields) -> Iterator[Row]:
    number = 0
    try:
        with file.open() as stream, _opened(stream) as reader:
            wanted = {name.partition(".")[0] for name in fields.columns} | set(fields.columns)
            names = [name for name in reader.schema.names if not wanted or name in wanted]
            batches = (
                (reader.get_batch(at) for at in range(reader.num_record_batches))
                if isinstance(reader, pa.ipc.RecordBatchFileReader)
                else iter(reader)
            )
            for batch in batches:
                batch.validate(full=True)  # a damaged file may point anywhere
                cells = [cells_of(batch.column(name), file, name, number) for name in names]
                for row in zip(*cells, strict=True):
                    number += 1
                    yield f"{file}, row {number}", dict(zip(names, row, strict=True))
    except DAMAGED as error:
        raise _refusal(file, error) from error


def _refusal(file: File, error: Exception) -> UserError:
    flaw = str(error) or "a length in it asks for more memory than there is"
    return UserError(f"{file} is not a readable Arrow file ({flaw}); write it again")
