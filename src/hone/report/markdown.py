"""The finding as Markdown, for a pull request or a model card."""

from hone.report.findings import Findings, caveats, headline
from hone.report.table import rows


def markdown(findings: Findings) -> str:
    """First line, table and caveats."""
    lines = [headline(findings.metrics), ""]
    body = rows(findings.metrics)
    if body:
        lines += ["| split (queries) | measure | base | tuned | points | 95% CI | p |", "|---|---|--:|--:|--:|--:|--:|"]
        lines += [f"| {' | '.join(row)} |" for row in body] + [""]
    return "\n".join([*lines, *caveats(findings.metrics)]) + "\n"
