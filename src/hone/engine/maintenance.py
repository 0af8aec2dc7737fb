"""`hone store` and `hone repair`: what a store holds, whether it is whole, and what differs."""

import uuid
from collections.abc import Iterator, Mapping

from hone.engine import explain, record
from hone.engine.execute import redo
from hone.engine.garbage import runs
from hone.engine.plan import plan
from hone.errors import UserError
from hone.log import about, log
from hone.results.manifest import Manifest, Part, load_manifest
from hone.results.table_io import fetch_part
from hone.scratch import scratch_folder
from hone.stages import STAGES, stage
from hone.storage.base import Object, Store
from hone.storage.sealed import NewerError


def prefixes_of(store: Store, name: str) -> list[str]:
    """The results of a run, or the one result whose prefix is given, in the order of the flow. Raises UserError."""
    if "/" in name:
        return [name.strip("/")]
    known = record.recorded(store, name)
    if not known:
        there = ", ".join(runs(store)) or "none"
        raise UserError(f"there is no run called {name!r} in {store.uri}; the runs there are {there}")
    return [known[stage_name] for stage_name in STAGES if stage_name in known]


def flaws(store: Store, prefix: str) -> list[str]:
    """What is wrong with a result, one line each: every part is read and compared with its sha256."""
    try:
        manifest = load_manifest(store, f"{prefix}/manifest.json")
    except UserError as error:
        return [str(error)]
    if manifest is None:
        return [f"{prefix}/manifest.json in {store.uri} is missing; `hone run` makes it again"]
    return [fault for _, part in parts_of(manifest) if (fault := _fault(store, prefix, part))]


def parts_of(manifest: Manifest) -> Iterator[tuple[str, Part]]:
    """Every part with the name of its output."""
    for name, output in manifest.outputs.items():
        yield from ((name, part) for part in output.parts)


def repair(store: Store, name: str) -> Iterator[tuple[str, str]]:
    """Repairs a run, or one result, stage by stage; yields each prefix with what was done. Raises UserError."""
    with about(run=name):
        for prefix in prefixes_of(store, name):
            faults = flaws(store, prefix)
            outcome = _mended(store, prefix) if faults else "whole"
            if faults:
                log.info("repaired", result=prefix, outcome=outcome, flaws=len(faults))
            yield prefix, outcome


def _mended(store: Store, prefix: str) -> str:
    try:
        manifest = load_manifest(store, f"{prefix}/manifest.json")
    except NewerError:
        raise
    except UserError:
        aside = _set_aside(store, f"{prefix}/manifest.json")
        return f"its damaged manifest was moved to {aside}; `hone run` makes it again"
    if manifest is None:
        return "missing; `hone run` makes it again"
    inputs = {name: _input(store, source) for name, source in manifest.inputs.items()}
    config = stage(manifest.stage).Config.model_validate(manifest.config)
    with scratch_folder() as scratch:
        todo = plan(manifest.stage, config, inputs, scratch)
        if todo.fingerprint != manifest.fingerprint:
            return "its code, settings or sources have changed since; `hone run` makes a new result"
        same = redo(todo, store, scratch, manifest)
    return "made again, the same bytes" if same else "made again, other bytes: run what comes after it again"


def _set_aside(store: Store, key: str) -> str:
    """Moves a damaged manifest out of the way; returns where its bytes are now. They may be the only copy."""
    folder, _, name = key.rpartition("/")
    aside = f"{folder}/damaged/{uuid.uuid4().hex}-{name}"
    store.replace(aside, store.read(key) or b"")
    store.delete(Object(key, 0, 0.0))
    return aside


def _input(store: Store, prefix: str) -> Manifest:
    manifest = load_manifest(store, f"{prefix}/manifest.json")
    if manifest is None:
        raise UserError(f"{prefix} in {store.uri} is missing; `hone run` makes it again")
    return manifest


def _fault(store: Store, prefix: str, part: Part) -> str:
    with scratch_folder() as scratch:
        try:
            fetch_part(store, prefix, part, scratch)
        except UserError as error:
            return str(error)
    return ""


def differences(before: Mapping[str, Manifest], after: Mapping[str, Manifest]) -> Iterator[tuple[str, str]]:
    """Stage and one line per difference between two runs."""
    for name in STAGES:
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            if old or new:
                yield name, f"only the {'first' if old else 'second'} run has it"
        elif old.prefix != new.prefix:
            yield from ((name, line) for line in _between(old, new))


def _between(old: Manifest, new: Manifest) -> Iterator[str]:
    yield from explain.differences("", old.config, new.config)
    if old.code != new.code:
        yield f"code {old.code} -> {new.code}"
    if sorted(old.sources.values()) != sorted(new.sources.values()):
        yield "its sources have other content"
    for table in old.input_digests:
        if old.input_digests[table] != new.input_digests.get(table):
            yield f"reads another {table}"
    for table, output in old.outputs.items():
        other = new.outputs.get(table)
        if other and other.digest != output.digest:
            yield f"writes another {table}" + (f": {output.rows} -> {other.rows} rows" if output.rows else "")
