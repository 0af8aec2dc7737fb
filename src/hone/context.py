"""What a running stage may touch: its inputs, its outputs, its memos, and where to leave facts and costs."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from hone import tables
from hone.config import StageConfig
from hone.errors import UserError
from hone.inputs import hubs, references
from hone.results.content_cache import ContentCache
from hone.results.manifest import Manifest, Output, lineage, output_of
from hone.results.table_io import TableReader, TableWriter, fetch_folder, upload
from hone.spent import growing
from hone.storage.base import Store
from hone.tables import Table

ROWS_PER_BUCKET = 1_024
MOST_BUCKETS = 256


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` equal shares of a sharded stage."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """From `i/n` with 0 <= i < n. Raises UserError."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise UserError(f"--shard {text!r} is not i/n with 0 <= i < n, such as 0/4")
        return cls(int(index), int(count))


@dataclass(frozen=True)
class Plan:
    """A stage about to run: its settings, what it reads and the fingerprint that follows."""

    stage: str
    config: StageConfig
    inputs: dict[str, Manifest]
    sources: dict[str, str]
    fingerprint: str

    @property
    def prefix(self) -> str:
        return f"{self.stage}/{self.fingerprint}"


@dataclass(frozen=True)
class Bucket:
    """Rows that belong together by the hash of a key: the unit of work of a sharded stage."""

    number: int
    rows: pa.Table


class Job:
    """What a running stage may touch: its inputs, its outputs, its memos, and where to leave facts and costs."""

    def __init__(self, plan: Plan, store: Store, scratch: Path, shard: Shard) -> None:
        self.plan, self.store, self.scratch, self.shard = plan, store, scratch, shard
        self.facts: dict[str, Any] = {}
        self.cost: Counter[str] = Counter()
        self.afterwards: list[Callable[[], None]] = []
        """What to do once the result is in the store, such as clearing up."""
        self._out = scratch / "outputs"
        self._digests = dict(plan.sources)

    @cached_property
    def ancestors(self) -> dict[str, Manifest]:
        """The manifests of all stages before, by stage, in the order of the flow."""
        assert self.plan.config.reads_history, f"{self.plan.stage} reads history that its fingerprint does not hold"
        return lineage(self.store, self.plan.inputs)

    def table(self, name: str) -> TableReader:
        """An input table, by the name that it is read under; one that a run without training has not is empty."""
        table = cast(Table, tables.OUTPUTS[name.rpartition("/")[2]])
        manifest = self.plan.inputs.get(name)
        if manifest is None:
            return TableReader(table, output_of([]), "", self.store, self.scratch)
        return TableReader(table, manifest.output(name), manifest.prefix, self.store, self.scratch)

    def folder(self, name: str) -> Path:
        """An input folder, as a local path."""
        manifest = self.plan.inputs[name]
        return fetch_folder(self.store, manifest, name, self.scratch)

    def source(self, reference: str) -> Path:
        """The local path of outside data that a setting refers to. Raises UserError if it is missing."""
        path = references.local_path(reference, self.scratch)
        if reference.startswith(hubs.SCHEME):
            self.facts.setdefault("commits", {})[reference] = hubs.commit_of(path)
        return path

    def digest(self, reference: str) -> str:
        """sha256 of the content that a setting refers to."""
        if reference not in self._digests:
            self._digests[reference] = references.content_digest(self.source(reference))
        return self._digests[reference]

    def new_folder(self, name: str) -> Path:
        """An output folder to fill."""
        path = self._out / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Leaves NAME.json in the output folder NAME: facts that later stages read."""
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
        (self.new_folder(name) / f"{name}.json").write_text(text, "utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        """NAME.json of the input folder NAME; empty in a run that has none."""
        if name not in self.plan.inputs:
            return {}
        return json.loads((self.folder(name) / f"{name}.json").read_text("utf-8"))

    @contextmanager
    def writer(self, name: str, bucket: int = 0) -> Generator[TableWriter]:
        """A writer of an output table, or of one bucket of it."""
        writer = TableWriter(cast(Table, tables.OUTPUTS[name]), self.new_folder(name), bucket)
        yield writer
        writer.close()

    def publish(self, name: str) -> Output:
        """Uploads an output that has been written."""
        return upload(self.new_folder(name), name, self.store, self.plan.prefix)

    def buckets(self, name: str, by: str, like: str = "", columns: list[str] | None = None) -> Iterator[Bucket]:
        """The buckets of an input table that belong to this shard, each with its rows in table order.

        The number of buckets depends on the table alone, and each is worked on by itself: any number of shards
        writes the same bytes. Two tables that share a key are read side by side if one is divided `like` the other.
        `columns`, in the table's order, are read instead of all.
        """
        reader = self.table(name)
        schema = reader.table.schema if columns is None else pa.schema(map(reader.table.schema.field, columns))
        count = max(1, min(MOST_BUCKETS, -(-self.table(like or name).rows // ROWS_PER_BUCKET)))
        mine = range(self.shard.index, count, self.shard.count)
        folder = self.scratch / f"buckets-{name}"
        folder.mkdir(exist_ok=True)
        files = {number: folder / f"{number:05d}.arrow" for number in mine}
        with growing("docs" if name == "docs" else "queries"), ExitStack() as open_files:
            # Streams that hold no rows back: memory does not grow with the table.
            streams = {number: open_files.enter_context(_stream(file, schema)) for number, file in files.items()}
            for batch in reader.batches(columns):
                places = np.array([_bucket(key, count) for key in batch.column(by).to_pylist()])
                for number in mine:
                    chosen = np.flatnonzero(places == number)
                    if len(chosen):
                        streams[number].write_batch(batch.take(pa.array(chosen)).cast(schema))
        for number, file in files.items():
            with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
                rows = stream.read_all()
            file.unlink()
            yield Bucket(number, rows)

    def cache(self, name: str, identity: str, type: pa.DataType) -> ContentCache:
        """The content cache called `name` of one identity; see `hone.results.content_cache`."""
        return ContentCache(self.store, name, identity, type, self.scratch)


@contextmanager
def _stream(file: Path, schema: pa.Schema) -> Generator[pa.RecordBatchStreamWriter]:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, schema, options=options) as stream:
        yield stream


def _bucket(key: str, count: int) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little") % count
