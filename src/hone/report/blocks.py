"""What several sections are built from: figures, lists, tables of facts, and one part for each of two runs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from hone.report import charts
from hone.report.findings import Findings
from hone.report.html import Html, element, join, scrolled, table

Points = Sequence[tuple[float, float]]


def figure(chart: Html, caption: str) -> Html:
    """A chart with what it shows; on a narrow screen it scrolls rather than shrinks."""
    return element("figure", scrolled(chart, caption), element("figcaption", caption))


def curves(
    drawn: Sequence[charts.Line], title: str, x_name: str, x_format: str = "{:,.0f}", least: float = 0.0
) -> Html:
    """Those curves that have points on common axes, with what they show; nothing without any."""
    there = [line for line in drawn if line.points]
    return figure(charts.line_chart(there, title, x_name, x_format, least), f"{title}.") if there else Html()


def of_both(findings: Findings, read: Callable[[Findings], Points]) -> list[charts.Line]:
    """The curve of each of two compared runs."""
    lists = [read(side) for side in findings.sides]
    return [charts.Line(name, points, len(points) < 20) for name, points in zip(findings.names, lists, strict=True)]


def lines(items: Sequence[object]) -> Html:
    """A list without marks."""
    return element("ul", *(element("li", item) for item in items), class_="plain")


def facts(caption: str, heading: str, columns: Mapping[str, Mapping[str, Any]]) -> Html:
    """A row for each fact that any column knows, in plain words; columns by heading."""
    names = dict.fromkeys(name for known in columns.values() for name in known)
    rows = [[name.replace("_", " "), *(plain(known.get(name, "")) for known in columns.values())] for name in names]
    filled = [row for row in rows if any(value != NOTHING for value in row[1:])]
    return table(caption, (heading, *columns), filled)


NOTHING = "–"


def plain(value: object) -> str:
    """A setting or fact as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(item) for item in cast(list[object], value)) or NOTHING
    return f"{value:,}" if isinstance(value, int) else str(value) or NOTHING


def each_run(findings: Findings, build: Callable[[Findings], Html]) -> Html:
    """The part as it is for one run; where two are compared, that of each under its name."""
    if not findings.sides:
        return build(findings)
    parts = [(name, build(side)) for name, side in zip(findings.names, findings.sides, strict=True)]
    return join([join([element("h3", name), part]) for name, part in parts if part])


def columns(findings: Findings, read: Callable[[Findings], Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """What a run knows of something, as a column of `facts`: one, or one for each of two runs."""
    if not findings.sides:
        return {"value": read(findings)}
    return {name: read(side) for name, side in zip(findings.names, findings.sides, strict=True)}
