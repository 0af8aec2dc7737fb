"""gate: the verdict on a tuned model, promote, hold or reject, from what was measured and a policy."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, cast

from hone.config import StageConfig
from hone.context import Job
from hone.core import text as texts
from hone.core.query_text import comparable
from hone.evaluation.policy import Evidence, Policy, judge, reasons
from hone.evaluation.test_collections import Collection, GuardSet, JudgedSet, relevant_elsewhere, test_queries
from hone.report.findings import Findings
from hone.report.markdown import card, markdown
from hone.report.page import page

IMAGE = "cpu"
READS = ("report", "model", "docs", "lists", "judged_queries", "qrels")
WRITES = ("verdict", "full_report")


class Config(StageConfig, Policy):
    """Settings of gate: the policy."""

    without_training: ClassVar[tuple[str, ...]] = ("lists",)
    tests: tuple[JudgedSet, ...] = ()
    """Test sets beside the corpus's own, of which no list may show anything either; those of evaluate.tests, unless set
    here."""
    guards: tuple[GuardSet, ...] = ()
    """The same of sets that choose how far training goes; those of distill.guards, unless set here."""


def run(config: Config, job: Job) -> None:
    """Applies the policy and writes verdict.json, which names the model it is about by its digest."""
    findings = Findings.from_json((job.folder("report") / "findings.json").read_bytes())
    evidence = Evidence(findings.metrics, *count_lists(config, job), qualification(job), findings.latency)
    verdict, criteria = judge(evidence, config)
    found = {
        "verdict": verdict,
        "model": job.plan.inputs["model"].outputs["model"].digest,
        "reasons": reasons(criteria),
        "criteria": [asdict(criterion) for criterion in criteria],
    }
    write(found, findings, job)
    job.facts.update(verdict=verdict, reasons=reasons(criteria))


def write(found: dict[str, Any], findings: Findings, job: Job) -> None:
    """verdict.json for programs, and the model's card; the report with the verdict on top for people.

    The report is an output of its own: it says how long things took, and the same model has the same verdict.
    """
    folder, full = job.new_folder("verdict"), job.new_folder("full_report")
    whole = replace(findings, verdict=found, history=tuple(job.ancestors.values()))
    (folder / "verdict.json").write_text(json.dumps(found, indent=1, allow_nan=False), "utf-8")
    (full / "report.html").write_text(page(whole), "utf-8")
    (full / "report.md").write_text(markdown(whole), "utf-8")
    (folder / "README.md").write_text(card(whole), "utf-8")


def count_lists(config: Config, job: Job) -> tuple[int, int]:
    """How many lists were trained on, and how many lists show a query of a test or guard set or a document judged
    relevant for one, as generate and prepare tell them."""
    others = (*config.tests, *config.guards)
    asked, relevant = test_queries(job, others), {*_relevant(job), *_relevant_elsewhere(others, job)}
    trained = leaks = 0
    for row in _rows(job, "lists", ["text", "split", "doc_ids"]):
        trained += row["split"] == "train"
        leaks += comparable(row["text"]) in asked or not relevant.isdisjoint(row["doc_ids"])
    return trained, leaks


def _relevant(job: Job) -> Iterator[str]:
    """The documents judged relevant for a test query of the corpus's own."""
    tested = {row["query_id"] for row in _rows(job, "judged_queries") if row["split"] == "test"}
    yield from (row["doc_id"] for row in _rows(job, "qrels") if row["query_id"] in tested and row["relevance"] > 0)


def _relevant_elsewhere(others: Sequence[Collection], job: Job) -> Iterator[str]:
    """The documents with the text of one that is judged relevant in another collection."""
    if not others:
        return
    found = relevant_elsewhere(others, job, job.ancestors["prepare"].config["max_chars"])
    docs = _rows(job, "docs", ["doc_id", "text"])
    yield from (row["doc_id"] for row in docs if texts.dedup_key(row["text"]) in found)


def qualification(job: Job) -> dict[str, Any]:
    """What score found out about the teacher; empty if it found nothing."""
    score = job.ancestors.get("score")
    return cast(dict[str, Any], score.facts.get("qualification", {})) if score else {}


def _rows(job: Job, table: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for batch in job.table(table).batches(columns):
        yield from batch.to_pylist()
