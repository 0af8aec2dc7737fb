"""What a report is made from, and its first line."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from hone.evaluation.metrics import PRIMARY
from hone.evaluation.summary import QUERIES_ONLY, SIDES, SYSTEMS
from hone.results.manifest import Manifest


@dataclass(frozen=True)
class Move:
    """Where a relevant document stood with each system: 1-based ranks, 0 if it was not retrieved.

    `teacher` is its rank when the teacher re-ranks what the base retrieved, -1 if the teacher was not asked.
    """

    title: str
    before: int
    after: int
    teacher: int = -1


@dataclass(frozen=True)
class QueryGain:
    """nDCG@10 of one query with both systems, and its relevant documents (for examples only)."""

    text: str
    base: float
    tuned: float
    moves: tuple[Move, ...] = ()

    @property
    def gain(self) -> float:
        return self.tuned - self.base


@dataclass(frozen=True)
class Origin:
    """How many training queries one source made in one style, and how many of them became lists."""

    source: str
    style: str
    made: int
    kept: int


@dataclass(frozen=True)
class Histogram:
    """How often scores fall into equal steps from low to high, for two kinds of document: shares that add up to 1."""

    title: str
    low: float
    high: float
    shares: Mapping[str, tuple[float, ...]]


STUDENTS = ("base", "tuned")


@dataclass(frozen=True)
class Findings:
    """Everything the report says. `metrics` is metrics.json; `history` the stages before, in order.

    Where two runs are compared, `names` are theirs: the tuned model of the first stands in the place of the base.
    """

    metrics: dict[str, Any]
    model: str
    names: tuple[str, str] = STUDENTS
    changes: tuple[tuple[str, str, str], ...] = ()
    """Settings that differ between two compared runs: the setting, and its value in either."""
    history: tuple[Manifest, ...] = ()
    gains: tuple[QueryGain, ...] = ()
    won: tuple[QueryGain, ...] = ()
    lost: tuple[QueryGain, ...] = ()
    origins: tuple[Origin, ...] = ()
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    """Stage to reason to rows."""
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """training.json of the model folder."""
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The settings of evaluate itself."""
    latency: Mapping[str, float] = field(default_factory=dict[str, float])
    """Milliseconds to encode one query with the base and the tuned student. Not in `metrics`, nor in the verdict,
    which are the same for the same model."""
    histograms: tuple[Histogram, ...] = ()
    licences: Mapping[str, str] = field(default_factory=dict[str, str])
    """model, teacher, generator and corpus to the licence that was declared."""
    notes: tuple[str, ...] = ()
    """More that a reader must know before trusting the first line."""
    verdict: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """verdict.json; empty before gate."""
    sides: tuple["Findings", ...] = ()
    """Where two runs are compared, what either one found of itself."""

    def metrics_json(self) -> str:
        """The text of metrics.json, for programs."""
        return json.dumps(self.metrics, indent=1, allow_nan=False)

    def to_json(self) -> bytes:
        return _JSON.dump_json(self)

    @staticmethod
    def from_json(data: bytes) -> "Findings":
        return _JSON.validate_json(data)


_JSON = TypeAdapter(Findings)


def verdict(metrics: Mapping[str, Any], names: tuple[str, str] = STUDENTS) -> str:
    """The finding in a few words."""
    if not metrics["queries"]:
        return "Not measured"
    if not metrics["significant"]:
        return "No significant gain"
    better = metrics["delta"][PRIMARY] > 0
    if names == STUDENTS:
        tuned = "Tuned + BM25" if metrics["search_as"] == "hybrid" else "Tuned"
        return f"{tuned} is better" if better else "Worse"
    return f"{names[1]} is {'better' if better else 'worse'} than {names[0]}"


