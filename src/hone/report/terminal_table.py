"""Tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hone.report.findings import STUDENTS, headline, interval, p_cell, points

if TYPE_CHECKING:
    from rich.table import Table


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]], numeric: str = "", title: str = "") -> "Table":
    """Rows of text as a table, with `numeric` headings, | between, at the right. The first column is not broken where
    another one holds words; in the others a word that is too long goes on in the next line and is never cut off."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title) or None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    numbers = numeric.split("|")
    only_one_with_words = {*headings[1:]} <= {*numbers}
    for at, heading in enumerate(headings):
        justify = "right" if heading in numbers else "left"
        whole = not at and not only_one_with_words
        table.add_column(escape(heading), justify=justify, no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def before_after(metrics: Mapping[str, Any], names: tuple[str, str] = STUDENTS) -> "Table":
    """metrics.json as a table: a row for each measure of each set, under the finding."""
    headings = ("set", "measure", *names, "points", "95% CI", "p", "p (Holm)")
    shown: list[tuple[str, ...]] = []
    before = ""
    for name, *row in rows(metrics):
        shown.append((name if name != before else "", *row))
        before = name
    return grid(headings, shown, "|".join(headings[2:]), headline(metrics, names))


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
