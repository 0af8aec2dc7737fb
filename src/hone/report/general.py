"""How one student for several domains stands in each of them: for a terminal, as Markdown, and as part of a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hone.report.findings import interval, p_cell, points
from hone.report.html import element, section, table
from hone.report.markdown_text import escaped, table_lines
from hone.report.terminal_table import grid

if TYPE_CHECKING:
    from rich.table import Table

TITLE = "One student for several domains"
HEADINGS = (
    "domain", "weight", "base", "own", "general", "points nDCG@10", "95% interval", "p", "p (Holm)",
    "verdict",
)  # fmt: skip
NUMERIC = "|".join(HEADINGS[1:-1])
MEANT = (
    "nDCG@10 of the base, of the domain's own student, trained for it alone, and of the general one, trained on the "
    "lists of all domains; points, interval and p are of the general student against the base."
)


@dataclass(frozen=True)
class Standing:
    """The general student in one domain."""

    domain: str
    weight: float
    """How often a step takes lists of the domain, beside the others."""
    base: float | None = None
    """nDCG@10, as all figures here, on the set that the domain's finding rests on."""
    own: float | None = None
    """The student that is trained for this domain alone."""
    general: float | None = None
    interval: tuple[float, float] | None = None
    """Of the general student against the base, as p too."""
    p_value: float | None = None
    p_holm: float | None = None
    """Adjusted over the domains that were measured."""
    verdict: str = ""
    fault: str = ""
    """Why its last run failed here; empty if it did not."""

    @property
    def gain(self) -> float | None:
        """Against the base."""
        return None if self.base is None or self.general is None else self.general - self.base


def rows(standings: Sequence[Standing]) -> list[tuple[str, ...]]:
    """The cells of the table, as text."""
    return [
        (
            one.domain,
            f"{one.weight:g}",
            *("–" if value is None else f"{value:.3f}" for value in (one.base, one.own, one.general)),
            "–" if one.gain is None else points(one.gain),
            interval(one.interval) if one.interval else "–",
            *("–" if value is None else p_cell(value) for value in (one.p_value, one.p_holm)),
            "failed" if one.fault else one.verdict or "not judged",
        )
        for one in standings
    ]


def finding(standings: Sequence[Standing]) -> str:
    """In how many domains the general student gains, and by name where it loses, against the base or their own."""
    gains = {one.domain: one.gain for one in standings if one.gain is not None}
    if not gains:
        return "The general student was not measured yet."
    said = [f"The general student gains in {sum(gain > 0 for gain in gains.values())} of {len(standings)} domains"]
    if worse := [f"{name} ({points(gain)} points)" for name, gain in gains.items() if gain < 0]:
        said.append(f"it is worse than the base in {', '.join(worse)}, where it is not promoted")
    ahead = [
        f"{one.domain} ({points(one.own - one.general)})"
        for one in standings
        if one.own is not None and one.general is not None and one.own > one.general
    ]
    if ahead:
        said.append(f"the domain's own student is ahead in {', '.join(ahead)}")
    return "; ".join(said) + "."


def terminal(standings: Sequence[Standing]) -> "Table":
    """The table for a terminal, which has no room for all columns."""
    shown = [at for at, heading in enumerate(HEADINGS) if heading not in ("weight", "p")]
    cells = [[row[at] for at in shown] for row in rows(standings)]
    return grid([HEADINGS[at] for at in shown], cells, NUMERIC, TITLE)


def markdown(standings: Sequence[Standing]) -> str:
    """The table as Markdown, with what it means and what was found."""
    lines = table_lines(HEADINGS, rows(standings))
    faults = [f"- {escaped(one.domain)}: {escaped(one.fault)}" for one in standings if one.fault]
    return "\n".join([f"## {TITLE}", "", *lines, "", MEANT, "", escaped(finding(standings)), "", *faults])


def html(standings: Sequence[Standing]) -> object:
    """The table as a section of a page."""
    return section(TITLE, table(MEANT, HEADINGS, rows(standings), NUMERIC), element("p", finding(standings)))
