"""One student for several domains of a folder: trained on the lists of all of them, and judged in each.

`general` in the folder's `base.yaml` asks for it. Every domain has then two runs, its own and DOMAIN-general, which
differ in distill alone; what both need is made once, and so is the general student itself.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field

from hone.config import Settings, StageConfig, checked
from hone.engine import record, runner
from hone.engine.domains import BASE, GENERAL, Member, adjusted, apart, base, metrics_of
from hone.errors import UserError
from hone.evaluation.metrics import PRIMARY
from hone.report.general import Standing
from hone.results.manifest import Manifest
from hone.settings import RunSettings, check, overlay
from hone.stages import STAGES, distill, evaluate, gate, publish
from hone.storage.addresses import open_store
from hone.storage.base import Store

TRAINED_ON = {"prepare": ("docs", "judged_queries", "qrels"), "curate": ("lists",)}


class General(Settings):
    """One student for several domains."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """The domains it is trained for and how often a step takes lists of each; empty takes all of them equally often."""
    distill: dict[str, Any] = Field(default={})
    """Settings of its training, over those of `distill` in base.yaml."""


@dataclass(frozen=True)
class Course:
    """The general student of a folder: its domains, and the settings of its training."""

    members: tuple[Member, ...]
    config: distill.Config

    def settings_of(self, member: Member) -> RunSettings:
        """The settings of a domain's run with the general student: published apart, and never where it is worse."""
        own = member.checked()
        domain = cast(publish.Config, own.stages["publish"]).domain
        policy = cast(gate.Config, own.stages["gate"])
        changed: dict[str, StageConfig] = {
            "distill": self.config,
            "gate": policy.model_copy(update={"min_gain": max(0.0, policy.min_gain)}),
            "publish": own.stages["publish"].model_copy(update={"domain": domain and name_of(domain)}),
        }
        return replace(own, name=name_of(own.name), stages={**own.stages, **changed})


def name_of(own: str) -> str:
    """What the run of a domain with the general student is called, and what it is published as."""
    return f"{own}-{GENERAL}"


def course(folder: Path, members: Sequence[Member]) -> Course | None:
    """The general student that a folder asks for, or None. Raises UserError."""
    below = base(folder)
    if GENERAL not in below:
        return None
    file = str(folder / BASE)
    section = below.pop(GENERAL)
    general = checked(General, {} if section is None else section, file, GENERAL)
    known = {member.name: member for member in members}
    for name in general.weights:
        if name not in known:
            raise UserError(f"{file}: general.weights: there is no domain {name}; the domains are {', '.join(known)}")
    for name in known:
        if name_of(name) in known:
            raise UserError(f"{folder}: {name_of(name)} is what {name} with the general student is called; rename it")
    weights = general.weights or dict.fromkeys(known, 1.0)
    chosen = tuple(known[name] for name in sorted(weights))
    # What a domain must say, such as its corpus, is of no account here: the first one lends it.
    lent = {key: chosen[0].data[key] for key in ("name", "prepare") if key in chosen[0].data}
    data = overlay(overlay(lent, below), {"distill": general.distill})
    config = cast(distill.Config, check(data, file, folder.resolve()).stages["distill"])
    student = config.student.model_copy(update={"start": "base"})
    for member in chosen:
        _refuse_another_student(member, student, file)
    return Course(chosen, config.model_copy(update={"domains": weights, "student": student, "adopt": ""}))


def _refuse_another_student(member: Member, student: Any, file: str) -> None:
    stages = member.checked().stages
    own = cast(evaluate.Config, stages["evaluate"]).student.model_copy(update={"start": "base"})
    if own != student:
        raise UserError(f"{member.file}: student differs from the one of {file}; the general student has one base")
    if cast(distill.Config, stages["distill"]).adopt:
        raise UserError(f"{member.file}: distill.adopt leaves no lists to train on; leave {member.name} out of general")


def run(together: Course, store: str, shards: int, at_once: int, tell: Callable[[str, str], None]) -> dict[str, str]:
    """Trains the general student, then judges it in every domain, some at once. Returns what failed with the reason."""
    first, *_ = together.members
    if fault := apart(GENERAL, tell, _work, together, first, store, shards, "distill"):
        return {GENERAL: fault}
    with ThreadPoolExecutor(at_once) as pool:
        names = [name_of(member.name) for member in together.members]
        work = lambda name, member: apart(name, tell, _work, together, member, store, shards, STAGES[-1])  # noqa: E731
        faults = dict(zip(names, pool.map(work, names, together.members), strict=True))
    return {name: fault for name, fault in faults.items() if fault}


def _work(together: Course, member: Member, store: str, shards: int, last: str) -> None:
    place = open_store(store)
    runner.run(
        together.settings_of(member), place, last=last, shards=shards, others=trained_on(together.members, place)
    )


def trained_on(members: Sequence[Member], store: Store) -> dict[str, Manifest]:
    """What the general student is trained on, by DOMAIN/TABLE. Raises UserError if a domain has none of it."""
    inputs: dict[str, Manifest] = {}
    for member in members:
        done = record.results_if_any(store, member.checked().name)
        for stage, names in TRAINED_ON.items():
            if stage not in done:
                raise UserError(f"{member.name} has no result of {stage} yet; run it first: its lists are trained on")
            inputs |= {f"{member.name}/{table}": done[stage] for table in names}
    return inputs


def status(together: Course, store: Store, faults: Mapping[str, str]) -> list[Standing]:
    """How the general student stands in every domain, beside the base and the domain's own student."""
    rows = [_standing(together, member, store, faults.get(name_of(member.name), "")) for member in together.members]
    of = adjusted({row.domain: row.p_value for row in rows if row.p_value is not None})
    return [replace(row, p_holm=of.get(row.domain)) for row in rows]


def _standing(together: Course, member: Member, store: Store, fault: str) -> Standing:
    own, general = (
        record.results_if_any(store, name) for name in (member.checked().name, together.settings_of(member).name)
    )
    before, after = (metrics_of(store, done) for done in (own, general))
    row = Standing(member.name, together.config.domains[member.name], fault=fault)
    if before.get("queries"):
        row = replace(row, base=before["base"][PRIMARY], own=before["tuned"][PRIMARY])
    if not after.get("queries"):
        return row
    return replace(
        row,
        base=after["base"][PRIMARY],
        general=after["tuned"][PRIMARY],
        interval=(float(after["ci95"][0]), float(after["ci95"][1])),
        p_value=float(after["p_value"]),
        verdict=str(general["gate"].facts["verdict"]) if "gate" in general else "",
    )
