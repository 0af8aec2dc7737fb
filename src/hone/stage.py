"""READ SECOND: the one shape of a stage, and `execute`, the only door to it.

A stage is a module with five names: IMAGE, READS, WRITES, Config, run. Its result lives in the store under
`<stage>/<fingerprint>/`, where the fingerprint is a hash of its code, settings and inputs, and is done when the
manifest, written last, is there. The same inputs and settings therefore find the same result; changed ones never do.
"""

import errno
import hashlib
import json
import sys
import tempfile
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from hone import __version__, launch, sources, tables
from hone.code import code_digest
from hone.errors import UserError
from hone.log import kept, log
from hone.memo import Memo
from hone.store import Store, checked_key, sha256_of
from hone.tables import Folder, Table

HELPER_SECONDS = 0.5
ROWS_PER_GROUP = 8_192
ROWS_PER_PART = 65_536
ROWS_PER_BUCKET = 1_024
MOST_BUCKETS = 256
AHEAD = 4


class Settings(BaseModel):
    """The base of everything a user sets: immutable, unknown keys refused, a docstring under each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StageConfig(Settings):
    """The settings of one stage."""

    sharded: ClassVar[bool] = False
    together: ClassVar[bool] = False
    """Several processes of one launch (`torchrun`) work on the stage together."""


class Resource:
    """Marks a setting that says how or where to run: it shapes no result and enters no fingerprint."""


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


class Part(Settings):
    """One file of an output."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Output(Settings):
    """One table or folder a stage wrote. `digest` is a hash over its parts' hashes."""

    digest: str
    rows: int
    parts: tuple[Part, ...]


class Manifest(Settings):
    """What a stage did, from what, with what result and at what cost."""

    stage: str
    fingerprint: str
    code: str
    version: str
    config: dict[str, Any]
    sources: dict[str, str]
    inputs: dict[str, str]
    """Input name to the prefix of the stage result it was read from."""
    input_digests: dict[str, str]
    outputs: dict[str, Output]
    facts: dict[str, Any]
    cost: dict[str, float]
    seconds: float

    @property
    def prefix(self) -> str:
        return f"{self.stage}/{self.fingerprint}"

    def place(self, name: str) -> str:
        """The key of the folder that holds an output's parts."""
        return f"{self.prefix}/{self.outputs[name].parts[0].path.partition('/')[0]}"


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


