"""What a finished result is: a manifest, committed last, whose parts are all there."""

from collections.abc import Mapping
from typing import Any, cast

from hone import __version__
from hone.context import Plan, Shard
from hone.engine.fingerprint import code_digest
from hone.errors import UserError
from hone.log import log
from hone.results.manifest import Manifest, Output, damaged, digest_of, load_manifest, missing_parts, remedy
from hone.results.table_io import verify_stored
from hone.spent import Spent
from hone.stages import stage
from hone.storage.base import Store


def finished(store: Store, todo: Plan, shard: Shard | None = None) -> Manifest | None:
    """The manifest of a finished result whose parts are all there, or None."""
    manifest = load_manifest(store, manifest_key(todo, shard or Shard()))
    if manifest is None:
        return None
    if set(manifest.outputs) != set(stage(todo.stage).WRITES):
        wanted = f"it must hold {', '.join(stage(todo.stage).WRITES)}"
        raise damaged(store, manifest_key(todo, shard or Shard()), wanted)
    sizes = {stored.key: stored.size for stored in store.objects(todo.prefix)}
    for key in verify_stored(store, todo.prefix, missing_parts(manifest, sizes)):
        raise UserError(f"{key} in {store.uri} is missing or cut short; {remedy(todo.prefix)}")
    return manifest


def manifest_of(
    todo: Plan,
    outputs: dict[str, Output],
    facts: dict[str, Any],
    cost: Mapping[str, float],
    seconds: float,
    overhead: float = 0.0,
    spent: Mapping[str, Spent] | None = None,
) -> Manifest:
    before = sorted({manifest.history for manifest in todo.inputs.values()})
    return Manifest(
        stage=todo.stage,
        fingerprint=todo.fingerprint,
        code=code_digest(todo.stage, todo.config),
        version=__version__,
        config=todo.config.model_dump(mode="json"),
        sources=todo.sources,
        inputs={name: manifest.prefix for name, manifest in todo.inputs.items()},
        input_digests={name: manifest.output(name).digest for name, manifest in todo.inputs.items()},
        outputs=outputs,
        facts=facts,
        cost=dict(cost),
        history=digest_of([todo.fingerprint, facts, dict(cost), before])[:16],
        seconds=round(seconds, 3),
        overhead=round(overhead, 3),
        spent={unit: (round(clock, 3), round(used, 3)) for unit, (clock, used) in sorted((spent or {}).items())},
    )


def commit(store: Store, key: str, manifest: Manifest) -> Manifest:
    if store.create(key, manifest.stored()):
        log.info("committed", manifest=key)
        return manifest
    log.info("adopted", manifest=key)
    return cast(Manifest, load_manifest(store, key))


def manifest_key(todo: Plan, shard: Shard) -> str:
    name = "manifest" if shard.count == 1 else f"shard-{shard.index:05d}-of-{shard.count:05d}"
    return f"{todo.prefix}/{name}.json"
