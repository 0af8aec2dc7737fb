"""The report as one HTML file that needs nothing else: no network, no script."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from hone.core.metrics import PRIMARY
from hone.core.verdict import Criterion, shown
from hone.manifest import Manifest
from hone.report import charts
from hone.report.findings import (
    STUDENTS,
    Findings,
    Histogram,
    Move,
    QueryGain,
    caveats,
    headline,
    interval,
    p_cell,
    points,
)
from hone.report.markup import Html, anchor, element, join, section, table
from hone.report.queries import queries
from hone.report.style import CSS

DIGITS = 12
GPU = "gpu_seconds"
DRAWN = element("span", "interval, drawn", class_="hidden")
SYSTEMS = {
    "bm25": "BM25",
    "base+bm25": "base + BM25, fused",
    "tuned+bm25": "tuned + BM25, fused",
    "teacher": "teacher, re-ranking base",
}
FUNNEL = (
    ("prepare", "docs", "documents"),
    ("generate", "queries", "training queries"),
    ("mine", "candidates", "queries with candidates"),
    ("score", "teacher_scores", "queries scored by the teacher"),
    ("curate", "lists", "training lists"),
)


def page(findings: Findings) -> str:
    """The whole document, every text of the corpus escaped."""
    finding = headline(findings.metrics, findings.names)
    parts = {title: content for title, build in SECTIONS.items() if (content := build(findings))}
    head = element(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", finding),
        element("style", Html(CSS)),
    )
    body = element("body", _header(findings, finding), _contents(list(parts)), _main(parts), _footer(findings))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(findings: Findings, finding: str) -> Html:
    metrics = findings.metrics
    sure = metrics["queries"] and metrics["significant"]
    kind = "flat" if not sure else "up" if metrics["delta"][PRIMARY] > 0 else "down"
    compared = findings.names != STUDENTS
    kind_of = "Two runs, their tuned models side by side" if compared else "Retriever specialisation report"
    about = f"{kind_of}: {findings.model}{_corpus(findings)}"
    notes = [element("p", note, class_="soft") for note in caveats(metrics)]
    verdict = _banner(findings.verdict)
    return element("header", element("p", about, class_="kind"), verdict, element("h1", finding, class_=kind), *notes)


def _banner(verdict: Mapping[str, Any]) -> Html:
    """The verdict in a word, and what kept the model from being promoted."""
    if not verdict:
        return Html()
    word = element("p", f"Verdict: {verdict['verdict']}", class_=f"verdict {verdict['verdict']}")
    return join([word, _lines(verdict["reasons"])]) if verdict["reasons"] else word


def _verdict(findings: Findings) -> Html:
    criteria = [Criterion(**row) for row in findings.verdict.get("criteria", [])]
    body = [
        [found.name, shown(found.value), shown(found.threshold), _outcome(found.outcome), found.note]
        for found in criteria
    ]
    columns = ("criterion", "value", "wanted", "outcome", "note")
    return table("Every criterion of the policy", columns, body, "value|wanted")


def _outcome(outcome: str) -> Html:
    kind = {"pass": "better", "reject": "worse"}.get(outcome, "")
    return element("span", outcome, class_=f"main {kind}".strip())


def _corpus(findings: Findings) -> str:
    sizes = [m.outputs["docs"].rows for m in findings.history if "docs" in m.outputs]
    return f", {sizes[0]:,} documents" if sizes else ""


def _contents(titles: list[str]) -> Html:
    links = [element("li", element("a", title, href=f"#{anchor(title)}")) for title in titles]
    return element("nav", element("ul", *links), aria_label="Contents")


def _main(parts: Mapping[str, Html]) -> Html:
    return element("main", *(section(title, content) for title, content in parts.items()))


def _before_after(findings: Findings) -> Html:
    sets: dict[str, Any] = findings.metrics["sets"]
    every = [values for found in sets.values() for values in found["measures"].values()]
    reach = max((abs(bound) for values in every for bound in values["ci95"]), default=1.0)
    tables = [
        table(
            _set_name(name, found),
            ("measure", *findings.names, "points", "95% interval", DRAWN, "p", "p (Holm)"),
            [_measure_row(measure, values, reach) for measure, values in found["measures"].items()],
            numeric="|".join((*findings.names, "points|95% interval|p|p (Holm)")),
        )
        for name, found in sorted(sets.items(), key=lambda item: item[0] != findings.metrics["split"])
    ]
    method = (
        f"Means over queries, as trec_eval computes them. The first line rests on {PRIMARY} alone. Intervals are "
        "percentile bootstrap; p is a two-sided paired randomisation test, p (Holm) the same adjusted for all the "
        "comparisons on this page."
    )
    return join([*tables, element("p", method, class_="soft")]) if tables else Html()


def _set_name(name: str, found: Mapping[str, Any]) -> str:
    role = {"domain": "in-domain", "dev": "in-domain, dev", "guard": "guard: must not degrade"}[found["role"]]
    kind = "synthetic queries" if found["synthetic"] else "queries"
    return f"{name} ({role}), {found['queries']:,} {kind}; points are hundredths"


def _systems(findings: Findings) -> Html:
    parts: list[object] = []
    several = [item for item in findings.metrics["sets"].items() if len(item[1]["systems"]) > len(findings.names)]
    for name, found in several:
        body = [[SYSTEMS.get(system, system), *_means(values)] for system, values in found["systems"].items()]
        measures = tuple(next(iter(found["systems"].values()), {}))
        parts.append(table(f"{name}: means of every system", ("system", *measures), body, "|".join(measures)))
        if found["ceiling"]:
            parts.append(element("p", _ceiling(found["ceiling"]), class_="soft"))
    return join(parts)


def _means(values: Mapping[str, float]) -> list[str]:
    return [f"{value:.3f}" for value in values.values()]


def _ceiling(found: Mapping[str, Any]) -> str:
    gap = found["gap_closed"]
    way = "the teacher is no better here" if gap is None else f"{gap:.0%} of the way is gone"
    return (
        f"The ceiling: on {found['queries']:,} queries the teacher re-ranks the base's documents to {PRIMARY} "
        f"{found['teacher']:.3f}; base {found['base']:.3f}, tuned {found['tuned']:.3f}: {way}."
    )


def _groups(findings: Findings) -> Html:
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


def _gains(findings: Findings) -> Html:
    gains = findings.gains
    if not gains:
        return Html()
    better, worse = (sum(sign * gain.gain > 0 for gain in gains) for sign in (1, -1))
    title = f"Gain in {PRIMARY} of each {findings.metrics['split']} query, in points, best first"
    labels = [f"{gain.text}: {gain.base:.3f} → {gain.tuned:.3f}" for gain in gains]
    chart = charts.gain_bars([gain.gain for gain in gains], labels, title)
    counts = f"{better:,} queries better, {len(gains) - better - worse:,} unchanged, {worse:,} worse."
    return _figure(chart, f"{title}. {counts} Point at a bar to read its query.")


def _examples(findings: Findings) -> Html:
    columns = ("query", "relevant documents: rank before → after, and the teacher's", PRIMARY)
    won = table("Queries that gained most", columns, _example_rows(findings.won), PRIMARY)
    lost = table("Queries that lost most", columns, _example_rows(findings.lost), PRIMARY)
    return join([won, lost])


def _example_rows(gains: tuple[QueryGain, ...]) -> list[list[object]]:
    return [
        [
            gain.text,
            _lines([_moved(move) for move in gain.moves]),
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


def _lines(items: Sequence[object]) -> Html:
    return element("ul", *(element("li", item) for item in items), class_="plain")


def _size(findings: Findings) -> Html:
    """What an index, a memory budget and a time-out depend on, before and after."""
    models, times = findings.metrics["models"], findings.latency
    body = [
        [name.replace("_", " "), f"{base:,}", f"{models['tuned'][name]:,}"]
        for name, base in models.get("base", {}).items()
    ]
    if times:
        body.append(["milliseconds to encode a query", *(f"{times[system]:.2f}" for system in ("base", "tuned"))])
    return table("What serving either model takes", ("property", *findings.names), body, "|".join(findings.names))


def _training(findings: Findings) -> Html:
    training = findings.training
    steps = [(step["step"], step["kl"]) for step in training.get("steps", []) if step.get("kl") is not None]
    looks = [(look["step"], look["dev_loss"]) for look in training.get("looks", []) if look["dev_loss"] is not None]
    curves = [charts.Line("train", steps), charts.Line("dev", looks, dots=True)]
    curves = [curve for curve in curves if curve.points]
    title = "Listwise loss (KL to the teacher) against training step"
    chart = _figure(charts.line_chart(curves, title, "step"), f"{title}.") if curves else Html()
    return join([chart, _alphas(training), _facts("What training did", training.get("summary", {}))])


def _alphas(training: Mapping[str, Any]) -> Html:
    curve = [(a["alpha"], a["dev_loss"]) for a in training.get("alphas", []) if a["dev_loss"] is not None]
    if len(curve) < 2:
        return Html()
    title = "Dev loss against alpha, the share of the way from the base to the trained weights"
    chart = charts.line_chart([charts.Line("dev", curve, dots=True)], title, "alpha", "{:.2f}")
    best = min(curve, key=lambda point: point[1])
    values = ", ".join(f"{alpha:g}: {loss:.4f}" for alpha, loss in curve)
    return _figure(chart, f"{title}. Lowest at {best[0]:g}, which was kept. {values}.")


def _teacher(findings: Findings) -> Html:
    score = next((manifest for manifest in findings.history if manifest.stage == "score"), None)
    facts = cast(dict[str, Any], score.facts.get("qualification", {})) if score else {}
    found = [_figure(charts.histogram(part), _shares(part)) for part in findings.histograms]
    return join([_facts("Was the teacher better than the student before training?", facts), *found])


def _shares(found: Histogram) -> str:
    names = " and ".join(found.shares)
    return f"{found.title}: share of documents by score, for {names}. Apart is good."


def _facts(caption: str, facts: Mapping[str, Any]) -> Html:
    return table(caption, ("fact", "value"), [[key.replace("_", " "), _plain(value)] for key, value in facts.items()])


def _funnel(findings: Findings) -> Html:
    done = {manifest.stage: manifest for manifest in findings.history}
    sizes = [(stage, unit, done[stage].outputs[name].rows) for stage, name, unit in FUNNEL if stage in done]
    most = max((rows for _, unit, rows in sizes if unit != "documents"), default=1)
    body = [
        [
            stage,
            join([unit, _share(rows / most) if unit != "documents" else ""]),
            f"{rows:,}",
            _lines([f"{count:,} {reason}" for reason, count in _reasons(findings, stage)]),
        ]
        for stage, unit, rows in sizes
    ]
    columns = ("stage", "kept", "rows", "left out")
    return table("What each stage passed on, and what it left out and why", columns, body, "rows")


def _reasons(findings: Findings, stage: str) -> list[tuple[str, int]]:
    return sorted(findings.dropped.get(stage, {}).items(), key=lambda item: (-item[1], item[0]))


def _share(share: float) -> Html:
    return element("span", class_="share", style=f"width:{min(1.0, share):.1%}")


def _cost(findings: Findings) -> Html:
    body = [[manifest.stage, *_costs(manifest.seconds, manifest.cost)] for manifest in findings.history]
    if body:
        gpu = sum(manifest.cost.get(GPU, 0) for manifest in findings.history)
        body.append(["all", *_costs(sum(manifest.seconds for manifest in findings.history), {GPU: gpu})])
    columns = ("stage", "seconds", "GPU seconds", "tokens", "pairs", "other work")
    return table("Time and work per stage", columns, body, "seconds|GPU seconds")


def _costs(seconds: float, cost: Mapping[str, float]) -> list[str]:
    """Seconds, GPU seconds, tokens, pairs and everything else that a stage counted."""
    units = {"tokens": list[str](), "pairs": list[str](), "": list[str]()}
    for name, amount in sorted(cost.items()):
        kind = next(unit for unit in units if unit in name)
        if name != GPU:
            units[kind].append(f"{amount:,.0f} {name.replace('_', ' ')}")
    return [f"{seconds:,.1f}", f"{cost.get(GPU, 0):,.1f}", *(", ".join(found) or "–" for found in units.values())]


def _changes(findings: Findings) -> Html:
    body = [[element("code", name), *values] for name, *values in findings.changes]
    return table("Settings that differ between the two runs", ("setting", *findings.names), body)


def _settings(findings: Findings) -> Html:
    groups = [(manifest.stage, manifest.config) for manifest in findings.history] + [("evaluate", findings.config)]
    return join([_settings_of(name, config) for name, config in groups if config])


def _settings_of(stage: str, config: Mapping[str, Any]) -> Html:
    rows = [[element("code", key), _plain(value)] for key, value in _flat(config)]
    return element("details", element("summary", stage), table(f"Settings of {stage}", ("setting", "value"), rows))


def _flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(cast(dict[str, Any], value), f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _licences(findings: Findings) -> Html:
    body = [[name, licence] for name, licence in findings.licences.items()]
    return table("Licences as their owners declare them", ("part", "licence"), body)


def _lineage(findings: Findings) -> Html:
    body = [
        [manifest.stage, element("code", manifest.fingerprint), _digests(manifest), manifest.version]
        for manifest in findings.history
    ]
    columns = ("stage", "result", "outputs (sha256)", "version")
    return table("Every result this report rests on", columns, body)


def _digests(manifest: Manifest) -> Html:
    found = [
        join([name, " ", element("code", output.digest[:DIGITS], title=output.digest)])
        for name, output in manifest.outputs.items()
    ]
    return _lines(found)


def _figure(chart: Html, caption: str) -> Html:
    return element("figure", chart, element("figcaption", caption))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in cast(list[object], value)) or "–"
    return f"{value:,}" if isinstance(value, int) else str(value) or "–"


def _footer(findings: Findings) -> Html:
    version = findings.history[-1].version if findings.history else ""
    return element("footer", f"Made by Hone {version}. The same figures are in metrics.json and report.md.")


SECTIONS = {
    "Verdict": _verdict,
    "Before and after": _before_after,
    "Systems side by side": _systems,
    "Gain per query": _gains,
    "By style and length": _groups,
    "Examples won and lost": _examples,
    "Size and speed": _size,
    "Training": _training,
    "Teacher and student": _teacher,
    "From documents to training lists": _funnel,
    "Training queries by source and style": queries,
    "Cost": _cost,
    "Settings that differ": _changes,
    "Settings": _settings,
    "Lineage": _lineage,
    "Licences": _licences,
}
