"""Should a tuned model replace the one in use? A policy, applied to what was measured, criterion by criterion.

Shown harm rejects, missing proof holds, and only a model that passes every criterion is promoted.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from hone.config import Settings
from hone.evaluation.metrics import PRIMARY
from hone.evaluation.summary import QUERIES_ONLY, SIDES, SYSTEMS

Outcome = Literal["pass", "hold", "reject"]
PROMOTE, HOLD, REJECT = "promote", "hold", "reject"
EXIT_CODES = {PROMOTE: 0, REJECT: 3, HOLD: 4}
"""How `hone gate --strict` and `hone submit` end; docs/evaluation.md has the table of all exit codes."""
SPEED = "time to encode a query"
SHAPE = ("dimension", "layers", "max_doc_tokens")


class Policy(Settings):
    """What a model must show to be promoted."""

    min_gain: float = Field(0.005, ge=-1, le=1)
    """Least mean gain in nDCG@10 on every in-domain test set; 0.01 is one point."""
    beat: Literal["base", "free"] = "free"
    """What it must beat: the base searched as users search (evaluate.search_as), or also the best that is free: BM25,
    the base, or both fused, untrained. If something free is better, the verdict is hold."""
    max_p: float = Field(0.05, gt=0, lt=1)
    """Largest p-value of that gain. A loss with such a p-value rejects."""
    guard_margin: float = Field(0.01, ge=0)
    """A guard set may lose at most this much nDCG@10: the 95% interval must lie above its negative."""
    published_margin: float = Field(0.01, ge=0)
    """Where training started from a published model: nDCG@10 that may be lost against it on a test or guard set, or on
    the test queries of the run that it came from; the 95% interval must lie above its negative."""
    min_lists: int = Field(100, ge=0)
    """Least number of lists that the model was trained on."""
    teacher_qualified: bool = True
    """The teacher must have been found better than the student before training."""
    human_judgements: bool = True
    """The gain must be measured on human judgements; a synthetic test set holds."""
    test_split: bool = True
    """The gain must be measured on test queries; dev queries, which may have chosen settings, hold."""
    max_growth: float = Field(0.02, ge=0)
    """Most growth in the number of parameters; dimension, layers and length must be those of the base."""
    max_slowdown: float = Field(0.25, ge=0)
    """Most that encoding a query may take longer than with the base; a measured time, so more only holds."""
    max_leaks: int = Field(0, ge=0)
    """Most training lists that may show a query of a test or guard set or a document judged relevant for one that was
    to be kept out."""


@dataclass(frozen=True)
class Criterion:
    """One question of the policy: what was found, what was asked for, and what follows."""

    name: str
    value: float | str
    threshold: float | str
    outcome: Outcome
    note: str = ""
    bound: Literal["", "at least", "at most"] = ""
    """How the threshold is meant; empty if the value must be just that."""
    unit: Literal["", "points"] = ""
    """points: hundredths of a measure."""

    @property
    def found(self) -> str:
        """The value as a person reads it."""
        return shown(self.value, self.unit)

    @property
    def wanted(self) -> str:
        """The threshold as a person reads it."""
        return f"{self.bound} {shown(self.threshold, self.unit)}".strip()


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on: metrics.json, and how the model was trained."""

    metrics: Mapping[str, Any]
    train_lists: int
    dev_lists: int
    """Lists that choose the best weights; a leak through them counts as well."""
    leaks: int
    teacher: Mapping[str, Any]
    """The fact `qualification` of score; empty if there is none."""
    latency: Mapping[str, float]
    """Milliseconds to encode one query with base and tuned; empty if it was not measured."""


def decide(evidence: Evidence, policy: Policy) -> tuple[str, list[Criterion]]:
    """promote, hold or reject, and every criterion: one rejection rejects, one hold holds."""
    criteria = [
        *_gains(evidence.metrics, policy),
        *_beside_free(evidence.metrics, policy),
        *_guards(evidence.metrics, policy),
        *_beside_published(evidence.metrics, policy),
        _independent(evidence.metrics, policy),
        *_documents(evidence.metrics),
        _teacher(evidence.teacher, policy),
        _lists(evidence, policy),
        _leaks(evidence, policy),
        *_shape(evidence.metrics["models"], policy),
        _speed(evidence.latency, policy),
    ]
    outcomes = {criterion.outcome for criterion in criteria}
    return REJECT if "reject" in outcomes else HOLD if "hold" in outcomes else PROMOTE, criteria


