"""Which results a run's name stands for; never read to decide whether a stage is done.

A record is one plan: results that follow from each other and from the settings that were run last. What is not done yet
is absent.
"""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from pydantic import ValidationError

from hone.config import StageConfig, identity
from hone.engine.fingerprint import code_digest
from hone.errors import UserError
from hone.results.manifest import Manifest, load_manifest
from hone.stages import STAGES, stage
from hone.storage.base import Object, Store
from hone.storage.sealed import SealError, read_sealed, seal


def record(
    store: Store,
    run_name: str,
    done: Mapping[str, Manifest],
    plan: Mapping[str, StageConfig] | None = None,
    at: str = "",
) -> None:
    """Notes which results a run's name stands for: those that are `done`, and of the ones noted before those that
    follow from them under the same `plan`. `at` is the result that is being made, so that gc leaves its parts alone."""
    known = _known(store, run_name)
    kept = dict(done)
    for name in STAGES if plan else ():
        before = None if name in kept else _loaded(store, known["stages"].get(name))
        if before and _follows(before, kept) and _same(before, cast(Mapping[str, StageConfig], plan)[name]):
            kept[name] = before
    stages = {name: manifest.prefix for name, manifest in kept.items()}
    wanted = {"stages": stages, "at": at, "before": {**known["before"], **known["stages"], **stages}}
    if wanted != known:
        store.replace(_record_key(run_name), seal(wanted))


@contextmanager
def unless_refused(store: Store, run_name: str) -> Generator[None]:
    """A block after which the record is as it was before, if it ends with a mistake of the user."""
    key = _record_key(run_name)
    before = store.read(key)
    try:
        yield
    except UserError:
        if before is None:
            store.delete(Object(key, 0, 0.0))
        elif store.read(key) != before:
            store.replace(key, before)
        raise


def recorded(store: Store, run_name: str) -> dict[str, str]:
    """Stage to result prefix, as last noted for a run's name; empty for an unknown name."""
    return _known(store, run_name)["stages"]


def last_known(store: Store, run_name: str) -> dict[str, str]:
    """Stage to the prefix of the last result that this name ever stood for: what a new plan is compared with."""
    known = _known(store, run_name)
    return {**known["before"], **known["stages"]}


def needed(store: Store, run_name: str) -> set[str]:
    """The results that a run stands for, and the one that it was making when it last said so."""
    known = _known(store, run_name)
    return {*known["stages"].values(), *filter(None, (known["at"],))}


def results(store: Store, run_name: str) -> dict[str, Manifest]:
    """The manifests that a run's name stands for. Raises UserError if there is no such run.

    A result that was not made from the others, as records of older versions may hold, is left out.
    """
    prefixes = recorded(store, run_name)
    if not prefixes:
        raise UserError(f"there is no run called {run_name!r} in {store.uri}; `hone run` makes one")
    done: dict[str, Manifest] = {}
    for name in STAGES:
        manifest = _loaded(store, prefixes.get(name))
        if manifest and _follows(manifest, done):
            done[name] = manifest
    return done


def results_if_any(store: Store, run_name: str) -> dict[str, Manifest]:
    """The same; empty if there is no such run."""
    return results(store, run_name) if recorded(store, run_name) else {}


def _follows(manifest: Manifest, kept: Mapping[str, Manifest]) -> bool:
    """Whether a result was made from what those wrote, be it these very results or others of the same content."""
    prefixes = {one.prefix for one in kept.values()}
    contents = {(table, output.digest) for one in kept.values() for table, output in one.outputs.items()}
    return all(
        prefix in prefixes or (table, manifest.input_digests.get(table)) in contents
        for table, prefix in manifest.own_inputs.items()
    )


def _same(before: Manifest, config: StageConfig) -> bool:
    """Whether a result is what these settings and this code would make of its inputs."""
    try:
        old = stage(before.stage).Config.model_validate(before.config)
        same = identity(old, before.sources) == identity(config.filled_in(old), before.sources)
    except (KeyError, ValidationError):  # other sources, or settings of another version
        return False
    return same and before.code == code_digest(before.stage, config)


def _loaded(store: Store, prefix: str | None) -> Manifest | None:
    return load_manifest(store, f"{prefix}/manifest.json") if prefix else None


def _known(store: Store, run_name: str) -> dict[str, Any]:
    try:
        record = read_sealed(store, _record_key(run_name))
    except SealError as error:
        raise _damaged(store, run_name, str(error)) from error
    if record is None:
        return {"stages": {}, "at": "", "before": {}}
    known = record if "stages" in record else {"stages": record, "at": "", "before": {}}
    for name, prefix in known["stages"].items() if isinstance(known["stages"], dict) else (("stages", None),):
        if not isinstance(prefix, str) or not re.fullmatch(rf"{re.escape(name)}/[0-9a-f]{{16}}", prefix):
            raise _damaged(store, run_name, f"{name[:40]!r} is not a result")
    return known


def _damaged(store: Store, run_name: str, flaw: str) -> UserError:
    cure = "delete it, and `hone run` finds the results again"
    return UserError(f"{_record_key(run_name)} in {store.uri} is damaged ({flaw}); {cure}")


def _record_key(run_name: str) -> str:
    return f"runs/{run_name}.json"
