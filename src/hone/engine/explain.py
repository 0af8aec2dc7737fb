"""Why a stage would run: what differs from the last result of its run."""

from collections.abc import Mapping
from typing import Any, cast

from hone.context import Plan
from hone.engine.record import last_known
from hone.results.manifest import load_manifest
from hone.storage.base import Store


def explain(store: Store, run_name: str, todo: Plan) -> str:
    """Why a stage has no result: what differs from the last one of this run."""
    last = last_known(store, run_name).get(todo.stage)
    before = last and load_manifest(store, f"{last}/manifest.json")
    if not before:
        return "no result yet"
    same = before.sources.values()
    changes = [
        *differences("", _settings(before.config, before.sources), _settings(todo.config.model_dump(), todo.sources)),
        *(f"{reference} has other content" for reference, digest in todo.sources.items() if digest not in same),
        *(
            f"{table} changed"
            for table, manifest in todo.inputs.items()
            if before.input_digests.get(table) != manifest.output(table).digest
        ),
    ]
    return "; ".join(changes) or "its code changed"


def _settings(config: Any, references: Mapping[str, str]) -> Any:
    """Settings without the names of outside data: its content counts, wherever it lies."""
    if isinstance(config, dict):
        return {key: _settings(value, references) for key, value in cast(dict[str, Any], config).items()}
    if isinstance(config, (tuple, list)):
        return [_settings(value, references) for value in cast(list[Any], config)]
    return "" if isinstance(config, str) and config in references else config


def differences(path: str, before: Any, after: Any) -> list[str]:
    """What differs between two settings, one line for each key."""
    return [f"{key} {old!r} -> {new!r}" for key, old, new in differing(path, before, after)]


def differing(path: str, before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """The keys in which two settings differ, each with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = cast(dict[str, Any], before), cast(dict[str, Any], after)
        keys = sorted({*old, *new})
        return [change for key in keys for change in differing(f"{path}.{key}", old.get(key), new.get(key))]
    return [] if before == after else [(path.lstrip("."), before, after)]
