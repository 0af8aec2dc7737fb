"""metrics.json: what was measured on every test set, from the values of every system and query."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hone.evaluation.metrics import MEASURES, PRIMARY
from hone.evaluation.query_groups import GROUPINGS, grouped
from hone.evaluation.statistics import ALPHA, bootstrap_interval, compare, gap_closed, holm, minimal_detectable_effect

Role = Literal["domain", "dev", "guard"]
Values = dict[str, dict[str, np.ndarray]]
"""System to measure to values of all queries [q], nan where a system was not asked."""


@dataclass(frozen=True)
class Measured:
    """One test set: its queries, and how well every system did."""

    name: str
    role: Role
    synthetic: bool
    texts: list[str]
    values: Values


@dataclass(frozen=True)
class Draws:
    """How much chance is drawn, and from which seed."""

    permutations: int
    resamples: int
    seed: int


def summarise(sets: Sequence[Measured], models: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
    """The figures of the set that the finding rests on, and those of all sets."""
    found = {tested.name: compare_set(tested, draws) for tested in sets}
    if not found:
        return {"queries": 0, "split": "", "synthetic": False, "significant": False, "sets": {}, "models": {}}
    adjust(found)
    name = main_set(sets)
    main = found[name]["measures"]
    return {
        **{key: {measure: main[measure][key] for measure in MEASURES} for key in ("base", "tuned", "delta")},
        "p_value": main[PRIMARY]["p_value"],
        "ci95": main[PRIMARY]["ci95"],
        "queries": found[name]["queries"],
        "split": name,
        "synthetic": found[name]["synthetic"],
        "significant": main[PRIMARY]["p_value"] <= ALPHA,
        "sets": found,
        "models": dict(models),
    }


def main_set(sets: Sequence[Measured]) -> str:
    """The first in-domain set, else dev, else the first there is; empty without any."""
    rank: dict[Role, int] = {"domain": 0, "dev": 1, "guard": 2}
    return min(sets, key=lambda tested: rank[tested.role]).name if sets else ""


def compare_set(tested: Measured, draws: Draws) -> dict[str, Any]:
    """Base against tuned on every measure, the means of all systems, the ceiling, and the gain by kind of query."""
    base, tuned = tested.values["base"], tested.values["tuned"]
    effect = minimal_detectable_effect(tuned[PRIMARY] - base[PRIMARY])
    return {
        "role": tested.role,
        "synthetic": tested.synthetic,
        "queries": len(tested.texts),
        "minimal_detectable_effect": effect if np.isfinite(effect) else None,
        "measures": {name: _compared(base[name], tuned[name], draws) for name in MEASURES},
        "systems": {
            system: {name: float(values[name].mean()) for name in MEASURES}
            for system, values in tested.values.items()
            if not np.isnan(values[PRIMARY]).any()
        },
        "ceiling": ceiling(tested.values),
        "groups": {by: _by_group(tested, by, draws) for by in GROUPINGS},
    }


def ceiling(values: Values) -> dict[str, Any] | None:
    """Base, tuned and teacher on the queries that the teacher was asked, and the share of the gap that is closed."""
    asked = ~np.isnan(values["teacher"][PRIMARY]) if "teacher" in values else np.zeros(0, bool)
    if not asked.any():
        return None
    base, tuned, teacher = (values[system][PRIMARY][asked] for system in ("base", "tuned", "teacher"))
    means = {"base": float(base.mean()), "tuned": float(tuned.mean()), "teacher": float(teacher.mean())}
    return {"queries": int(asked.sum()), **means, "gap_closed": gap_closed(base, tuned, teacher)}


def adjust(sets: Mapping[str, dict[str, Any]]) -> None:
    """Adds p_holm to every comparison: its p-value among those of all sets and measures."""
    every = [values for found in sets.values() for values in found["measures"].values()]
    for values, adjusted in zip(every, holm([values["p_value"] for values in every]), strict=True):
        values["p_holm"] = adjusted


def _compared(base: np.ndarray, tuned: np.ndarray, draws: Draws) -> dict[str, Any]:
    return asdict(compare(base, tuned, permutations=draws.permutations, resamples=draws.resamples, seed=draws.seed))


def _by_group(tested: Measured, by: str, draws: Draws) -> list[dict[str, Any]]:
    base, tuned = (tested.values[system][PRIMARY] for system in ("base", "tuned"))
    return [
        {
            "group": group,
            "queries": len(places),
            "base": float(base[places].mean()),
            "tuned": float(tuned[places].mean()),
            "delta": float((tuned - base)[places].mean()),
            "ci95": bootstrap_interval((tuned - base)[places], draws.resamples, draws.seed),
        }
        for group, places in grouped(tested.texts, by).items()
    ]
