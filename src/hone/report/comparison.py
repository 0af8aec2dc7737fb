"""What specialising changed: measures before and after, by system, by query and by group, and what serving takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from hone.evaluation.metrics import PRIMARY
from hone.evaluation.summary import SYSTEMS
from hone.report import charts
from hone.report.blocks import each_run, figure, lines
from hone.report.findings import Findings, Move, QueryGain, how_fused, interval, p_cell, points
from hone.report.html import Html, element, join, table

DRAWN = element("span", "interval, drawn", class_="hidden")


def before_after(findings: Findings) -> Html:
    """Every measure on every set, with intervals."""
    sets: dict[str, Any] = findings.metrics["sets"]
    every = [values for facts in sets.values() for values in facts["measures"].values()]
    reach = max((abs(bound) for values in every for bound in values["ci95"]), default=1.0)
    tables = [
        table(
            _set_name(name, facts),
            ("measure", *findings.names, "points", "95% interval", DRAWN, "p", "p (Holm)"),
            [_measure_row(measure, values, reach) for measure, values in facts["measures"].items()],
            numeric="|".join((*findings.names, "points|95% interval|p|p (Holm)")),
        )
        for name, facts in sorted(sets.items(), key=lambda item: item[0] != findings.metrics["split"])
    ]
    method = (
        f"Means over queries, as trec_eval computes them. The first line rests on {PRIMARY} alone. Intervals are "
        "percentile bootstrap; p is a two-sided paired randomisation test, p (Holm) the same adjusted for all the "
        "comparisons on this page."
    )
    return join([*tables, element("p", method, class_="soft")]) if tables else Html()


def _set_name(name: str, facts: Mapping[str, Any]) -> str:
    role = {
        "domain": "in-domain",
        "dev": "in-domain, dev",
        "guard": "guard: must not degrade",
        "last": "of the run before: must not be forgotten",
    }[facts["role"]]
    kind = "synthetic queries" if facts["synthetic"] else "queries"
    return f"{name} ({role}), {facts['queries']:,} {kind}; points are hundredths"


def systems(findings: Findings) -> Html:
    """Every system on every set, and how far the tuned student came on the way to the teacher."""
    return each_run(findings, _systems)


def _systems(findings: Findings) -> Html:
    parts: list[object] = []
    several = [item for item in findings.metrics["sets"].items() if len(item[1]["systems"]) > len(findings.names)]
    for name, facts in several:
        body = [[SYSTEMS.get(system, system), *_means(values)] for system, values in facts["systems"].items()]
        measures = tuple(next(iter(facts["systems"].values()), {}))
        parts.append(table(f"{name}: means of every system", ("system", *measures), body, "|".join(measures)))
        if facts["ceiling"]:
            parts.append(element("p", _ceiling(facts["ceiling"]), class_="soft"))
    if any(system.endswith("+bm25") for _, facts in several for system in facts["systems"]):
        parts.append(element("p", how_fused(findings.metrics), class_="soft"))
    return join(parts)


def _means(values: Mapping[str, float]) -> list[str]:
    return [f"{value:.3f}" for value in values.values()]


def _ceiling(facts: Mapping[str, Any]) -> str:
    gap = facts["gap_closed"]
    way = "the teacher is no better than the base here" if gap is None else f"{gap:.0%} of that gap is closed"
    return (
        f"The ceiling, on {_sampled(facts)}: the base has {PRIMARY} {facts['base']:.3f}, the teacher "
        f"that re-ranks its documents {facts['teacher']:.3f}, and the tuned student {facts['tuned']:.3f}: {way}."
    )


def _sampled(facts: Mapping[str, Any]) -> str:
    """A part of the queries is named as one: its figures stand beside those of all."""
    if facts["queries"] == facts["of"]:
        return f"all {facts['of']:,} queries"
    return f"a random sample of {facts['queries']:,} of {facts['of']:,} queries"


def groups(findings: Findings) -> Html:
    """The gain by style and length of the query."""
    if not findings.metrics["queries"]:
        return Html()
    main = findings.metrics["sets"][findings.metrics["split"]]
    return join([_group_table(by, rows, findings.names) for by, rows in main["groups"].items()])


def _group_table(by: str, rows: Sequence[Mapping[str, Any]], names: tuple[str, str]) -> Html:
    reach = max((abs(bound) for row in rows for bound in row["ci95"]), default=1.0)
    body = [[row["group"], f"{row['queries']:,}", *_gain_cells(row, reach)] for row in rows]
    columns = (by, "queries", *names, "points", "95% interval", DRAWN)
    return table(f"{PRIMARY} by {by} of the query", columns, body, "|".join(("queries", *names, "points|95% interval")))


def _measure_row(name: str, values: Mapping[str, Any], reach: float) -> list[object]:
    return [name, *_gain_cells(values, reach), p_cell(values["p_value"]), p_cell(values["p_holm"])]


def _gain_cells(values: Mapping[str, Any], reach: float) -> list[object]:
    """Base, tuned, difference, its interval in figures and drawn."""
    low, high = values["ci95"]
    kind = "better" if low > 0 else "worse" if high < 0 else ""
    delta = element("span", points(values["delta"]), class_=f"main {kind}".strip())
    mark = charts.interval_mark(values["delta"], low, high, reach)
    return [f"{values['base']:.3f}", f"{values['tuned']:.3f}", delta, interval((low, high)), mark]


def gains(findings: Findings) -> Html:
    """A bar for each query, to be hovered over for its text, and the same texts to unfold: a keyboard cannot hover."""
    gains = findings.gains
    if not gains:
        return Html()
    better, worse = (sum(sign * gain.gain > 0 for gain in gains) for sign in (1, -1))
    title = f"Gain in {PRIMARY} of each {findings.metrics['split']} query, in points, best first"
    labels = [f"{gain.text}: {gain.base:.3f} → {gain.tuned:.3f}" for gain in gains]
    chart = charts.gain_bars([gain.gain for gain in gains], labels, title)
    counts = f"{better:,} queries better, {len(gains) - better - worse:,} unchanged, {worse:,} worse."
    drawn = figure(chart, f"{title}. {counts}")
    shown = [labels[at] for at in charts.spread(len(labels))]
    return join(
        [
            drawn,
            element(
                "details",
                element("summary", "Every bar's query, as pointing at it shows too"),
                lines(shown),
                class_="bars",
            ),
        ]
    )


def examples(findings: Findings) -> Html:
    """The queries that gained and lost most, and where their documents went."""
    columns = ("query", "relevant documents: rank before → after, and the teacher's", PRIMARY)
    won = table("Queries that gained most", columns, _example_rows(findings.won), PRIMARY)
    lost = table("Queries that lost most", columns, _example_rows(findings.lost), PRIMARY)
    return join([won, lost])


def _example_rows(gains: tuple[QueryGain, ...]) -> list[list[object]]:
    return [
        [
            gain.text,
            lines([_moved(move) for move in gain.moves]),
            f"{gain.base:.3f} → {gain.tuned:.3f}",
        ]
        for gain in gains
    ]


def _moved(move: Move) -> Html:
    better = move.after and (not move.before or move.after < move.before)
    kind = "" if move.before == move.after else "better" if better else "worse"
    ranks = element("span", f"{move.before or '–'} → {move.after or '–'}", class_=f"rank {kind}".strip())
    teacher = {-1: "", 0: "not among what the teacher saw"}.get(move.teacher, f"teacher: {move.teacher}")
    note = element("span", f" ({teacher})", class_="soft") if teacher else ""
    return join([ranks, element("span", move.title, note)])


def size(findings: Findings) -> Html:
    """What an index, a memory budget and a time-out depend on, before and after."""
    models, times = findings.metrics["models"], findings.latency
    body = [
        [name.replace("_", " "), f"{base:,}", f"{models['tuned'][name]:,}"]
        for name, base in models.get("base", {}).items()
    ]
    if times:
        body.append(["milliseconds to encode a query", *(f"{times[system]:.2f}" for system in ("base", "tuned"))])
    return table("What serving either model takes", ("property", *findings.names), body, "|".join(findings.names))
