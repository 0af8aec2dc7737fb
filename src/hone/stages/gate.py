"""gate: the verdict on a tuned model, promote, hold or reject, from what was measured and a policy."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from pydantic import Field

from hone.config import StageConfig
from hone.context import Job
from hone.core import text as texts
from hone.core.query_text import comparable
from hone.evaluation.policy import Evidence, Policy, decide, reasons
from hone.evaluation.test_collections import (
    MAX_CHARS,
    Collection,
    GuardSet,
    JudgedSet,
    relevant_elsewhere,
    relevant_own,
    test_queries,
)
from hone.report.findings import Findings

IMAGE = "cpu"
READS = ("findings", "qualification", "model", "docs", "lists", "judged_queries", "qrels")
WRITES = ("verdict",)


class Config(StageConfig, Policy):
    """Settings of gate: the policy."""

    without_training: ClassVar[tuple[str, ...]] = ("lists", "qualification")
    tests: tuple[JudgedSet, ...] = ()
    """Test sets beside the corpus's own, of which no list may show anything either; those of evaluate.tests, unless set
    here."""
    guards: tuple[GuardSet, ...] = ()
    """The same of sets that choose how far training goes; those of distill.guards, unless set here."""
    max_chars: int = Field(MAX_CHARS, ge=1)
    """Characters to which prepare cut the documents: prepare.max_chars, unless set here."""
    exclude_judged: bool = True
    """Whether a list that shows a document judged relevant for a test query counts as a leak: prepare.exclude_judged,
    unless set here. Where training was to see all documents, only a test query does."""


def run(config: Config, job: Job) -> None:
    """Applies the policy and writes verdict.json, which names the model it is about by its digest."""
    findings = Findings.from_json((job.folder("findings") / "findings.json").read_bytes())
    evidence = Evidence(
        findings.metrics,
        *count_lists(config, job),
        job.read_json("qualification").get("qualification", {}),
        findings.latency,
    )
    verdict, criteria = decide(evidence, config)
    decided = {
        "verdict": verdict,
        "model": job.plan.inputs["model"].outputs["model"].digest,
        "reasons": reasons(criteria),
        "criteria": [asdict(criterion) for criterion in criteria],
    }
    job.write_json("verdict", decided)
    job.facts.update(verdict=verdict, reasons=reasons(criteria))


def count_lists(config: Config, job: Job) -> tuple[int, int, int]:
    """How many lists were trained on, how many chose the best weights, and how many of either show a query of a test or
    guard set or, where these were to be kept out, a document judged relevant for one, as generate and prepare tell
    them."""
    others = (*config.tests, *config.guards)
    asked, relevant = test_queries(job, others), set[str]()
    if config.exclude_judged:
        relevant = {*relevant_own(job), *_relevant_elsewhere(others, config, job)}
    trained = dev = leaks = 0
    for row in _rows(job, "lists", ["text", "split", "doc_ids"]):
        trained += row["split"] == "train"
        dev += row["split"] != "train"
        leaks += comparable(row["text"]) in asked or not relevant.isdisjoint(row["doc_ids"])
    return trained, dev, leaks


def _relevant_elsewhere(others: Sequence[Collection], config: Config, job: Job) -> Iterator[str]:
    """The documents with the text of one that is judged relevant in another collection."""
    if not others:
        return
    elsewhere = relevant_elsewhere(others, job, config.max_chars)
    docs = _rows(job, "docs", ["doc_id", "text"])
    yield from (row["doc_id"] for row in docs if texts.dedup_key(row["text"]) in elsewhere)


def _rows(job: Job, table: str, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    for batch in job.table(table).batches(columns):
        yield from batch.to_pylist()
