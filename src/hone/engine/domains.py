"""Many domains of one enterprise: a folder of settings, run side by side, and one table of how each of them stands.

`base.yaml` in the folder lies below every other file there; a file is one domain, named by it. All share a store, and
with it whatever they have in common: encodings, teacher scores and generated text of the same documents.
"""

import json
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, cast

from hone import settings as settings_file
from hone.engine import record, runner
from hone.errors import TransientError, UserError
from hone.evaluation.metrics import PRIMARY
from hone.evaluation.statistics import holm
from hone.report.domains import Domain
from hone.results import registry
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.settings import RunSettings, overlay, read_yaml
from hone.stages import publish
from hone.storage.addresses import open_store
from hone.storage.base import Store

BASE = "base.yaml"
P = ParamSpec("P")
GENERAL = "general"
"""The section of BASE about one student for several domains; see `hone.engine.general`."""


@dataclass(frozen=True)
class Member:
    """One domain of a folder: its name, and the whole of its settings."""

    name: str
    file: str
    data: dict[str, Any]

    def checked(self) -> RunSettings:
        """Raises UserError naming the file."""
        return settings_file.check(self.data, self.file, Path(self.file).resolve().parent)


def load(folder: Path) -> list[Member]:
    """The domains of a folder, in the order of their names. Raises UserError."""
    files = sorted(path for path in folder.glob("*.y*ml") if path.name != BASE)
    if not files:
        raise UserError(f"{folder} holds no domains; write one YAML file for each, beside {BASE}, which lies below all")
    below = {key: value for key, value in base(folder).items() if key != GENERAL}
    members = [_member(path, below) for path in files]
    twice = [one.name for at, one in enumerate(members) if one.name in {other.name for other in members[:at]}]
    if twice:
        raise UserError(f"{folder}: two domains are called {twice[0]}; give each file its own name")
    return members


def base(folder: Path) -> dict[str, Any]:
    """What lies below every domain of a folder. Raises UserError."""
    return read_yaml(folder / BASE) if (folder / BASE).is_file() else {}


def _member(path: Path, below: dict[str, Any]) -> Member:
    if not re.fullmatch(registry.NAME, path.stem):
        raise UserError(f"{path}: a domain is named by its file: lower-case letters, digits and - only")
    own = {"name": path.stem, "publish": {"domain": path.stem}}
    return Member(path.stem, str(path), overlay(overlay(own, below), read_yaml(path)))


def store_of(members: Sequence[Member]) -> str:
    """The store that the settings name, empty if none do. Raises UserError if not all name the same."""
    named = {one.checked().store: one for one in members}
    if len(named) > 1:
        (first, one), (second, other) = list(named.items())[:2]
        both = f"{one.file} and {other.file} name different stores ({first or 'none'} and {second or 'none'})"
        raise UserError(f"{both}; domains of a folder share one: write `store:` into {BASE}, or give --store")
    return next(iter(named))


def run(
    members: Sequence[Member], store: str, shards: int, at_once: int, tell: Callable[[str, str], None]
) -> dict[str, str]:
    """Runs every domain, some at once, each in its own process: what ends one ends no other.

    Returns those that failed with the reason. Raises UserError if the settings of any cannot be meant at all.
    """
    for member in members:
        member.checked()
    with ThreadPoolExecutor(at_once) as pool:
        ended = pool.map(lambda one: _ran(one, store, shards, tell), members)
        faults = dict(zip([one.name for one in members], ended, strict=True))
    return {name: fault for name, fault in faults.items() if fault}


def _ran(member: Member, store: str, shards: int, tell: Callable[[str, str], None]) -> str:
    return apart(member.name, tell, _work, member, store, shards)


def apart(
    name: str, tell: Callable[[str, str], None], work: Callable[P, None], *args: P.args, **named: P.kwargs
) -> str:
    """Does something in a process of its own, which may end as it likes; returns why it failed, empty if it did not."""
    tell(name, "begun")
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        error = pool.submit(work, *args, **named).exception()
    if error is None:
        tell(name, "done")
        return ""
    fault = _fault(error)
    tell(name, f"failed: {fault}")
    return fault


def _fault(error: BaseException) -> str:
    """Why a domain failed, in one sentence; a defect ends that domain alone too, and shows its traceback."""
    if isinstance(error, (UserError, TransientError)):
        return str(error)
    if isinstance(error, BrokenProcessPool):
        return "its process was ended from outside, out of memory perhaps; run again, it goes on"
    traceback.print_exception(error)
    return f"it broke ({type(error).__name__}: {error}); the traceback says where"


def _work(member: Member, store: str, shards: int) -> None:
    runner.run(member.checked(), open_store(store), shards=shards)


def status(members: Sequence[Member], store: Store, faults: dict[str, str]) -> list[Domain]:
    """How every domain stands, with p-values adjusted (Holm) for there being several domains."""
    rows = [_status(member, store, faults.get(member.name, "")) for member in members]
    of = adjusted({row.name: row.p_value for row in rows if row.p_value is not None})
    return [replace(row, p_holm=of.get(row.name)) for row in rows]


def adjusted(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values by domain, adjusted (Holm) for there being several."""
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _status(member: Member, store: Store, fault: str) -> Domain:
    checked = member.checked()
    done = record.results_if_any(store, checked.name)
    domain = Domain(
        name=member.name,
        documents=done["prepare"].outputs["docs"].rows or 0 if "prepare" in done else 0,
        verdict=str(done["gate"].facts["verdict"]) if "gate" in done else "",
        seconds=sum(manifest.seconds for manifest in done.values()),
        fault=fault,
        finding=str(done["evaluate"].facts.get("finding", "")) if "evaluate" in done else "",
        finished=_finished(store, done),
        versions=_versions(store, cast(publish.Config, checked.stages["publish"]).domain),
    )
    metrics = metrics_of(store, done)
    if not metrics or not metrics.get("queries"):
        return domain
    return replace(
        domain,
        queries=int(metrics["queries"]),
        gain=float(metrics["delta"][PRIMARY]),
        interval=(float(metrics["ci95"][0]), float(metrics["ci95"][1])),
        p_value=float(metrics["p_value"]),
    )


def metrics_of(store: Store, done: dict[str, Manifest]) -> dict[str, Any]:
    """What evaluate measured; empty if it did not."""
    for manifest in (done["evaluate"],) if "evaluate" in done else ():
        for name, output in manifest.outputs.items():
            if any(part.path.endswith("/metrics.json") for part in output.parts):
                with scratch_folder() as scratch:
                    return json.loads(
                        (fetch_folder(store, manifest, name, scratch) / "metrics.json").read_text("utf-8")
                    )
    return {}


def _finished(store: Store, done: dict[str, Manifest]) -> float:
    """When the last of its results was written, in seconds since the epoch; 0 if there is none."""
    last = next((done[name] for name in reversed(done)), None)
    times = [stored.modified for stored in store.objects(last.prefix)] if last else []
    return max(times, default=0.0)


def _versions(store: Store, domain: str) -> tuple[str, ...]:
    """Published versions of a domain, the newest first."""
    return tuple(move.version for move in reversed(registry.moves(store, domain))) if domain else ()
