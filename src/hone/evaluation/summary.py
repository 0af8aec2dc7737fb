"""metrics.json: what was measured on every test set, from the values of every system and query."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from hone.evaluation.metrics import MEASURES, PRIMARY
from hone.evaluation.query_groups import GROUPINGS, grouped
from hone.evaluation.roles import JudgedBy, Role
from hone.evaluation.statistics import ALPHA, bootstrap_interval, compare, gap_closed, holm, minimal_detectable_effect

Way = Literal["dense", "hybrid"]
"""How users search: by vectors alone, or fused with BM25."""
SIDES: dict[Way, tuple[str, str]] = {"dense": ("base", "tuned"), "hybrid": ("base+bm25", "tuned+bm25")}
"""The two systems that are compared, before and after training, as users search."""
FREE = ("base", "bm25", "base+bm25")
"""Systems that need no training."""
SYSTEMS = {
    "base": "base",
    "tuned": "tuned",
    "published": "published",
    "published+bm25": "published + BM25",
    "bm25": "BM25",
    "base+bm25": "base + BM25",
    "tuned+bm25": "tuned + BM25",
    "teacher": "teacher",
}
"""Systems as a person reads them."""
QUERIES_ONLY = (
    "Only the test queries were kept out of training; the documents that answer them were not, so the gain holds for "
    "these documents and may be larger than on new ones."
)
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
    judged_by: JudgedBy = "people"
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What else must be known of the set: judged_docs, and how many of them are not in what is searched."""


@dataclass(frozen=True)
class Draws:
    """How much chance is drawn, and from which seed."""

    permutations: int
    resamples: int
    seed: int


def summarise(sets: Sequence[Measured], models: Mapping[str, Any], draws: Draws, way: Way = "dense") -> dict[str, Any]:
    """The figures of the set that the finding rests on, and those of all sets, searched in the declared way."""
    compared = {tested.name: compare_set(tested, draws, way) for tested in sets}
    head = {"search_as": way, "queries": 0, "split": "", "synthetic": False, "significant": False}
    if not compared:
        return {**head, "sets": {}, "models": {}}
    adjust(compared)
    name = main_set(sets)
    main = compared[name]["measures"]
    return {
        **head,
        **{key: {measure: main[measure][key] for measure in MEASURES} for key in ("base", "tuned", "delta")},
        "p_value": main[PRIMARY]["p_value"],
        "ci95": main[PRIMARY]["ci95"],
        "queries": compared[name]["queries"],
        "split": name,
        "synthetic": compared[name]["synthetic"],
        "significant": main[PRIMARY]["p_value"] <= ALPHA,
        "sets": compared,
        "models": dict(models),
    }


def main_set(sets: Sequence[Measured]) -> str:
    """The first in-domain set, else dev, else the first there is; empty without any."""
    rank: dict[Role, int] = {"domain": 0, "dev": 1, "guard": 2, "last": 3}
    return min(sets, key=lambda tested: rank[tested.role]).name if sets else ""


def compare_set(tested: Measured, draws: Draws, way: Way = "dense") -> dict[str, Any]:
    """Before against after on every measure, the best that is free, the means of all systems, the ceiling, and the
    gain by kind of query."""
    base, tuned = (tested.values[system] for system in SIDES[way])
    effect = minimal_detectable_effect(tuned[PRIMARY] - base[PRIMARY])
    return {
        "role": tested.role,
        "synthetic": tested.synthetic,
        "judged_by": tested.judged_by,
        "queries": len(tested.texts),
        **tested.facts,
        "minimal_detectable_effect": effect if np.isfinite(effect) else None,
        "measures": {name: _compared(base[name], tuned[name], draws) for name in MEASURES},
        "systems": {
            system: {name: float(values[name].mean()) for name in MEASURES}
            for system, values in tested.values.items()
            if not np.isnan(values[PRIMARY]).any()
        },
        **_beside_published(tested.values, way, draws),
        "free": free_alternative(tested.values, way, draws),
        "ceiling": ceiling(tested.values),
        "groups": {by: _by_group(tested, by, draws, way) for by in GROUPINGS},
    }


def free_alternative(values: Values, way: Way, draws: Draws) -> dict[str, Any] | None:
    """The best system that needs no training (base) against the tuned one as users search (tuned), in nDCG@10.

    The best is chosen on these very queries, which favours it. Where dense search is declared, `hybrid` has what
    training changes in fused search. None where only the base was measured.
    """
    there = [name for name in FREE if name in values]
    if there == ["base"] or SIDES[way][1] not in values:
        return None
    best = max(there, key=lambda name: values[name][PRIMARY].mean())
    facts: dict[str, Any] = {"best": best, **_of_two(values, best, SIDES[way][1], draws)}
    if way == "dense" and all(name in values for name in SIDES["hybrid"]):
        facts["hybrid"] = _of_two(values, *SIDES["hybrid"], draws)
    return facts


def _beside_published(values: Values, way: Way, draws: Draws) -> dict[str, Any]:
    """The published model (base) against the tuned one as users search, in nDCG@10; nothing where training did not
    start from one."""
    before = SIDES[way][0].replace("base", "published")
    return {"published": _of_two(values, before, SIDES[way][1], draws)} if before in values else {}


def _of_two(values: Values, before: str, after: str, draws: Draws) -> dict[str, Any]:
    return _compared(values[before][PRIMARY], values[after][PRIMARY], draws)


def ceiling(values: Values) -> dict[str, Any] | None:
    """Base, tuned and teacher on the queries that the teacher was asked, and the share of the gap that is closed."""
    asked = ~np.isnan(values["teacher"][PRIMARY]) if "teacher" in values else np.zeros(0, bool)
    if not asked.any():
        return None
    base, tuned, teacher = (values[system][PRIMARY][asked] for system in ("base", "tuned", "teacher"))
    means = {"base": float(base.mean()), "tuned": float(tuned.mean()), "teacher": float(teacher.mean())}
    return {"queries": int(asked.sum()), "of": len(asked), **means, "gap_closed": gap_closed(base, tuned, teacher)}


def adjust(sets: Mapping[str, dict[str, Any]]) -> None:
    """Adds p_holm to every comparison: its p-value among those of all sets and measures."""
    every = [values for facts in sets.values() for values in facts["measures"].values()]
    for values, adjusted in zip(every, holm([values["p_value"] for values in every]), strict=True):
        values["p_holm"] = adjusted


def _compared(base: np.ndarray, tuned: np.ndarray, draws: Draws) -> dict[str, Any]:
    return asdict(compare(base, tuned, permutations=draws.permutations, resamples=draws.resamples, seed=draws.seed))


def _by_group(tested: Measured, by: str, draws: Draws, way: Way) -> list[dict[str, Any]]:
    base, tuned = (tested.values[system][PRIMARY] for system in SIDES[way])
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
