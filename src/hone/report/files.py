"""The files of a report."""

from pathlib import Path

from hone.report.findings import Findings
from hone.report.markdown import markdown
from hone.report.page import page


def write_report(findings: Findings, folder: Path) -> None:
    """report.html and report.md of what was found."""
    write_pages(folder, page(findings), markdown(findings))


def write_pages(folder: Path, html: str, text: str) -> None:
    """report.html and report.md, in a folder that is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(html, "utf-8")
    (folder / "report.md").write_text(text, "utf-8")
