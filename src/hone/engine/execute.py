"""READ SECOND: the one shape of a stage, and `execute`, the only door to it.

A stage is a module with five names: IMAGE, READS, WRITES, Config, run. Its result lives in the store under
`<stage>/<fingerprint>/`, where the fingerprint is a hash of its code, settings and inputs, and is done when the
manifest, written last, is there. The same inputs and settings therefore find the same result; changed ones never do.
"""

import sys
import time
import uuid
from pathlib import Path
from typing import Any, cast

from hone import launch
from hone.context import Job, Plan, Shard
from hone.engine.commit import commit, finished, manifest_key, manifest_of
from hone.errors import UserError
from hone.log import kept, log
from hone.results.manifest import Manifest, lineage, missing_parts
from hone.results.table_io import refuse_unstored
from hone.scratch import disk_full_in_one_sentence
from hone.spent import noted
from hone.stages import stage
from hone.storage.base import Store
from hone.storage.leases import leased

HELPER_SECONDS = 0.5


def execute(
    todo: Plan, store: Store, scratch: Path, shard: Shard | None = None, since: float | None = None
) -> tuple[Manifest, bool]:
    """Runs a stage, or finds that its result is there already; says which by the second value (True: it ran).

    `since`, of `time.monotonic`, is when this process began to care for the stage: by default now.

    Everything is written in `scratch` first and uploaded when the stage is through; the manifest comes last, by one
    conditional write: of two writers one wins and the other finds its result.
    Raises UserError for mistakes of the user, with nothing written.
    """
    shard, since = shard or Shard(), time.monotonic() if since is None else since
    if shard.count > 1 and not todo.config.sharded:
        raise UserError(f"{todo.stage} is not sharded; leave out --shard")
    with leased(store, needed(todo, store)):
        done = finished(store, todo, shard)
        if done:
            log.info("up to date", stage=todo.stage, result=done.prefix)
            return done, False
        if launch.is_helper():
            return _help(todo, store, scratch, shard), False
        return _execute(todo, store, scratch, shard, since), True


def needed(todo: Plan, store: Store) -> set[str]:
    """The results that gc must leave alone while a stage runs: its own, and all that it comes from."""
    read = {manifest.prefix for manifest in todo.inputs.values()}
    return {todo.prefix, *read, *(manifest.prefix for manifest in lineage(store, todo.inputs).values())}


def _execute(todo: Plan, store: Store, scratch: Path, shard: Shard, since: float) -> Manifest:
    store.check_writable()
    share = f"{shard.index}/{shard.count}"
    with disk_full_in_one_sentence(scratch), kept(stage=todo.stage, shard=share) as lines:
        log.info("started", fingerprint=todo.fingerprint)
        job = Job(todo, store, scratch, shard)
        manifest = _made(todo, store, job, since)
        _keep_log(store, todo, scratch, lines)
        committed = commit(store, manifest_key(todo, shard), manifest)
        _keep_whole(todo, store, job, manifest)
        for task in job.afterwards:
            task()
        return committed


def redo(todo: Plan, store: Store, scratch: Path, before: Manifest) -> bool:
    """Makes a damaged result again in its place; says whether its bytes are the same. Raises UserError."""
    store.check_writable()
    with leased(store, needed(todo, store)), disk_full_in_one_sentence(scratch), kept(stage=todo.stage):
        job = Job(todo, store, scratch, Shard())
        manifest = _made(todo, store, job, time.monotonic())
        same = manifest.outputs == before.outputs
        if not same:
            store.replace(manifest_key(todo, Shard()), manifest.stored())
        for task in job.afterwards:
            task()
    return same


def _made(todo: Plan, store: Store, job: Job, since: float) -> Manifest:
    """Runs a stage and uploads what it wrote, but does not commit it."""
    started = time.monotonic()
    with noted() as spent:
        stage(todo.stage).run(todo.config, job)
        outputs = {name: job.publish(name) for name in stage(todo.stage).WRITES}
        for output in outputs.values():
            refuse_unstored(store, todo.prefix, output.parts)
    seconds = time.monotonic() - started
    if gpus := _gpus():
        cost = cast(dict[str, float], job.cost)
        cost.setdefault("gpu_seconds", round(seconds * gpus, 3))
    rows = {name: output.rows for name, output in outputs.items()}
    log.info("finished", seconds=round(seconds, 3), rows=rows, cost=dict(job.cost), faults=dict(store.faults))
    return manifest_of(todo, outputs, job.facts, job.cost, seconds, max(0.0, started - since), spent)


def _keep_whole(todo: Plan, store: Store, job: Job, manifest: Manifest) -> None:
    """Uploads again what a gc that took this run for dead removed before the manifest said that it is needed."""
    if missing_parts(manifest, {stored.key: stored.size for stored in store.objects(todo.prefix)}):
        for name in manifest.outputs:
            job.publish(name)


def _gpus() -> int:
    """GPUs that this process has begun to use. Never imports torch."""
    torch: Any = sys.modules.get("torch")
    return int(torch.cuda.device_count()) if torch and torch.cuda.is_initialized() else 0


def _keep_log(store: Store, todo: Plan, scratch: Path, lines: list[str]) -> None:
    """The events of a stage, beside its result."""
    file = scratch / "log.jsonl"
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    store.put(f"{todo.prefix}/logs/{uuid.uuid4().hex}.jsonl", file)


def _help(todo: Plan, store: Store, scratch: Path, shard: Shard) -> Manifest:
    """What a process does that is not the first of its launch: its part of the work, then wait for the result.

    If the first fails, whoever launched them ends this one too.
    """
    if todo.config.together:
        stage(todo.stage).run(todo.config, Job(todo, store, scratch, shard))
    while not (done := finished(store, todo, shard)):
        time.sleep(HELPER_SECONDS)
    return done