def sets_of(metrics: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The measured sets of one role: domain, dev or guard."""
    return {name: facts for name, facts in metrics["sets"].items() if facts["role"] == role}


def _gains(metrics: Mapping[str, Any], policy: Policy) -> Iterator[Criterion]:
    """Two criteria for each in-domain test set, or for the dev queries where there is no other."""
    measured = sets_of(metrics, "domain") or sets_of(metrics, "dev")
    searched = "both fused with BM25, as users search" if metrics["search_as"] == "hybrid" else ""
    if not measured:
        none = "there are no judged queries"
        least = 100 * policy.min_gain
        yield Criterion(f"gain in {PRIMARY}", "not measured", least, "hold", none, "at least", "points")
    for name, facts in measured.items():
        values = facts["measures"][PRIMARY]
        delta, p = values["delta"], values["p_value"]
        low = "reject" if delta < 0 and p <= policy.max_p else "hold"
        gained = _pass(delta >= policy.min_gain, low)
        yield Criterion(
            f"gain in {PRIMARY} on {name}", 100 * delta, 100 * policy.min_gain, gained, searched, "at least", "points"
        )
        yield Criterion(f"p-value on {name}", p, policy.max_p, _pass(p <= policy.max_p), _detectable(facts), "at most")


def _beside_free(metrics: Mapping[str, Any], policy: Policy) -> Iterator[Criterion]:
    """What a user could have without any training must not be better."""
    for name, facts in (sets_of(metrics, "domain") or sets_of(metrics, "dev")).items():
        asked = policy.beat == "free"
        title, free = f"best without training on {name}", facts["free"]
        if free is None:
            note = "evaluate.lexical: false leaves out BM25" if asked else ""
            yield Criterion(title, "not measured", "not better", _pass(not asked), note)
            continue
        best, tuned = SYSTEMS[free["best"]], SYSTEMS[SIDES[metrics["search_as"]][1]]
        p = free["p_value"]
        note = f"{best} has {free['base']:.3f} without training, {tuned} {free['tuned']:.3f} (p = {p:.3f})"
        least: float | str = 0.0 if asked else "any"
        outcome = _pass(free["delta"] >= 0 or not asked)
        yield Criterion(title, 100 * free["delta"], least, outcome, note, "at least" if asked else "", "points")


def _guards(metrics: Mapping[str, Any], policy: Policy) -> Iterator[Criterion]:
    for name, facts in sets_of(metrics, "guard").items():
        low, high = facts["measures"][PRIMARY]["ci95"]
        outcome = _pass(low >= -policy.guard_margin, "reject" if high < -policy.guard_margin else "hold")
        note = f"95% interval {shown(100 * low, 'points')} to {shown(100 * high, 'points')}"
        margin = -100 * policy.guard_margin
        yield Criterion(f"{name} does not degrade", 100 * low, margin, outcome, note, "at least", "points")


def _beside_published(metrics: Mapping[str, Any], policy: Policy) -> Iterator[Criterion]:
    """A retraining must not be worse than what serves now, on this run's test sets and on those of the run before."""
    if "start" not in metrics:
        return
    dev = {} if sets_of(metrics, "domain") else sets_of(metrics, "dev")
    last = sets_of(metrics, "last")
    for name, facts in (sets_of(metrics, "domain") | dev | sets_of(metrics, "guard") | last).items():
        low, high = facts["published"]["ci95"]
        outcome = _pass(low >= -policy.published_margin, "reject" if high < -policy.published_margin else "hold")
        note = f"95% interval {shown(100 * low, 'points')} to {shown(100 * high, 'points')} against the published model"
        title = f"{name} not forgotten" if name in last else f"{name} no worse than published"
        yield Criterion(title, 100 * low, -100 * policy.published_margin, outcome, note, "at least", "points")
    if not last:
        note = "those of the published model's own run are this run's, are gone from the store, or have no answer left"
        yield Criterion("last test queries not forgotten", "not measured apart", "any", "pass", note)


def _independent(metrics: Mapping[str, Any], policy: Policy) -> Criterion:
    measured = sets_of(metrics, "domain")
    synthetic = any(facts["synthetic"] for facts in measured.values())
    by_model = any(facts["judged_by"] == "model" for facts in measured.values())
    kind = "synthetic" if synthetic else "judged by a model" if by_model else "human"
    value = kind if measured else "dev" if metrics["sets"] else "none"
    refused = {"dev": policy.test_split, "human": False, "none": True}
    refused |= dict.fromkeys(("synthetic", "judged by a model"), policy.human_judgements)
    wanted = "test queries, human judgements" if policy.human_judgements else "test queries"
    return Criterion("independent test queries", value, wanted, _pass(not refused[value]))


def _documents(metrics: Mapping[str, Any]) -> Iterator[Criterion]:
    """What was kept out of training, and what of the judged documents cannot be found: named, never held against a
    model, since either is the same before and after."""
    for name, facts in sets_of(metrics, "domain").items():
        if facts["held_out"]:
            note = QUERIES_ONLY if facts["held_out"] == "queries" else ""
            value = {"queries": "the queries", "documents": "the queries and the documents that answer them"}
            yield Criterion(f"kept out of training of {name}", value[facts["held_out"]], "any", "pass", note)
        if facts["judged_docs_dropped"]:
            value = f"{facts['judged_docs_dropped']:,} of {facts['judged_docs']:,}"
            note = "they count as relevant, and no system can find them"
            yield Criterion(f"judged documents dropped of {name}", value, "any", "pass", note)


def _teacher(teacher: Mapping[str, Any], policy: Policy) -> Criterion:
    """A teacher that was tried on queries that nobody judged passes, but is never called qualified without a word."""
    qualified = bool(teacher.get("qualified"))
    unjudged = teacher.get("judged") == "synthetic"
    value = "not qualified" if not qualified else "better on queries that nobody judged" if unjudged else "qualified"
    wanted = "qualified" if policy.teacher_qualified else "any"
    outcome = _pass(qualified or not policy.teacher_qualified)
    note = str(teacher.get("reason", ""))
    if not note and "ci95" in teacher:
        note = "; ".join(filter(None, (_how_sure(teacher), str(teacher["caution"]))))
    return Criterion("teacher", value, wanted, outcome, note)


def _how_sure(teacher: Mapping[str, Any]) -> str:
    ends = (teacher["teacher"] - teacher["student"], *teacher["ci95"])
    gain, low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in ends)
    p = teacher["p_value"]
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    on = f"on {teacher['queries']:,} {teacher['kind']}"
    reached = f"{PRIMARY} {teacher['teacher']:.3f}, the student's {teacher['student']:.3f}"
    return f"{reached}, {on}: {gain} points (95% {low} to {high}, {chance})"


