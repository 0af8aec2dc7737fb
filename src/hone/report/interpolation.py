"""How far the student went from the base to the trained weights: what each share of the way came to."""

from collections.abc import Callable
from typing import Any

from hone.evaluation.metrics import PRIMARY
from hone.report import charts
from hone.report.blocks import Points, curves, each_run, of_both
from hone.report.findings import Findings, points
from hone.report.html import Html, join, table

LEAST = 0.02
"""nDCG@10 that the axis of a guard set spans at least, so that a hundredth of a point does not look like a fall."""
WAY = "against alpha, the share of the way from the base to the trained weights"


def alphas(findings: Findings) -> Html:
    """Drawn where a run tried several: the dev loss, and nDCG@10 on each guard set."""
    runs = findings.sides or (findings,)
    if not any(len(_tried(run)) > 1 for run in runs):
        return Html()
    guards = dict.fromkeys(name for run in runs for tried in _tried(run) for name in _guards(tried))
    drawn = [_drawn(findings, "dev", _dev, f"Dev loss {WAY}")]
    drawn += [_drawn(findings, name, _on(name), f"{PRIMARY} on {name}, a guard set, {WAY}", LEAST) for name in guards]
    return join([*drawn, each_run(findings, _table)])


def _tried(findings: Findings) -> list[dict[str, Any]]:
    return findings.training.get("alphas", [])


def _dev(findings: Findings) -> Points:
    return [(point["alpha"], point["dev_loss"]) for point in _tried(findings) if point["dev_loss"] is not None]


def _on(guard: str) -> Callable[[Findings], Points]:
    return lambda run: [(point["alpha"], _guards(point)[guard]) for point in _tried(run) if guard in _guards(point)]


def _drawn(findings: Findings, name: str, read: Callable[[Findings], Points], title: str, least: float = 0.0) -> Html:
    lines = of_both(findings, read) if findings.sides else [charts.Line(name, read(findings), dots=True)]
    return curves(lines, title, "alpha", "{:.2f}", least)


def _table(findings: Findings) -> Html:
    tried = _tried(findings)
    if len(tried) < 2:
        return Html()
    guards = [f"{PRIMARY} on {name} (points)" for name in _guards(tried[0])]
    headings = ("alpha", "dev loss", f"dev {PRIMARY}", *guards, "outcome")
    summary = findings.training.get("summary", {})
    on = f": chosen on {summary['alpha_chosen_on']}" if "alpha_chosen_on" in summary else ""
    rows = [_row(point, tried[0], point["alpha"] == summary.get("alpha")) for point in tried]
    return table(f"What each alpha came to{on}", headings, rows, "|".join(headings[:-1]))


def _row(point: dict[str, Any], base: dict[str, Any], kept: bool) -> list[str]:
    guards = (f"{value:.4f} ({points(value - _guards(base)[name])})" for name, value in _guards(point).items())
    state = "kept" if kept else "" if point.get("allowed", True) else "loses too much"
    return [f"{point['alpha']:g}", _figure(point["dev_loss"]), _figure(point.get("dev_ndcg")), *guards, state]


def _guards(point: dict[str, Any]) -> dict[str, float]:
    return point.get("guards", {})


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
