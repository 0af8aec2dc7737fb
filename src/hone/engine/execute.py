"""READ SECOND: the one shape of a stage, and `execute`, the only door to it.

A stage is a module with five names: IMAGE, READS, WRITES, Config, run. Its result lives in the store under
`<stage>/<fingerprint>/`, where the fingerprint is a hash of its code, settings and inputs, and is done when the
manifest, written last, is there. The same inputs and settings therefore find the same result; changed ones never do.
"""

import errno
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from hone import __version__, launch, tables
from hone.config import ModelMark, SourceMark, StageConfig, identity, marked
from hone.context import Job, Plan, Shard
from hone.engine.code_digest import code_digest
from hone.errors import UserError
from hone.inputs import model_folder, references
from hone.log import kept, log
from hone.results.manifest import Manifest, Output, damaged, digest_of, load_manifest, mend, missing_parts, output_of
from hone.stages import stage
from hone.storage.base import Store
from hone.tables import Folder

HELPER_SECONDS = 0.5


def plan(name: str, config: StageConfig, inputs: Mapping[str, Manifest], scratch: Path) -> Plan:
    """What running a stage with these settings on these inputs would be. Raises UserError on a missing input."""
    module = stage(name)
    missing = [table for table in module.READS if table not in {*inputs, *config.without_training}]
    if missing:
        raise UserError(f"{name} reads {', '.join(missing)}: run the stages before it first")
    chosen = {table: inputs[table] for table in module.READS if table in inputs}
    found = {
        reference: references.content_digest(references.local_path(reference, scratch))
        for reference in marked(config, SourceMark)
    }
    for reference in marked(config, ModelMark):
        model_folder.check(references.local_path(reference, scratch))
    shaping = {
        "stage": name,
        "code": code_digest(module.__name__),
        "schema": {output: str(_schema(output)) for output in module.WRITES},
        "config": identity(config, found),
        "inputs": {table: manifest.outputs[table].digest for table, manifest in chosen.items()},
    }
    return Plan(name, config, chosen, found, digest_of(shaping)[:16])


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
    stage(todo.stage).run(todo.config, job)
    outputs = {name: job.publish(name) for name in stage(todo.stage).WRITES}
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
    for name in stage(todo.stage).WRITES:
        parts = sorted((part for result in whole for part in result.outputs[name].parts), key=lambda p: p.path)
        outputs[name] = output_of(parts)
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
    if set(manifest.outputs) != set(stage(todo.stage).WRITES):
        wanted = f"it must hold {', '.join(stage(todo.stage).WRITES)}"
        raise damaged(store, _manifest_key(todo, shard or Shard()), wanted)
    sizes = {found.key: found.size for found in store.objects(todo.prefix)}
    for key in missing_parts(manifest, sizes):
        raise UserError(f"{key} in {store.uri} is missing or cut short; {mend(todo.prefix)}")
    return manifest


def _help(todo: Plan, store: Store, scratch: Path, shard: Shard) -> Manifest:
    """What a process does that is not the first of its launch: its part of the work, then wait for the result.

    If the first fails, whoever launched them ends this one too.
    """
    if todo.config.together:
        stage(todo.stage).run(todo.config, Job(todo, store, scratch, shard))
    while not (done := finished(store, todo, shard)):
        time.sleep(HELPER_SECONDS)
    return done


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


@contextmanager
def scratch_folder() -> Generator[Path]:
    """A temporary folder for one stage, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="hone-") as folder:
        yield Path(folder)