def headline(metrics: Mapping[str, Any], names: tuple[str, str] = STUDENTS) -> str:
    """The finding in one plain sentence."""
    if not metrics["queries"]:
        return "Not measured: no judged queries"
    base, tuned, delta = (metrics[key][PRIMARY] for key in ("base", "tuned", "delta"))
    measured = (
        f"{verdict(metrics, names)}: {PRIMARY} {base:.3f} → {tuned:.3f} ({points(delta)} points, "
        f"95% CI {interval(metrics['ci95'])}, {p_value(metrics['p_value'])}, "
        f"{metrics['queries']:,} {metrics['split']} {'query' if metrics['queries'] == 1 else 'queries'})"
    )
    return f"{measured}{beside_free(metrics)}" if names == STUDENTS else measured


def beside_free(metrics: Mapping[str, Any]) -> str:
    """How the tuned model stands to the best that needs no training, as the end of a sentence; empty if that is the
    base itself, searched in the same way."""
    free = metrics["sets"][metrics["split"]]["free"] if metrics["queries"] else None
    if not free or free["best"] == SIDES[metrics["search_as"]][0]:
        return ""
    name = SYSTEMS[free["best"]]
    if free["delta"] >= 0:
        gain = f"{points(free['delta'])} points, {p_value(free['p_value'])}"
        return f", and better than {name} without training ({free['base']:.3f}; {gain})"
    both = free.get("hybrid")
    fused = (
        f"; fused with BM25, tuned has {both['tuned']:.3f} ({points(both['delta'])}, {p_value(both['p_value'])})"
        if both
        else ""
    )
    if both and free["best"] != "base+bm25":
        fused = f"{fused[:-1]} against base + BM25)"
    return f", but {name} has {free['base']:.3f} without training{fused}"


def how_fused(metrics: Mapping[str, Any]) -> str:
    """How BM25 was fused, with what a search engine must be told to do the same."""
    weights: dict[str, float] = metrics.get("bm25_weights", {})
    if not weights:
        return "With BM25: fused by reciprocal ranks (k = 60)."
    shares = " and ".join(f"{weight:g} with {student}" for student, weight in weights.items())
    return (
        "With BM25: a weighted sum of scores, each list's scaled to lie between 0 and 1. Of the weight BM25 has "
        f"{shares}, which dev queries chose: it flatters their own figures of such sums."
    )


def dropped_documents(facts: Mapping[str, Any]) -> str:
    """How many judged documents are not in what was searched; empty without any."""
    dropped, judged = facts["judged_docs_dropped"], facts["judged_docs"]
    return f"Judged documents dropped: {dropped:,} of {judged:,}" if dropped else ""


def caveats(metrics: Mapping[str, Any]) -> list[str]:
    """What a reader must know before trusting the first line."""
    if not metrics["queries"]:
        return ["Add judged queries (queries and qrels) to the corpus to measure the model and to gate it."]
    main = metrics["sets"][metrics["split"]]
    effect = main["minimal_detectable_effect"]
    notes = [
        "A single query shows no significance."
        if effect is None
        else f"With {metrics['queries']:,} queries a gain under {100 * effect:.1f} points is likely to go unseen: "
        "one of that size is found four times out of five."
    ]
    if main["synthetic"]:
        notes.insert(
            0,
            "These queries are synthetic: each was cut from a document that training never saw, which is taken as its "
            "one answer. They show a tendency; people's queries and judgements are needed for proof.",
        )
    if main["judged_by"] == "model":
        notes.insert(
            0, "These queries were judged by a model, not by people: the figures show agreement with that model."
        )
    if main["held_out"] == "queries" and not main["synthetic"]:
        notes.insert(0, QUERIES_ONLY)
    if dropped := dropped_documents(main):
        notes.append(f"{dropped}: they count as relevant, and no system can find them.")
    if main["role"] == "dev":
        notes.insert(0, "There is no test split: these are dev queries, which may have chosen settings or the teacher.")
    return notes


def points(difference: float) -> str:
    """A difference of a measure in hundredths, with its sign."""
    # Adding 0.0 makes a negative zero a plain one.
    return f"{round(100 * difference, 1) + 0.0:+.1f}".replace("-", "−")


def interval(bounds: tuple[float, float]) -> str:
    return f"{points(bounds[0])} to {points(bounds[1])}"


def p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def p_cell(value: float) -> str:
    """A p-value under a heading that says so."""
    return p_value(value).removeprefix("p = ").removeprefix("p ")
