"""The report as one HTML file that needs nothing else: no network, no script."""

from collections.abc import Mapping
from typing import Any

from hone.evaluation.metrics import PRIMARY
from hone.evaluation.policy import Criterion
from hone.report import comparison, costs_and_settings, how_made
from hone.report.blocks import lines
from hone.report.findings import STUDENTS, Findings, caveats, headline
from hone.report.html import Html, anchor, element, join, section, table
from hone.report.query_sources import queries
from hone.report.style import CSS

MEANING = {
    "promote": "Every criterion is met: the tuned model may replace the base.",
    "hold": "No harm is shown, but not every proof is there: keep the base for now.",
    "reject": "Harm is shown: do not use the tuned model.",
}


def page(findings: Findings) -> str:
    """The whole document, every text of the corpus escaped."""
    finding = headline(findings.metrics, findings.names)
    parts = sections(findings)
    head = element(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", finding),
        element("style", Html(CSS)),
    )
    body = element("body", _header(findings, finding), _contents(list(parts)), _main(parts), _footer(findings))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def sections(findings: Findings) -> dict[str, Html]:
    """Title to content of every section that has something to say."""
    return {title: content for title, build in SECTIONS.items() if (content := build(findings))}


def _header(findings: Findings, finding: str) -> Html:
    metrics = findings.metrics
    sure = metrics["queries"] and metrics["significant"]
    kind = "flat" if not sure else "up" if metrics["delta"][PRIMARY] > 0 else "down"
    compared = findings.names != STUDENTS
    kind_of = "Two runs, their tuned models side by side" if compared else "Retriever specialisation report"
    about = f"{kind_of}: {findings.model}{_corpus(findings)}"
    notes = [element("p", note, class_="soft") for note in (*caveats(metrics), *findings.notes)]
    verdict = _banner(findings.verdict)
    return element("header", element("p", about, class_="kind"), verdict, element("h1", finding, class_=kind), *notes)


def _banner(verdict: Mapping[str, Any]) -> Html:
    """The verdict in a word, what it means, and what kept the model from being promoted."""
    if not verdict:
        return Html()
    word = element("p", f"Verdict: {verdict['verdict']}", class_=f"verdict {verdict['verdict']}")
    meaning = element("p", MEANING[verdict["verdict"]], class_="meaning")
    return join([word, meaning, lines(verdict["reasons"]) if verdict["reasons"] else ""])


def _verdict(findings: Findings) -> Html:
    """Every criterion; where two runs are compared, the verdict on either one."""
    if findings.sides:
        body = [
            [name, _outcome(side.verdict["verdict"]), headline(side.metrics), lines(side.verdict["reasons"])]
            for name, side in zip(findings.names, findings.sides, strict=True)
            if side.verdict
        ]
        return table("Either run against its own base", ("run", "verdict", "finding", "what is missing"), body)
    criteria = [Criterion(**row) for row in findings.verdict.get("criteria", [])]
    body = [[row.name, _outcome(row.outcome), row.found, _wanted(row)] for row in criteria]
    return table("Every criterion of the policy", ("criterion", "outcome", "value", "wanted"), body, "value")


def _wanted(row: Criterion) -> object:
    return lines([row.wanted, row.note]) if row.note else row.wanted


def _outcome(outcome: str) -> Html:
    kind = {"pass": "better", "promote": "better", "reject": "worse"}.get(outcome, "")
    return element("span", outcome, class_=f"main {kind}".strip())


def _corpus(findings: Findings) -> str:
    history = next((side.history for side in findings.sides), findings.history)
    sizes = [manifest.outputs["docs"].rows for manifest in history if "docs" in manifest.outputs]
    return f", {sizes[0]:,} documents" if sizes else ""


def _contents(titles: list[str]) -> Html:
    links = [element("li", element("a", title, href=f"#{anchor(title)}")) for title in titles]
    return element("nav", element("ul", *links), aria_label="Contents")


def _main(parts: Mapping[str, Html]) -> Html:
    return element("main", *(section(title, content) for title, content in parts.items()))


def _footer(findings: Findings) -> Html:
    history = findings.history or next((side.history for side in findings.sides), ())
    version = history[-1].version if history else ""
    return element("footer", f"Made by Hone {version}. The same figures are in metrics.json and report.md.")


SECTIONS = {
    "Verdict": _verdict,
    "Before and after": comparison.before_after,
    "Systems side by side": comparison.systems,
    "Gain per query": comparison.gains,
    "By style and length": comparison.groups,
    "Examples won and lost": comparison.examples,
    "Size and speed": comparison.size,
    "Training": how_made.training,
    "Teacher and student": how_made.teacher,
    "From documents to training lists": how_made.funnel,
    "Training queries by source and style": queries,
    "Cost": costs_and_settings.cost,
    "Settings that differ": costs_and_settings.changes,
    "Settings": costs_and_settings.settings,
    "Lineage": costs_and_settings.lineage,
    "Licences": costs_and_settings.licences,
}