def _lists(evidence: Evidence, policy: Policy) -> Criterion:
    note = f"and {evidence.dev_lists:,} that choose the best weights" if evidence.dev_lists else ""
    enough = _pass(evidence.train_lists >= policy.min_lists)
    return Criterion("training lists", evidence.train_lists, policy.min_lists, enough, note, "at least")


def _leaks(evidence: Evidence, policy: Policy) -> Criterion:
    every = evidence.train_lists + evidence.dev_lists
    shows = (
        f"of all {every:,} lists, those that show a query of a test or guard set or a document judged relevant for one"
    )
    few = _pass(evidence.leaks <= policy.max_leaks)
    note = shows if evidence.leaks else ""
    return Criterion("lists that leak test data", evidence.leaks, policy.max_leaks, few, note, "at most")


def _shape(models: Mapping[str, Mapping[str, Any]], policy: Policy) -> Iterator[Criterion]:
    """An index and a memory budget that fit the base must fit the tuned model too."""
    for key in SHAPE if models else ():
        base, tuned = models["base"][key], models["tuned"][key]
        yield Criterion(f"{key.replace('_', ' ')} unchanged", tuned, base, _pass(base == tuned, "reject"))
    if models:
        tuned, most = models["tuned"]["parameters"], int(models["base"]["parameters"] * (1 + policy.max_growth))
        yield Criterion("parameters", tuned, most, _pass(tuned <= most, "reject"), bound="at most")


def _speed(latency: Mapping[str, float], policy: Policy) -> Criterion:
    """In words, not milliseconds: those differ between two runs, and the same model has the same verdict."""
    allowed = f"at most {policy.max_slowdown:.0%} slower"
    if not latency:
        return Criterion(SPEED, "not measured", allowed, "hold")
    fast = latency["tuned"] <= latency["base"] * (1 + policy.max_slowdown)
    return Criterion(SPEED, "within" if fast else "slower", allowed, _pass(fast))


def _pass(passed: bool, otherwise: Outcome = "hold") -> Outcome:
    return "pass" if passed else otherwise


def _detectable(facts: Mapping[str, Any]) -> str:
    effect = facts["minimal_detectable_effect"]
    if effect is None:
        return "a single query shows nothing"
    if effect == 0:
        return "no query changed"
    return f"with {facts['queries']:,} queries a gain under {100 * effect:.1f} points cannot be seen"


def reasons(criteria: Sequence[Criterion]) -> list[str]:
    """What kept a model from being promoted, in words."""
    return [
        f"{one.name}: {one.found}, wanted {one.wanted}" + (f" ({one.note})" if one.note else "")
        for one in criteria
        if one.outcome != "pass"
    ]


def shown(value: float | str, unit: str = "") -> str:
    """A value or threshold as a person reads it."""
    if unit and isinstance(value, float):
        return f"{value:+.2f} points".replace("-", "−")
    if isinstance(value, float):
        return f"{value:.5f}".rstrip("0") if 0 < abs(value) < 0.001 else f"{value:,.3g}"
    return f"{value:,}" if isinstance(value, int) else value


def read_verdict(text: str) -> tuple[dict[str, Any], list[Criterion]]:
    """verdict.json, and its criteria as they were judged."""
    verdict: dict[str, Any] = json.loads(text)
    return verdict, [Criterion(**row) for row in verdict["criteria"]]
