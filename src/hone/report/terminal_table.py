"""Tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hone.report.findings import STUDENTS, headline, interval, p_cell, points

if TYPE_CHECKING:
    from rich.table import Table


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], numeric: str, title: str = "") -> "Table":
    """Rows of text as a table, whose first column is not broken; `numeric` are headings, with | between."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title or None)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if heading in numeric.split("|") else "left", no_wrap=not at)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def before_after(metrics: Mapping[str, Any], names: tuple[str, str] = STUDENTS) -> "Table":
    """metrics.json as a table: a row for each measure of each set, under the finding."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(headline(metrics, names)),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("set")
    table.add_column("measure", no_wrap=True)
    for heading in (*map(escape, names), "points", "95% CI", "p", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    before = ""
    for name, *row in rows(metrics):
        table.add_row(name if name != before else "", *row)
        before = name
    return table


def rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Set with queries, measure, base, tuned, difference in points, interval, p and adjusted p, as text."""
    return [
        (
            f"{name} ({facts['queries']:,})",
            measure,
            f"{values['base']:.3f}",
            f"{values['tuned']:.3f}",
            points(values["delta"]),
            interval(values["ci95"]),
            p_cell(values["p_value"]),
            p_cell(values["p_holm"]),
        )
        for name, facts in metrics["sets"].items()
        for measure, values in facts["measures"].items()
    ]
