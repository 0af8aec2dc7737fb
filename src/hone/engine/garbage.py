"""What may go from a store, and how it goes: nothing that a run needs, or may need when it is run again.

    hone store gc              parts that no manifest names, uploads that never ended, checkpoints of finished trainings
    hone store gc --results    also results, finished or not, that no run stands for, vectors that `hone search` kept
                               of them, and vectors and tokens that no stage has used for 60 days

Settings and notes of runs on Kubeflow go when they were not used for 90 days.

A result that a living run needs (`hone.storage.leases`) is left alone altogether. Ages are by the store's own clock.
Before a result is touched all is looked at once more: only what was garbage both times, and is the same, is deleted.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from hone.engine import record
from hone.errors import UserError
from hone.results import kept_vectors, registry
from hone.results.manifest import Manifest, load_manifest
from hone.stages import STAGES
from hone.storage import leases
from hone.storage.base import Object, Store
from hone.storage.leases import GC, LAST, LIFE, RUN, Lease, Watched
from hone.storage.s3 import PROBES

RUNS = "runs"
HOUR = 3_600.0
CHECKPOINTS = "checkpoints"
ATTEMPTS, SETTINGS = "attempts", "settings"
"""Of runs on Kubeflow: how their tasks ended, and their settings files, which every task that starts writes anew."""
STAY = 90 * 24.0
"""Hours for which these stay at least: a task may wait long for the cluster, and be started by a clock."""
MADE_AGAIN = ("memo/vectors", "memo/tokens")
"""Of what was paid for once, what costs time alone. Vectors by last night's model are asked for by nobody any more,"""
UNUSED = 60 * 24.0
"""and go after so many hours without use: a corpus that is trained on once a month pays once for those of its base."""


@dataclass(frozen=True)
class Garbage:
    """Something that may go, and why."""

    stored: Object
    reason: str


def runs(store: Store) -> list[str]:
    """The names of all runs, sorted."""
    keys = [stored.key for stored in store.objects(RUNS)]
    return [key.removeprefix(f"{RUNS}/").removesuffix(".json") for key in keys if key.endswith(".json")]


def garbage(store: Store, hours: float, *, results: bool = False) -> list[Garbage]:
    """What nothing needs and is older than `hours`; with `results` also whole results that belong to no run."""
    lease = Lease(store, GC)
    now = time.time()
    try:
        with suppress(UserError):  # a store that can only be read still tells what might go
            now = lease.at([])
        return list(_Look(store, hours, results, Watched(store), now).everything())
    finally:
        with suppress(UserError):
            lease.end()


def collect(store: Store, hours: float, *, results: bool = False) -> Iterator[Garbage]:
    """Deletes what nothing needs; yields each when it is gone."""
    lease, watched = Lease(store, GC), Watched(store)
    try:
        first = _Look(store, hours, results, watched, lease.at([])).everything()
        for prefix, batch in _grouped(first).items():
            waiting = batch
            while waiting:
                renewed = time.monotonic()
                again = _Look(store, hours, results, watched, lease.at([prefix])).of(prefix)
                still = {one.stored: one for one in again}
                waiting = [one for one in waiting if one.stored in still]
                # One that was held up for long may have been taken for dead: then it looks once more.
                while waiting and time.monotonic() - renewed < LIFE[GC] / 2:
                    one = waiting.pop(0)
                    store.delete(one.stored)
                    yield one
    finally:
        lease.end()


