"""The finding as Markdown, for a pull request."""

from hone.report.findings import STUDENTS, Findings, caveats, headline, how_fused
from hone.report.folded_markdown import folded
from hone.report.markdown_text import escaped
from hone.report.terminal_table import rows


def markdown(findings: Findings) -> str:
    """What the page says: verdict, first line, table and caveats, and every other section to unfold."""
    return f"{summary(findings)}\n{folded(findings)}"


def summary(findings: Findings) -> str:
    """Verdict, first line, table, the weights of a hybrid search, and caveats."""
    verdict = findings.verdict
    lines = [headline(findings.metrics, findings.names), ""]
    if verdict:
        lines = [f"**Verdict: {verdict['verdict']}.** {lines[0]}", ""]
        lines += [f"- {escaped(reason)}" for reason in verdict["reasons"]] + [""] * bool(verdict["reasons"])
    body = rows(findings.metrics)
    if body:
        lines += [f"| set (queries) | measure | {' | '.join(findings.names)} | points | 95% CI | p | p (Holm) |"]
        lines += ["|---|---|--:|--:|--:|--:|--:|--:|"]
        lines += [f"| {' | '.join(row)} |" for row in body] + [""]
    hybrid = findings.names == STUDENTS and findings.metrics["search_as"] == "hybrid"
    fused = [how_fused(findings.metrics)] if hybrid else []
    return "\n".join([*lines, *fused, *caveats(findings.metrics), *findings.notes]) + "\n"