class Docs(Protocol):
    """Documents that are searched: the table docs, or rows like its from elsewhere."""

    rows: int

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, a few thousand at a time."""
        ...


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


class Job:
    """What a running stage may touch: its inputs, its outputs, its memos, and where to leave facts and costs."""

    def __init__(self, plan: Plan, store: Store, scratch: Path, shard: Shard) -> None:
        self.plan, self.store, self.scratch, self.shard = plan, store, scratch, shard
        self.facts: dict[str, Any] = {}
        self.cost: Counter[str] = Counter()
        self.afterwards: list[Callable[[], None]] = []
        """What to do once the result is in the store, such as clearing up."""
        self.ancestors: dict[str, Manifest] = lineage(store, plan.inputs)
        self._out = scratch / "outputs"
        self._digests = dict(plan.sources)

    def table(self, name: str) -> TableReader:
        """An input table."""
        manifest = self.plan.inputs[name]
        table = cast(Table, tables.OUTPUTS[name])
        return TableReader(table, manifest.outputs[name], manifest.prefix, self.store, self.scratch)

    def folder(self, name: str) -> Path:
        """An input folder, as a local path."""
        manifest = self.plan.inputs[name]
        return fetch_folder(self.store, manifest, name, self.scratch)

    def source(self, reference: str) -> Path:
        """The local path of outside data that a setting refers to. Raises UserError if it is missing."""
        return sources.local_path(reference, self.scratch)

    def digest(self, reference: str) -> str:
        """sha256 of the content that a setting refers to."""
        if reference not in self._digests:
            self._digests[reference] = sources.content_digest(self.source(reference))
        return self._digests[reference]

    def new_folder(self, name: str) -> Path:
        """An output folder to fill."""
        path = self._out / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextmanager
    def writer(self, name: str, bucket: int = 0) -> Generator[TableWriter]:
        """A writer of an output table, or of one bucket of it."""
        writer = TableWriter(cast(Table, tables.OUTPUTS[name]), self.new_folder(name), bucket)
        yield writer
        writer.close()

    def buckets(self, name: str, by: str, like: str = "") -> Iterator[Bucket]:
        """The buckets of an input table that belong to this shard, each with its rows in table order.

        The number of buckets depends on the table alone, and each is worked on by itself: any number of shards
        writes the same bytes. Two tables that share a key are read side by side if one is divided `like` the other.
        """
        reader = self.table(name)
        count = max(1, min(MOST_BUCKETS, -(-self.table(like or name).rows // ROWS_PER_BUCKET)))
        mine = range(self.shard.index, count, self.shard.count)
        folder = self.scratch / f"buckets-{name}"
        folder.mkdir(exist_ok=True)
        files = {number: folder / f"{number:05d}.arrow" for number in mine}
        with ExitStack() as open_files:
            # Streams that hold no rows back: memory does not grow with the table.
            streams = {number: open_files.enter_context(_stream(file, reader)) for number, file in files.items()}
            for batch in reader.batches():
                places = np.array([_bucket(key, count) for key in batch.column(by).to_pylist()])
                for number in mine:
                    chosen = np.flatnonzero(places == number)
                    if len(chosen):
                        streams[number].write_batch(batch.take(pa.array(chosen)).cast(reader.table.schema))
        for number, file in files.items():
            with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
                rows = stream.read_all()
            file.unlink()
            yield Bucket(number, rows)

    def memo(self, name: str, identity: str, type: pa.DataType) -> Memo:
        """The memo called `name` of one identity; see `hone.memo`."""
        return Memo(self.store, name, identity, type, self.scratch)


def plan(name: str, config: StageConfig, inputs: Mapping[str, Manifest], scratch: Path) -> Plan:
    """What running a stage with these settings on these inputs would be. Raises UserError on a missing input."""
    from hone.stages import stage

    module = stage(name)
    missing = [table for table in module.READS if table not in inputs]
    if missing:
        raise UserError(f"{name} reads {', '.join(missing)}: run the stages before it first")
    chosen = {table: inputs[table] for table in module.READS}
    found = {
        reference: sources.content_digest(sources.local_path(reference, scratch))
        for reference in marked(config, sources.SourceMark)
    }
    identity = {
        "stage": name,
        "code": code_digest(module.__name__),
        "schema": {output: str(_schema(output)) for output in module.WRITES},
        "config": _identity(config, found),
        "inputs": {table: manifest.outputs[table].digest for table, manifest in chosen.items()},
    }
    return Plan(name, config, chosen, found, _digest_of(identity)[:16])


def execute(todo: Plan, store: Store, scratch: Path, shard: Shard | None = None) -> tuple[Manifest, bool]:
    """Runs a stage, or finds that its result is there already; says which by the second value (True: it ran).

    Everything is written in `scratch` first and uploaded when the stage is through; the manifest comes last, by one
    conditional write: of two writers one wins and the other finds its result.
    Raises UserError for mistakes of the user, with nothing written.
    """
    shard = shard or Shard()
    if shard.count > 1 and not todo.config.sharded:
        raise UserError(f"{todo.stage} is not sharded; leave out --shard")
    done = finished(store, todo, shard)
    if done:
        log.info("up to date", stage=todo.stage, result=done.prefix)
        return done, False
    if launch.is_helper():
        return _help(todo, store, scratch, shard), False
    store.check_writable()
    share = f"{shard.index}/{shard.count}"
    with _disk_full_in_one_sentence(scratch), kept(stage=todo.stage, shard=share) as lines:
        log.info("started", fingerprint=todo.fingerprint)
        job = Job(todo, store, scratch, shard)
        manifest = _made(todo, store, job)
        _keep_log(store, todo, scratch, lines)
        committed = _commit(store, _manifest_key(todo, shard), manifest)
        for task in job.afterwards:
            task()
        return committed, True


def redo(todo: Plan, store: Store, scratch: Path, before: Manifest) -> bool:
    """Makes a damaged result again in its place; says whether its bytes are the same. Raises UserError."""
    store.check_writable()
    with _disk_full_in_one_sentence(scratch), kept(stage=todo.stage):
        job = Job(todo, store, scratch, Shard())
        manifest = _made(todo, store, job)
        same = manifest.outputs == before.outputs
        if not same:
            store.replace(_manifest_key(todo, Shard()), manifest.model_dump_json(indent=1).encode())
        for task in job.afterwards:
            task()
    return same


def _made(todo: Plan, store: Store, job: Job) -> Manifest:
    """Runs a stage and uploads what it wrote, but does not commit it."""
    started = time.monotonic()
    _run(job)
    outputs = {name: _publish(job, name) for name in _writes(todo.stage)}
    seconds = time.monotonic() - started
    if gpus := _gpus():
        spent: dict[str, Any] = {"gpu_seconds": round(seconds * gpus, 3)}
        job.cost.update({} if "gpu_seconds" in job.cost else spent)
    rows = {name: output.rows for name, output in outputs.items()}
    log.info("finished", seconds=round(seconds, 3), rows=rows, cost=dict(job.cost), faults=dict(store.faults))
    return _manifest(todo, outputs, job.facts, job.cost, seconds)


def _gpus() -> int:
    """GPUs that this process has begun to use. Never imports torch."""
    torch: Any = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch and torch.cuda.is_initialized() else 0


def _keep_log(store: Store, todo: Plan, scratch: Path, lines: list[str]) -> None:
    """The events of a stage, beside its result."""
    file = scratch / "log.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    store.put(f"{todo.prefix}/logs/{uuid.uuid4().hex}.jsonl", file)


@contextmanager
def _disk_full_in_one_sentence(scratch: Path) -> Generator[None]:
    """Turns a full disk into one sentence. Raises UserError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"the disk is full ({error.filename or scratch}); free space and run again") from error
        raise


