"""The results of all shards of a stage as one."""

from collections import Counter
from typing import Any, cast

from hone.context import Plan, Shard
from hone.engine.commit import commit, finished, manifest_key, manifest_of
from hone.errors import UserError
from hone.results.manifest import Manifest, Output, output_of
from hone.spent import Spent
from hone.stages import stage
from hone.storage.base import Store
from hone.storage.leases import leased


def merge(todo: Plan, store: Store, shards: int) -> Manifest:
    """Joins the results of all shards into one. Raises UserError naming the shards that are not finished."""
    with leased(store, [todo.prefix]):
        return _merge(todo, store, shards)


def _merge(todo: Plan, store: Store, shards: int) -> Manifest:
    results = [finished(store, todo, Shard(index, shards)) for index in range(shards)]
    whole = [result for result in results if result is not None]
    if len(whole) < shards:
        missing = [str(index) for index, result in enumerate(results) if result is None]
        raise UserError(f"{todo.stage} has no result yet for shard {', '.join(missing)} of {shards}; run them first")
    outputs: dict[str, Output] = {}
    for name in stage(todo.stage).WRITES:
        # Folders are the same in every shard: equal parts count once.
        parts = {part.path: part for result in whole for part in result.outputs[name].parts}
        outputs[name] = output_of([parts[path] for path in sorted(parts)])
    cost = sum((Counter(result.cost) for result in whole), Counter[str]())
    facts = merge_facts([result.facts for result in whole])
    seconds, overhead = sum(one.seconds for one in whole), sum(one.overhead for one in whole)
    manifest = manifest_of(todo, outputs, facts, cost, seconds, overhead, _together(whole))
    return commit(store, manifest_key(todo, Shard()), manifest)


def _together(shards: list[Manifest]) -> dict[str, Spent]:
    """What all shards spent; what is the same for any corpus, each of them did."""
    units = {unit for one in shards for unit in one.spent}
    both = {unit: [one.spent.get(unit, (0.0, 0.0)) for one in shards] for unit in units}
    return {unit: (sum(clock for clock, _ in each), sum(used for _, used in each)) for unit, each in both.items()}


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
