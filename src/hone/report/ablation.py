"""What an ablation and a saturation curve found, as a page and as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from hone.evaluation.statistics import ALPHA, Comparison
from hone.report import charts
from hone.report.blocks import figure
from hone.report.findings import interval, p_cell, points
from hone.report.html import Html, element, join, section, table
from hone.report.markdown_text import escaped
from hone.report.style import CSS

HEADINGS = (
    "variant", "lists", "gain", "each seed", "to the recipe", "95% interval", "p", "cost",
)  # fmt: skip
NUMERIC = "|".join(HEADINGS[1:])
CENT = 0.01
"""Prices below it are told as below it, and not as nothing."""


@dataclass(frozen=True)
class Row:
    """One variant: what it changes, and what it came to over the seeds that ran."""

    group: str
    name: str
    changes: str
    lists: int = 0
    base: float = 0.0
    tuned: float = 0.0
    gains: tuple[float, ...] = ()
    """Of each seed, over the base."""
    against: Comparison | None = None
    """The full recipe (base) against this variant (tuned), paired over queries, each the mean of the seeds that both
    ran; None for the full recipe itself."""
    seconds: float = 0.0
    """Of the stages that it does not share with the full recipe, a seed."""
    note: str = ""
    """Why there are no figures, or fewer than asked for."""


@dataclass(frozen=True)
class Ablation:
    """The table of an ablation; the full recipe comes first."""

    name: str
    split: str
    queries: int
    way: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    same: str = ""
    """What stands below the table."""


@dataclass(frozen=True)
class Curve:
    """Gain against the number of something, measured and fitted: x to gain, and the gain that twice as many bring."""

    axis: str
    measured: tuple[tuple[float, float], ...]
    fitted: tuple[tuple[float, float], ...]
    low: tuple[tuple[float, float], ...]
    high: tuple[tuple[float, float], ...]
    most: int
    twice: tuple[float, float]
    """95% interval of what twice as many would bring."""
    seconds: float
    """What making and using as many more would take."""
    price: float


@dataclass(frozen=True)
class Saturation:
    """The curves of a saturation study."""

    name: str
    split: str
    queries: int
    way: str
    seeds: tuple[int, ...]
    curves: tuple[Curve, ...]


def columns(study: Ablation) -> tuple[str, ...]:
    """The headings that say something: with one seed its gain is the gain."""
    return tuple(heading for heading in HEADINGS if len(study.seeds) > 1 or heading != "each seed")


def cells(row: Row, shown: Sequence[str]) -> list[str]:
    """A row of the table as text, under the headings `shown`."""
    texts = _texts(row)
    return [texts[heading] for heading in shown]


def _texts(row: Row) -> dict[str, str]:
    if not row.gains:
        return {**dict.fromkeys(HEADINGS, ""), "variant": row.name, "gain": row.note}
    against = row.against
    beside = ["", "", ""]
    if against:
        beside = [points(against.delta), interval(against.ci95), p_cell(against.p_value)]
    seeds = ", ".join(points(gain) for gain in row.gains)
    values = (row.name, f"{row.lists:,}", points(row.tuned - row.base), seeds, *beside, duration(row.seconds))
    return dict(zip(HEADINGS, values, strict=True))


def duration(seconds: float) -> str:
    """Seconds as a person reads them."""
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"


def finding(study: Ablation) -> str:
    """The first line: how many changes differ from the recipe by more than chance, and which matter most."""
    sure = [row for row in study.rows if row.against and row.against.p_value <= ALPHA]
    worse = sum(row.against.delta < 0 for row in sure if row.against)
    measured = sum(row.against is not None for row in study.rows)
    counts = f"Of {measured} variants {worse} are worse than the full recipe beyond chance"
    parts = [f"{counts} and {len(sure) - worse} better"]
    largest = sorted(((row.against.delta, row.name) for row in sure if row.against), key=lambda one: -abs(one[0]))
    return "; ".join([*parts, *(f"{name}: {points(delta)} points" for delta, name in largest[:3])])


def sentence(curve: Curve) -> str:
    """What a manager wants to know."""
    took = f"{duration(curve.seconds)} of this machine"
    price = f"{curve.price:,.2f}" if curve.price >= CENT else f"less than {CENT:g}"
    cost = f"{took}, at a price of {price}" if curve.price else took
    low, high = (points(value) for value in curve.twice)
    amount = f"Twice the {curve.axis} ({2 * curve.most:,} instead of {curve.most:,})"
    return f"{amount} would bring {low} to {high} points for {cost}."


def _about(study: "Ablation | Saturation") -> str:
    seeds = f"seed{'s' if len(study.seeds) > 1 else ''} {', '.join(map(str, study.seeds))}"
    return f"{study.queries:,} {study.split} queries, {seeds}, searched {study.way}"


def ablation_page(study: Ablation) -> str:
    """The table and its plot as one HTML file that needs nothing else."""
    about = f"Ablation of {study.name}: {_about(study)}"
    parts = [section("Against the full recipe", _plot(study), element("p", METHOD, class_="soft"))]
    shown = columns(study)
    body = [cells(row, shown) for row in study.rows if row.gains]
    parts.append(section("Every variant", table(POINTS, shown, body, NUMERIC)))
    missing = [[row.group, row.name, row.note] for row in study.rows if row.note]
    if missing:
        parts.append(
            section("Not measured, or not with every seed", table(MISSING, ("group", "variant", "why"), missing))
        )
    changed = [[row.group, row.name, element("code", row.changes)] for row in study.rows if row.changes]
    if changed:
        parts.append(section("What each changes", table(CHANGES, ("group", "variant", "settings"), changed)))
    return _page(finding(study), about, parts)


POINTS = "Gains and differences in points: hundredths of nDCG@10"
MISSING = "Variants without figures, or with those of fewer seeds"
CHANGES = "Laid over the settings of the full recipe"


METHOD = (
    "Each variant changes one thing of the full recipe. Its difference to the recipe is paired over the same queries, "
    "each query the mean of the seeds that both ran; intervals are percentile bootstrap over queries, p is a two-sided "
    "paired randomisation test, not adjusted for the number of variants. Cost is what a variant does not share with "
    "the recipe, a seed."
)


def _plot(study: Ablation) -> Html:
    rows = [(row.name, row.against) for row in study.rows if row.against]
    title = "Difference to the full recipe in nDCG@10, in points, with 95% intervals"
    bars = [(name, one.delta, *one.ci95) for name, one in rows]
    return figure(charts.whiskers(bars, title), f"{title}. Left of 0: the full recipe is better.") if bars else Html()


def saturation_page(study: Saturation) -> str:
    """The curves as one HTML file."""
    about = f"Saturation of {study.name}: {_about(study)}"
    parts = [section(f"Gain against {curve.axis}", _curve(curve)) for curve in study.curves]
    return _page(" ".join(sentence(curve) for curve in study.curves), about, parts)


def _curve(curve: Curve) -> Html:
    title = f"Gain in nDCG@10, in points, against the number of {curve.axis}"
    start = (0.0, 0.0)
    drawn = {
        "measured": curve.measured,
        "fitted": (start, *curve.fitted),
        "95% low": (start, *curve.low),
        "95% high": (start, *curve.high),
    }
    lines = [
        charts.Line(name, [(x, 100 * gain) for x, gain in measured], name == "measured")
        for name, measured in drawn.items()
    ]
    body = [[f"{x:,.0f}", points(gain)] for x, gain in curve.measured]
    return join(
        [
            element("p", sentence(curve)),
            figure(charts.line_chart(lines, title, curve.axis), f"{title}. {FIT}"),
            table(f"Measured gain by number of {curve.axis}", (curve.axis, "points"), body, f"{curve.axis}|points"),
        ]
    )


FIT = "Fitted: gain = G n / (n + h), through 0 without any; the interval resamples queries (percentile bootstrap)."


def _page(headline: str, about: str, parts: Sequence[Html]) -> str:
    head = element(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", headline),
        element("style", Html(CSS)),
    )
    header = element("header", element("p", about, class_="kind"), element("h1", headline))
    body = element("body", header, element("main", *parts), element("footer", "Made by Hone."))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def ablation_markdown(study: Ablation) -> str:
    """The same table for a pull request or a page of documentation."""
    lines = [f"**{escaped(finding(study))}.** {_about(study)}.", ""]
    shown = columns(study)
    lines += [f"| | {' | '.join(shown)} |", f"|---|---|{'--:|' * (len(shown) - 1)}"]
    lines += [f"| {' | '.join(escaped(cell) for cell in (row.group, *cells(row, shown)))} |" for row in study.rows]
    return "\n".join([*lines, "", METHOD]) + "\n"


def saturation_markdown(study: Saturation) -> str:
    """The same as Markdown."""
    lines = [f"{_about(study)}.", ""]
    for curve in study.curves:
        lines += [f"**{escaped(sentence(curve))}**", "", f"| {curve.axis} | gain in points |", "|--:|--:|"]
        lines += [f"| {x:,.0f} | {points(gain)} |" for x, gain in curve.measured] + [""]
    return "\n".join([*lines, FIT]) + "\n"
