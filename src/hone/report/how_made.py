"""How the tuned student was made: training, teacher, and what became of every document and query on the way."""

from collections.abc import Mapping
from typing import Any, cast

from hone.report import charts
from hone.report.blocks import Points, columns, curves, each_run, facts, figure, lines, of_both
from hone.report.findings import Findings, Histogram
from hone.report.html import Html, element, join, table
from hone.report.interpolation import alphas

FUNNEL = (
    ("prepare", "docs", "documents"),
    ("generate", "queries", "training queries"),
    ("mine", "candidates", "queries with candidates"),
    ("score", "teacher_scores", "queries scored by the teacher"),
    ("curate", "lists", "training lists"),
)
LOSS = "Listwise loss (KL to the teacher) against training step"


def training(findings: Findings) -> Html:
    """Curves of one run, or of two on common axes, and what training did."""
    summary = facts("What training did", "fact", columns(findings, _did))
    if not findings.sides:
        return join([*_curves(findings.training), alphas(findings), summary])
    drawn = [
        curves(of_both(findings, _train), f"{LOSS}: train lists", "step"),
        curves(of_both(findings, _dev), f"{LOSS}: dev lists, which each run has of its own", "step"),
    ]
    return join([*drawn, alphas(findings), summary])


def _did(findings: Findings) -> Mapping[str, Any]:
    first = findings.training.get("first", {}).get("summary", {})
    return {**findings.training.get("summary", {}), **{f"before: {name}": value for name, value in first.items()}}


def _curves(training: Mapping[str, Any]) -> list[Html]:
    """The loss of one run's training, under that of the training before it where there was one."""
    drawn = [charts.Line("train", _steps(training)), charts.Line("dev", _looks(training), dots=True)]
    if first := training.get("first"):
        return [*_curves(first), curves(drawn, f"{LOSS}, of the training after it", "step")]
    return [curves(drawn, LOSS, "step")]


def _train(findings: Findings) -> Points:
    return _steps(findings.training)


def _dev(findings: Findings) -> Points:
    return _looks(findings.training)


def _steps(training: Mapping[str, Any]) -> Points:
    return [(step["step"], step["kl"]) for step in training.get("steps", []) if step.get("kl") is not None]


def _looks(training: Mapping[str, Any]) -> Points:
    return [(look["step"], look["dev_loss"]) for look in training.get("looks", []) if look["dev_loss"] is not None]


def teacher(findings: Findings) -> Html:
    """Whether the teacher knew better, and how its scores and the students' lie."""
    known = facts("Was the teacher better than the student before training?", "fact", columns(findings, _qualified))
    return join([known, each_run(findings, _histograms)])


def _qualified(findings: Findings) -> Mapping[str, Any]:
    score = next((manifest for manifest in findings.history if manifest.stage == "score"), None)
    facts = cast(dict[str, Any], score.facts.get("qualification", {})) if score else {}
    if facts.get("qualified") and facts.get("judged") == "synthetic":
        return {**facts, "qualified": "better on queries that nobody judged"}
    return facts


def _histograms(findings: Findings) -> Html:
    return join([figure(charts.histogram(part), _shares(part)) for part in findings.histograms])


def _shares(histogram: Histogram) -> str:
    title, names = histogram.title, " and ".join(histogram.shares)
    return f"{title}: share of documents by score, for {names}. The further apart, the better they are separated."


def funnel(findings: Findings) -> Html:
    """What every stage passed on, and what it left out and why."""
    return each_run(findings, _funnel)


def _funnel(findings: Findings) -> Html:
    done = {manifest.stage: manifest for manifest in findings.history}
    sizes = [(stage, unit, done[stage].outputs[name].rows) for stage, name, unit in FUNNEL if stage in done]
    most = max((rows for _, unit, rows in sizes if unit != "documents"), default=1)
    body = [
        [
            stage,
            join([unit, _share(rows / most) if unit != "documents" else ""]),
            f"{rows:,}",
            lines(
                [
                    f"{count:,} {reason}{_such_as(done[stage].facts, reason)}"
                    for reason, count in _reasons(findings, stage)
                ]
            ),
        ]
        for stage, unit, rows in sizes
    ]
    headings = ("stage", "kept", "rows", "left out")
    whole = table("What each stage passed on, and what it left out and why", headings, body, "rows")
    words = done["prepare"].facts.get("analyser") if "prepare" in done else None
    said = [f"Words, for BM25, extracts, lengths and duplicates: {words}."] if words else []
    said += [_read(done["mine"].facts)] if "mine" in done else []
    return join([whole, *(element("p", one, class_="soft") for one in said if one)])


def _read(facts: Mapping[str, Any]) -> str:
    """How much of the documents the student reads; a run of an earlier version does not say."""
    known = facts.get("reading")
    if not known:
        return ""
    return (
        f"The student reads {known['limit']:,} tokens of a document at most: of {known['docs']:,} documents "
        f"{known['longer']:.0%} are longer, and {known['unread']:.0%} of all text is neither searched nor trained on."
    )


def _such_as(known: Mapping[str, Any], reason: str) -> str:
    """Examples of what prepare left out."""
    examples = known.get("left_out", {}).get(reason, {}).get("examples", [])
    return f", such as {'; '.join(examples)}" if examples else ""


def _reasons(findings: Findings, stage: str) -> list[tuple[str, int]]:
    return sorted(findings.dropped.get(stage, {}).items(), key=lambda item: (-item[1], item[0]))


def _share(share: float) -> Html:
    return element("span", class_="share", style=f"width:{min(1.0, share):.1%}")
