"""report: what was found, for people: HTML, Markdown and the card of the model, drawn from tables alone."""

from dataclasses import replace
from typing import ClassVar

from hone.config import StageConfig
from hone.context import Job
from hone.report.card import card
from hone.report.collect import with_history
from hone.report.files import write_report
from hone.report.findings import Findings

IMAGE = "cpu"
READS = ("findings", "verdict")
WRITES = ("report", "card")


class Config(StageConfig):
    """report has no settings."""

    reads_history: ClassVar[bool] = True


def run(config: Config, job: Job) -> None:
    """Draws the report and the card. A change of either recomputes nothing else."""
    findings = Findings.from_json((job.folder("findings") / "findings.json").read_bytes())
    whole = with_history(replace(findings, verdict=job.read_json("verdict")), job.ancestors)
    write_report(whole, job.new_folder("report"))
    (job.new_folder("card") / "README.md").write_text(card(whole), "utf-8")
