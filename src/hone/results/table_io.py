"""Tables and folders as parts in a store: written in a scratch folder, uploaded, fetched again and verified."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from hone import tables
from hone.errors import TransientError, UserError
from hone.log import log
from hone.results.manifest import Manifest, Output, Part, digest_of, output_of, remedy
from hone.scratch import scratch_folder
from hone.storage.base import Store, sha256_of
from hone.tables import Table

ROWS_PER_GROUP = 8_192
ROWS_PER_PART = 65_536
AHEAD = 4


class Docs(Protocol):
    """Documents that are searched: the table docs, or rows like its from elsewhere."""

    rows: int

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, a few thousand at a time."""
        ...


class TableReader:
    """A table another stage wrote. Every part is checked against its sha256 before its first use."""

    def __init__(self, table: Table, output: Output, prefix: str, store: Store, scratch: Path) -> None:
        self.table, self.output, self.rows = table, output, output.rows
        self._prefix, self._store, self._scratch = prefix, store, scratch

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, a few thousand at a time."""
        for path in fetch_parts(self._store, self._prefix, self.output.parts, self._scratch):
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=ROWS_PER_GROUP, columns=columns)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """The whole table, or some of its columns, in memory."""
        schema = self.table.schema
        wanted = pa.schema([schema.field(name) for name in columns]) if columns else schema
        return pa.Table.from_batches([batch.cast(wanted) for batch in self.batches(columns)], schema=wanted)


class TableWriter:
    """Writes one table, or one bucket of it, as parts of a fixed number of rows."""

    def __init__(self, table: Table, folder: Path, bucket: int) -> None:
        self.table, self.folder, self.bucket = table, folder, bucket
        self._waiting: list[pa.Table] = []
        self._rows = self._written = 0
        self._file: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Appends rows of the declared schema."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        self._waiting.append(table.cast(self.table.schema))
        self._rows += table.num_rows
        if self._rows >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def close(self) -> None:
        self._flush(1)
        self._end_part()

    def _flush(self, least: int) -> None:
        waiting = pa.concat_tables(self._waiting) if self._waiting else self.table.schema.empty_table()
        while waiting.num_rows >= least:
            self._write_group(waiting.slice(0, ROWS_PER_GROUP))
            waiting = waiting.slice(ROWS_PER_GROUP)
        self._waiting, self._rows = [waiting], waiting.num_rows

    def _write_group(self, group: pa.Table) -> None:
        if self._file is None:
            number = self._written // ROWS_PER_PART
            path = self.folder / f"{self.bucket:05d}-{number:05d}.parquet"
            self._file = pq.ParquetWriter(path, self.table.schema, compression="zstd")
        self._file.write_table(group.combine_chunks())
        self._written += group.num_rows
        if self._written % ROWS_PER_PART == 0:
            self._end_part()

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def fetch_part(store: Store, prefix: str, part: Part, scratch: Path) -> Path:
    """A part as a local file, verified. Raises UserError naming it if its bytes are not those of the manifest."""
    key = f"{prefix}/{part.path}"
    sha256 = ""
    for anew in (False, True):  # read again before it is believed: a proxy may have answered in the store's place
        with suppress(FileNotFoundError):
            path, sha256 = store.fetch(key, scratch, anew=anew)
            if sha256 == part.sha256:
                return path
    log.error("part damaged", part=key, missing=not sha256)
    raise UserError(f"{key} in {store.uri} is missing or damaged; {remedy(prefix)}")


def verify_stored(store: Store, prefix: str, parts: Sequence[Part]) -> list[str]:
    """The keys of those parts that the store does not hold with the right bytes; every byte is read."""

    def whole(part: Part) -> bool:
        with scratch_folder() as scratch:
            try:
                return fetch_part(store, prefix, part, scratch).stat().st_size == part.bytes
            except UserError:
                return False

    with ThreadPoolExecutor(AHEAD) as pool:
        looks = [pool.submit(copy_context().run, whole, part) for part in parts]
        return [f"{prefix}/{part.path}" for part, look in zip(parts, looks, strict=True) if not look.result()]


def refuse_unstored(store: Store, prefix: str, parts: Sequence[Part]) -> None:
    """Reads back what was just stored, before anything vouches for it. Raises TransientError."""
    for key in verify_stored(store, prefix, parts):
        raise TransientError(f"{store.uri} said that it had stored {key}, and has other bytes or none; run again")


def fetch_parts(store: Store, prefix: str, parts: Sequence[Part], scratch: Path) -> Iterator[Path]:
    """Parts as verified local files, in order; a few are fetched ahead of the reader."""
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[Path]] = deque()
        for part in parts:
            waiting.append(pool.submit(copy_context().run, fetch_part, store, prefix, part, scratch))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def fetch_folder(store: Store, manifest: Manifest, name: str, scratch: Path) -> Path:
    """An output folder as a local path, every file verified."""
    parts = manifest.outputs[name].parts
    paths = list(fetch_parts(store, manifest.prefix, parts, scratch))
    depth = len(Path(parts[0].path).parts) - 1
    return paths[0].parents[depth - 1]


def upload(folder: Path, name: str, store: Store, prefix: str) -> Output:
    """Uploads the files of one output. The content is part of their names: no writer can spoil another's result."""
    is_table = isinstance(tables.OUTPUTS[name], Table)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(AHEAD) as pool:
        hashes = list(pool.map(sha256_of, files))
    whole = digest_of(hashes)[:8]
    parts: list[Part] = []
    for file, sha256 in zip(files, hashes, strict=True):
        path = f"{name}/{file.stem}-{sha256[:8]}{file.suffix}" if is_table else f"{name}-{whole}/{_below(file, folder)}"
        rows = pq.read_metadata(file).num_rows if is_table else 0
        parts.append(Part(path=path, rows=rows, bytes=file.stat().st_size, sha256=sha256))
    with ThreadPoolExecutor(AHEAD) as pool:
        keys = [f"{prefix}/{part.path}" for part in parts]
        list(pool.map(store.put, keys, files))
    return output_of(parts)


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
