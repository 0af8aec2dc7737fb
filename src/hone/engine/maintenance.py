"""`hone store` and `hone repair`: what a store holds, whether it is whole, what differs, and what may go."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hone.engine import explain, record
from hone.engine.execute import redo
from hone.engine.plan import plan
from hone.engine.scratch import scratch_folder
from hone.errors import UserError
from hone.log import about, log
from hone.results.manifest import Manifest, Part, load_manifest
from hone.results.table_io import fetch_part
from hone.stages import STAGES, stage
from hone.storage.base import Object, Store

RUNS = "runs"
HOUR = 3_600.0


@dataclass(frozen=True)
class Garbage:
    """Something that may go, and why."""

    found: Object
    reason: str


def runs(store: Store) -> list[str]:
    """The names of all runs, sorted."""
    keys = [found.key for found in store.objects(RUNS)]
    return [key.removeprefix(f"{RUNS}/").removesuffix(".json") for key in keys if key.endswith(".json")]


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
    """Mends a run, or one result, stage by stage; yields each prefix with what was done. Raises UserError."""
    with about(run=name):
        for prefix in prefixes_of(store, name):
            found = flaws(store, prefix)
            outcome = _mended(store, prefix) if found else "whole"
            if found:
                log.info("repaired", result=prefix, outcome=outcome, flaws=len(found))
            yield prefix, outcome


def _mended(store: Store, prefix: str) -> str:
    try:
        manifest = load_manifest(store, f"{prefix}/manifest.json")
    except UserError:
        store.delete(Object(f"{prefix}/manifest.json", 0, 0.0))
        return "its damaged manifest was removed; `hone run` makes it again"
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


def garbage(store: Store, hours: float, *, results: bool = False) -> list[Garbage]:
    """What nothing refers to and is older than `hours`: parts without a manifest, uploads that never ended.

    With `results` also finished results that belong to no run.
    """
    before = time.time() - hours * HOUR
    found = [Garbage(upload, "an upload that never ended") for upload in store.unfinished()]
    for prefix, objects in _by_prefix(store).items():
        kept = _referred(store, prefix, objects)
        found += [Garbage(one, "no manifest names it") for one in objects if one.key not in kept]
    if results:
        used = _used(store)
        for prefix, objects in _by_prefix(store).items():
            if prefix not in used:
                # Manifests first: a result that is only half removed is none.
                ordered = sorted(objects, key=lambda one: (not one.key.endswith(".json"), one.key))
                found += [Garbage(one, "no run refers to its result") for one in ordered]
    once = {(one.found.key, one.found.upload): one for one in reversed(found)}
    return [one for one in reversed(once.values()) if one.found.modified <= before]


def _by_prefix(store: Store) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for name in STAGES:
        for one in store.objects(name):
            found.setdefault("/".join(one.key.split("/")[:2]), []).append(one)
    return found


def _referred(store: Store, prefix: str, objects: list[Object]) -> set[str]:
    """The keys below a prefix that some manifest there names, with the manifests, and the logs of finished results."""
    manifests = [one.key for one in objects if one.key.count("/") == 2 and one.key.endswith(".json")]
    kept = set(manifests)
    for key in manifests:
        try:
            manifest = load_manifest(store, key)
        except UserError:
            # What a damaged manifest named cannot be told: all is kept.
            return {one.key for one in objects}
        kept |= {f"{prefix}/{part.path}" for _, part in parts_of(manifest)} if manifest else set()
    return kept | ({one.key for one in objects if one.key.startswith(f"{prefix}/logs/")} if manifests else set())


def _used(store: Store) -> set[str]:
    """The prefixes of all results that any run stands for, with what they were made from."""
    used: set[str] = set()
    waiting = [prefix for name in runs(store) for prefix in record.recorded(store, name).values()]
    while waiting:
        prefix = waiting.pop()
        if prefix not in used:
            used.add(prefix)
            manifest = load_manifest(store, f"{prefix}/manifest.json")
            waiting += manifest.inputs.values() if manifest else []
    return used


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
