"""How many domains stand, as one table: for a terminal, as Markdown, and as a page with a section per domain."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hone.report import general
from hone.report.findings import interval, p_cell, points
from hone.report.html import element, join, section, table
from hone.report.markdown_text import escaped, table_lines
from hone.report.style import CSS
from hone.report.terminal_table import grid

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("domain", "documents", "points nDCG@10", "95% interval", "p", "p (Holm)", "verdict", "cost", "age")
NUMERIC = "|".join((*HEADINGS[1:6], *HEADINGS[7:]))
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
ADJUSTED = (
    "p (Holm) is adjusted for there being several domains: rejecting those up to 5% errs on any in 5 of 100 cases."
)


@dataclass(frozen=True)
class Domain:
    """One domain: what its last run found, what it cost, and what was published of it."""

    name: str
    documents: int = 0
    queries: int = 0
    gain: float | None = None
    """The difference in nDCG@10 on the set that the finding rests on."""
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    p_holm: float | None = None
    """Adjusted over all domains that were measured."""
    verdict: str = ""
    finding: str = ""
    seconds: float = 0.0
    """Seconds that its stages took, all together."""
    finished: float = 0.0
    """When its last result was written, in seconds since the epoch; 0 for never."""
    fault: str = ""
    """Why its last run failed here; empty if it did not."""
    versions: tuple[str, ...] = ()
    """Published versions, the newest first."""


def rows(domains: Sequence[Domain], now: float | None = None) -> list[tuple[str, ...]]:
    """The cells of the table, as text."""
    at = time.time() if now is None else now
    return [
        (
            one.name,
            f"{one.documents:,}" if one.documents else "–",
            points(one.gain) if one.gain is not None else "–",
            interval(one.interval) if one.interval else "–",
            p_cell(one.p_value) if one.p_value is not None else "–",
            p_cell(one.p_holm) if one.p_holm is not None else "–",
            "failed" if one.fault else one.verdict or "not judged",
            _span(one.seconds) if one.seconds else "–",
            _span(at - one.finished) if one.finished else "never",
        )
        for one in domains
    ]


def terminal(domains: Sequence[Domain]) -> "Table":
    """The table for a terminal."""
    return grid(HEADINGS, rows(domains), NUMERIC)


def markdown(domains: Sequence[Domain], standings: Sequence[general.Standing] = ()) -> str:
    """The table as Markdown, with what failed and what was found below it, and how a general student stands."""
    lines = table_lines(HEADINGS, rows(domains))
    parts = [
        f"- {escaped(one.name)}: {escaped(one.fault or one.finding)}" for one in domains if one.fault or one.finding
    ]
    one_for_all = [general.markdown(standings), ""] if standings else []
    return "\n".join(["# Domains", "", *lines, "", ADJUSTED, "", *parts, "", *one_for_all])


def page(domains: Sequence[Domain], standings: Sequence[general.Standing] = ()) -> str:
    """One page, with a section for every domain and the history of its versions."""
    whole = table(ADJUSTED, HEADINGS, rows(domains), NUMERIC)
    parts = join([_section(one) for one in domains])
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Domains</title>'
    body = element("header", element("h1", f"{len(domains)} domains")) + element(
        "main", whole, general.html(standings) if standings else None, parts
    )
    return f'<!doctype html><html lang="en"><head>{head}<style>{CSS}</style></head><body>{body}</body></html>'


def _section(one: Domain) -> object:
    parts = [element("p", one.fault or one.finding or "Nothing was measured yet.")]
    if one.versions:
        listed = [element("li", version, " (current)" if not at else "") for at, version in enumerate(one.versions)]
        parts += [element("h3", "Published versions"), element("ol", *listed)]
    return section(one.name, *parts)


def _span(seconds: float) -> str:
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= 2 * size), UNITS[-1])
    return f"{seconds / size:,.0f} {unit}"