@dataclass
class _Look:
    """One look at a store: who needs what comes first, then what there is."""

    store: Store
    hours: float
    results: bool
    watched: Watched
    now: float
    held: set[str] = field(init=False)
    """What living runs need."""
    busy: bool = field(init=False)
    used: set[str] = field(init=False, default_factory=set[str])
    """What runs stand for, are making or needed lately, and the tests of what is published, with all that it was made
    from."""

    contents: set[str] = field(init=False, default_factory=set[str])
    """Digests of what results in use hold and of what they read from outside."""

    def __post_init__(self) -> None:
        alive = self.watched.alive(RUN, self.now)
        self.busy = bool(alive)
        self.held = {prefix for key in alive for prefix in leases.prefixes_of(self.store, key)}
        if self.results:
            lately = [one.key for one in self.store.objects(LAST) if not self._old(one)]
            marked = {prefix for key in lately for prefix in leases.prefixes_of(self.store, key)}
            recorded = {prefix for name in runs(self.store) for prefix in record.needed(self.store, name)}
            served = (registry.current(self.store, domain) for domain in registry.domains(self.store))
            tested = {release.tests for release in served if release and release.tests}
            self._use({*self.held, *marked, *recorded, *tested})

    def everything(self) -> Iterator[Garbage]:
        """All garbage, result after result."""
        folders = (*STAGES, ATTEMPTS, SETTINGS, kept_vectors.FOLDER, *MADE_AGAIN)
        there = {_prefix(one.key) for name in folders for one in self.store.objects(name)}
        begun = {_prefix(one.key) for one in self.store.unfinished()}
        for prefix in sorted((there | begun) - {""}):
            yield from self.of(prefix)
        yield from self.of("")

    def of(self, prefix: str) -> Iterator[Garbage]:
        """The garbage of one result; of "", what belongs to none."""
        uploads = [one for one in self.store.unfinished() if _prefix(one.key) == prefix]
        if prefix in self.held or (uploads and not prefix and self.busy):
            return
        yield from (Garbage(one, "an upload that never ended") for one in uploads if self._old(one))
        if not prefix:
            yield from self._others()
        elif prefix.partition("/")[0] in STAGES:
            yield from self._of_result(prefix)
        elif prefix.startswith(kept_vectors.FOLDER):
            yield from self._of_vectors(prefix)
        elif prefix.startswith(MADE_AGAIN):
            yield from self._of_cache(prefix)
        else:
            yield from self._of_platform(prefix)

    def _of_result(self, prefix: str) -> Iterator[Garbage]:
        objects = list(self.store.objects(prefix))
        if self.results and prefix not in self.used and all(self._old(one) for one in objects):
            # Manifests first: a result that is only half removed is none.
            for one in sorted(objects, key=lambda one: (not one.key.endswith(".json"), one.key)):
                yield Garbage(one, "no run refers to its result")
            return
        kept = _referred(self.store, prefix, objects)
        for one in objects:
            if one.key not in kept and self._old(one):
                yield Garbage(one, "no manifest names it")

    def _of_vectors(self, place: str) -> Iterator[Garbage]:
        """What `hone search` kept of documents and a model that no run has any more."""
        objects = list(self.store.objects(place))
        made_from = kept_vectors.made_from(self.store, place)
        if self.results and all(self._old(one) for one in objects) and not (made_from and made_from <= self.contents):
            # The list of files first: what is only half removed is made again.
            for one in sorted(objects, key=lambda one: (not one.key.endswith(".json"), one.key)):
                yield Garbage(one, "no run has the documents and the model that these vectors are of")

    def _of_cache(self, place: str) -> Iterator[Garbage]:
        """What a model or a tokenizer made of texts; a stage that uses it says so, to the day."""
        objects = list(self.store.objects(place))
        if self.results and all(one.modified <= self.now - max(self.hours, UNUSED) * HOUR for one in objects):
            yield from (Garbage(one, f"no stage has used it for {UNUSED / 24:.0f} days") for one in objects)

    def _of_platform(self, prefix: str) -> Iterator[Garbage]:
        folder = prefix.partition("/")[0]
        objects = [one for one in self.store.objects(folder) if _prefix(one.key) == prefix]
        if all(one.modified <= self.now - max(self.hours, STAY) * HOUR for one in objects):
            yield from (Garbage(one, f"no run on Kubeflow used it for {STAY / 24:.0f} days") for one in objects)

    def _others(self) -> Iterator[Garbage]:
        """Leases of processes that are gone, notes about results that are gone, probes."""
        alive = {key for kind in (RUN, GC) for key in self.watched.alive(kind, self.now)}
        for one in list(self.store.objects(leases.FOLDER)):
            if one.key.startswith(f"{LAST}/"):
                gone = not any(any(self.store.objects(prefix)) for prefix in leases.prefixes_of(self.store, one.key))
                if gone and self._old(one):
                    yield Garbage(one, "it is about a result that is gone")
            elif one.key not in alive and self._old(one):
                yield Garbage(one, "the lease of a process that was killed")
        yield from (Garbage(one, "a killed probe") for one in self.store.objects(PROBES) if self._old(one))

    def _old(self, one: Object) -> bool:
        return one.modified <= self.now - self.hours * HOUR

    def _use(self, prefixes: Iterable[str]) -> None:
        """These results are in use, and all that they were made from."""
        waiting = list(prefixes)
        while waiting:
            prefix = waiting.pop()
            if prefix not in self.used:
                self.used.add(prefix)
                if manifest := load_manifest(self.store, f"{prefix}/manifest.json"):
                    self.contents |= {*manifest.sources.values(), *(one.digest for one in manifest.outputs.values())}
                    waiting += manifest.inputs.values()


def _referred(store: Store, prefix: str, objects: list[Object]) -> set[str]:
    """The keys that must stay: manifests, what they name, logs, and the checkpoints of what is unfinished."""
    manifests = [one.key for one in objects if one.key.count("/") == 2 and one.key.endswith(".json")]
    kept = set(manifests)
    for key in manifests:
        try:
            manifest = load_manifest(store, key)
        except UserError:
            # What a damaged manifest named cannot be known: all is kept.
            return {one.key for one in objects}
        kept |= {f"{prefix}/{path}" for path in _paths(manifest)} if manifest else set()
    whole = f"{prefix}/manifest.json" in kept
    stays = {f"{prefix}/logs/": bool(manifests), f"{prefix}/{CHECKPOINTS}/": not whole}
    return kept | {one.key for one in objects for start, stay in stays.items() if stay and one.key.startswith(start)}


def _paths(manifest: Manifest) -> list[str]:
    return [part.path for output in manifest.outputs.values() for part in output.parts]


def _prefix(key: str) -> str:
    """The result, run on Kubeflow, settings file, kept vectors or cache that an object belongs to; empty if to none."""
    place = key.split("/")
    if key.startswith(tuple(f"{folder}/" for folder in (kept_vectors.FOLDER, *MADE_AGAIN))):
        return "/".join(place[:3])
    whole = len(place) > 2 if place[0] in (*STAGES, ATTEMPTS) else place[0] == SETTINGS and len(place) == 2
    return "/".join(place[:2]) if whole else ""


def _grouped(garbage: Iterable[Garbage]) -> dict[str, list[Garbage]]:
    groups: dict[str, list[Garbage]] = {}
    for one in garbage:
        groups.setdefault(_prefix(one.stored.key), []).append(one)
    return groups
