"""Which results a run's name stands for; never read to decide whether a stage is done."""

import json
import re
from collections.abc import Mapping
from typing import cast

from hone.errors import UserError
from hone.results.manifest import Manifest, load_manifest
from hone.storage.base import Store


def record(store: Store, run_name: str, done: Mapping[str, Manifest]) -> None:
    """Notes which results a run's name stands for; never read to decide whether a stage is done."""
    prefixes = {**recorded(store, run_name), **{name: manifest.prefix for name, manifest in done.items()}}
    if prefixes != recorded(store, run_name):
        store.replace(_record_key(run_name), json.dumps(prefixes, indent=1).encode())


def recorded(store: Store, run_name: str) -> dict[str, str]:
    """Stage to result prefix, as last noted for a run's name; empty for an unknown name."""
    data = store.read(_record_key(run_name))
    if data is None:
        return {}
    try:
        found = cast(object, json.loads(data))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _damaged(store, run_name, "it is no JSON object")
    for name, prefix in cast(dict[str, object], found).items():
        if not isinstance(prefix, str) or not re.fullmatch(rf"{re.escape(name)}/[0-9a-f]{{16}}", prefix):
            raise _damaged(store, run_name, f"{name[:40]!r} is no result")
    return cast(dict[str, str], found)


def _damaged(store: Store, run_name: str, flaw: str) -> UserError:
    mend = "delete it, and `hone run` finds the results again"
    return UserError(f"{_record_key(run_name)} in {store.uri} is damaged ({flaw}); {mend}")


def results(store: Store, run_name: str) -> dict[str, Manifest]:
    """The manifests that a run's name stands for. Raises UserError if there is no such run."""
    prefixes = recorded(store, run_name)
    if not prefixes:
        raise UserError(f"there is no run called {run_name!r} in {store.uri}; `hone run` makes one")
    loaded = {name: load_manifest(store, f"{prefix}/manifest.json") for name, prefix in prefixes.items()}
    return {name: manifest for name, manifest in loaded.items() if manifest is not None}


def _record_key(run_name: str) -> str:
    return f"runs/{run_name}.json"