def merge(todo: Plan, store: Store, shards: int) -> Manifest:
    """Joins the results of all shards into one. Raises UserError naming the shards that are not finished."""
    results = [finished(store, todo, Shard(index, shards)) for index in range(shards)]
    whole = [result for result in results if result is not None]
    if len(whole) < shards:
        missing = [str(index) for index, result in enumerate(results) if result is None]
        raise UserError(f"{todo.stage} has no result yet for shard {', '.join(missing)} of {shards}; run them first")
    outputs: dict[str, Output] = {}
    for name in _writes(todo.stage):
        parts = sorted((part for result in whole for part in result.outputs[name].parts), key=lambda p: p.path)
        outputs[name] = _output(parts)
    cost = sum((Counter(result.cost) for result in whole), Counter[str]())
    facts = merge_facts([result.facts for result in whole])
    manifest = _manifest(todo, outputs, facts, cost, sum(result.seconds for result in whole))
    return _commit(store, _manifest_key(todo, Shard()), manifest)


def merge_facts(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """Facts of all shards as one: counts are added, mappings merged, anything else taken from the first that has it."""
    merged: dict[str, Any] = {}
    for facts in shards:
        for key, value in facts.items():
            if isinstance(value, dict):
                merged[key] = merge_facts([merged.get(key, {}), cast(dict[str, Any], value)])
            elif isinstance(value, int) and not isinstance(value, bool) and key in merged:
                merged[key] += value
            else:
                merged.setdefault(key, value)
    return merged


def finished(store: Store, todo: Plan, shard: Shard | None = None) -> Manifest | None:
    """The manifest of a finished result whose parts are all there, or None."""
    manifest = load_manifest(store, _manifest_key(todo, shard or Shard()))
    if manifest is None:
        return None
    sizes = {found.key: found.size for found in store.objects(todo.prefix)}
    for key in missing_parts(manifest, sizes):
        raise UserError(f"{key} in {store.uri} is missing or cut short; {mend(todo.prefix)}")
    return manifest


def missing_parts(manifest: Manifest, sizes: Mapping[str, int]) -> list[str]:
    """The keys of the parts that are not among the stored keys with the right size in bytes."""
    parts = (part for output in manifest.outputs.values() for part in output.parts)
    keys = ((f"{manifest.prefix}/{part.path}", part.bytes) for part in parts)
    return [key for key, size in keys if sizes.get(key) != size]


def load_manifest(store: Store, key: str) -> Manifest | None:
    """A manifest, or None if there is none. Raises UserError if it is not one that was written under this key."""
    data = store.read(key)
    if data is None:
        return None
    prefix = key.rpartition("/")[0]
    try:
        manifest = Manifest.model_validate_json(data)
        flaw = _flaw(manifest, prefix)
    except (ValidationError, UserError) as error:
        flaw = str(error).partition("\n")[0]
    else:
        if not flaw:
            return manifest
    log.error("manifest damaged", manifest=key, flaw=flaw)
    raise UserError(f"{key} in {store.uri} is damaged ({flaw}); {mend(prefix)}")


def _flaw(manifest: Manifest, prefix: str) -> str:
    """What shows that a manifest is not as it was written, empty if nothing does. Raises UserError on unsafe paths."""
    if manifest.prefix != prefix:
        return f"it belongs to {manifest.prefix[:80]!r}"
    for key in manifest.inputs.values():
        checked_key(key)
    for name, output in manifest.outputs.items():
        if output != _output(list(output.parts)):
            return f"{name} is not the sum of its parts"
        for part in output.parts:
            if not checked_key(part.path).startswith((f"{name}/", f"{name}-")) or min(part.rows, part.bytes) < 0:
                return f"{part.path[:80]!r} is no part of {name}"
    return ""


def lineage(store: Store, inputs: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The manifests of every stage that `inputs` come from, by stage."""
    found: dict[str, Manifest] = {}
    queue = list(inputs.values())
    while queue:
        manifest = queue.pop()
        if manifest.stage not in found:
            found[manifest.stage] = manifest
            prefixes = sorted(set(manifest.inputs.values()))
            loaded = (load_manifest(store, f"{prefix}/manifest.json") for prefix in prefixes)
            queue.extend(parent for parent in loaded if parent is not None)
    return found


def fetch_part(store: Store, prefix: str, part: Part, scratch: Path) -> Path:
    """A part as a local file, verified. Raises UserError naming it if its bytes are not those of the manifest."""
    key = f"{prefix}/{part.path}"
    try:
        path = store.fetch(key, scratch)
    except FileNotFoundError:
        path = None
    if path is None or sha256_of(path) != part.sha256:
        log.error("part damaged", part=key, missing=path is None)
        raise UserError(f"{key} in {store.uri} is missing or damaged; {mend(prefix)}")
    return path


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


def mend(prefix: str) -> str:
    """What to do about a damaged result."""
    return f"`hone repair {prefix}` makes it again"


def fetch_folder(store: Store, manifest: Manifest, name: str, scratch: Path) -> Path:
    """An output folder as a local path, every file verified."""
    parts = manifest.outputs[name].parts
    paths = list(fetch_parts(store, manifest.prefix, parts, scratch))
    depth = len(Path(parts[0].path).parts) - 1
    return paths[0].parents[depth - 1]


def _run(job: Job) -> None:
    from hone.stages import stage

    stage(job.plan.stage).run(job.plan.config, job)


def _help(todo: Plan, store: Store, scratch: Path, shard: Shard) -> Manifest:
    """What a process does that is not the first of its launch: its part of the work, then wait for the result.

    If the first fails, whoever launched them ends this one too.
    """
    if todo.config.together:
        _run(Job(todo, store, scratch, shard))
    while not (done := finished(store, todo, shard)):
        time.sleep(HELPER_SECONDS)
    return done


def _writes(name: str) -> tuple[str, ...]:
    from hone.stages import stage

    return stage(name).WRITES


def _publish(job: Job, name: str) -> Output:
    """Uploads the files of one output. The content is part of their names: no writer can spoil another's result."""
    folder = job.new_folder(name)
    is_table = isinstance(tables.OUTPUTS[name], Table)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = [sha256_of(file) for file in files]
    whole = _digest_of(hashes)[:8]
    parts: list[Part] = []
    for file, sha256 in zip(files, hashes, strict=True):
        path = f"{name}/{file.stem}-{sha256[:8]}{file.suffix}" if is_table else f"{name}-{whole}/{_below(file, folder)}"
        rows = pq.read_metadata(file).num_rows if is_table else 0
        parts.append(Part(path=path, rows=rows, bytes=file.stat().st_size, sha256=sha256))
    with ThreadPoolExecutor(AHEAD) as pool:
        keys = [f"{job.plan.prefix}/{part.path}" for part in parts]
        list(pool.map(job.store.put, keys, files))
    return _output(parts)


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _output(parts: list[Part]) -> Output:
    digest = _digest_of([part.sha256 for part in parts])
    return Output(digest=digest, rows=sum(part.rows for part in parts), parts=tuple(parts))


def _manifest(
    todo: Plan, outputs: dict[str, Output], facts: dict[str, Any], cost: Mapping[str, float], seconds: float
) -> Manifest:
    return Manifest(
        stage=todo.stage,
        fingerprint=todo.fingerprint,
        code=code_digest(f"hone.stages.{todo.stage}"),
        version=__version__,
        config=todo.config.model_dump(mode="json"),
        sources=todo.sources,
        inputs={name: manifest.prefix for name, manifest in todo.inputs.items()},
        input_digests={name: manifest.outputs[name].digest for name, manifest in todo.inputs.items()},
        outputs=outputs,
        facts=facts,
        cost=dict(cost),
        seconds=round(seconds, 3),
    )


def _commit(store: Store, key: str, manifest: Manifest) -> Manifest:
    if store.create(key, manifest.model_dump_json(indent=1).encode()):
        log.info("committed", manifest=key)
        return manifest
    log.info("adopted", manifest=key)
    return cast(Manifest, load_manifest(store, key))


def _manifest_key(todo: Plan, shard: Shard) -> str:
    name = "manifest" if shard.count == 1 else f"shard-{shard.index:05d}-of-{shard.count:05d}"
    return f"{todo.prefix}/{name}.json"


def _schema(name: str) -> pa.Schema | str:
    output = tables.OUTPUTS[name]
    return output.name if isinstance(output, Folder) else output.schema


def marked(value: object, mark: type, notes: tuple[object, ...] = ()) -> Iterator[str]:
    """The non-empty settings that carry a mark, however deeply nested."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from marked(getattr(value, name), mark, tuple(field.metadata))
    elif isinstance(value, (tuple, list)):
        for item in cast(tuple[object, ...], value):
            yield from marked(item, mark, notes)
    elif value and any(isinstance(note, mark) for note in notes):
        yield cast(str, value)


def _identity(value: object, found: Mapping[str, str], notes: tuple[object, ...] = ()) -> Any:
    """The settings that shape a result: resources left out, outside data by its content."""
    if isinstance(value, BaseModel):
        fields = ((name, tuple(field.metadata)) for name, field in type(value).model_fields.items())
        kept = ((name, marks) for name, marks in fields if not any(isinstance(mark, Resource) for mark in marks))
        return {name: _identity(getattr(value, name), found, marks) for name, marks in kept}
    if isinstance(value, (tuple, list)):
        return [_identity(item, found, notes) for item in cast(tuple[object, ...], value)]
    marked = value and any(isinstance(note, sources.SourceMark) for note in notes)
    return found[cast(str, value)] if marked else value


def _digest_of(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def _stream(file: Path, reader: TableReader) -> Generator[pa.RecordBatchStreamWriter]:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, reader.table.schema, options=options) as stream:
        yield stream


def _bucket(key: str, count: int) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little") % count


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A temporary folder for one stage, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="hone-") as folder:
        yield Path(folder)
