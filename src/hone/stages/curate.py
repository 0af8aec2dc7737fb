"""curate: keeps the lists that teach, normalises their scores and says why the rest does not teach."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from hone import tables
from hone.core import curation
from hone.stage import Job, StageConfig

IMAGE = "cpu"
READS = ("queries", "teacher_scores")
WRITES = ("lists", "dropped_by_curate")

Row = dict[str, Any]


class Config(StageConfig):
    """Settings of curate."""

    seed: int = 17
    """Divides source documents between train and dev."""
    list_size: int = 20
    """Documents kept of each list, the teacher's best."""
    min_docs: int = 20
    """A query with fewer scored documents is dropped."""
    source_first: bool = True
    """Drop a query whose source document is not the teacher's first."""
    mask_source: bool = False
    """Take the source document out of the list: a query made from a document's own words flatters it."""
    low_percentile: float = 1.0
    """Scores at or below this percentile of their style become 0."""
    weak_percentile: float = 25.0
    """A query whose best score is below this percentile of its style is dropped."""
    high_percentile: float = 99.0
    """Scores at or above this percentile of their style become 1."""
    normalise: Literal["style", "global"] = "style"
    """Over what percentiles are taken: the queries of one style, or all."""
    dev_share: float = 0.1
    """Share of source documents whose lists are used to choose the best weights instead of training."""


def run(config: Config, job: Job) -> None:
    """Two passes over the scores: percentiles of each style first, then the lists."""
    queries = {row["query_id"]: row for row in job.table("queries").read().to_pylist()}
    by_style: dict[str, list[np.ndarray]] = {}
    for row in _scored(job, queries):
        if not refusal(config, row):
            by_style.setdefault(_group(config, row), []).append(np.array(row["scores"], dtype=np.float32))
    cuts = {
        style: curation.bounds(
            np.concatenate(parts), config.low_percentile, config.weak_percentile, config.high_percentile
        )
        for style, parts in sorted(by_style.items())
    }
    with job.writer("lists") as lists, job.writer("dropped_by_curate") as dropped:
        for row in _scored(job, queries):
            reason, detail = refusal(config, row) or weakness(row, cuts[_group(config, row)]) or ("", "")
            if reason:
                lost = {"id": row["query_id"], "stage": "curate", "reason": reason, "detail": detail}
                dropped.write(tables.DROPPED_BY_CURATE.build([lost]))
            else:
                lists.write(tables.LISTS.build([training_list(config, row, cuts[_group(config, row)])]))
    job.facts["percentiles"] = {style: list(cut) for style, cut in cuts.items()}


def refusal(config: Config, row: Row) -> tuple[str, str] | None:
    """The reason and detail why a query cannot teach, judged by itself."""
    if len(row["doc_ids"]) < config.min_docs:
        return "too few documents", f"{len(row['doc_ids'])} of {config.min_docs}"
    if config.source_first and not curation.source_is_first(row["doc_id"], row["doc_ids"]):
        return "source document is not the teacher's first", row["doc_ids"][0]
    return None


def weakness(row: Row, cut: tuple[float, float, float]) -> tuple[str, str] | None:
    """The reason and detail why a query is weak among those of its style."""
    if row["scores"][0] < cut[1]:
        return "best score is low for its style", f"{row['scores'][0]:.4f} < {cut[1]:.4f}"
    return None


def training_list(config: Config, row: Row, cut: tuple[float, float, float]) -> Row:
    """The list of one kept query, a row of the table lists."""
    pairs = zip(row["doc_ids"], row["scores"], strict=True)
    kept = [pair for pair in pairs if not (config.mask_source and pair[0] == row["doc_id"])][: config.list_size]
    scores = curation.normalised(np.array([score for _, score in kept]), cut[0], cut[2])
    return {
        "query_id": row["query_id"],
        "text": row["text"],
        "style": row["style"],
        "split": curation.split_of(row["doc_id"] or row["query_id"], config.seed, config.dev_share),
        "doc_ids": [doc_id for doc_id, _ in kept],
        "scores": scores.tolist(),
    }


def _group(config: Config, row: Row) -> str:
    return str(row["style"]) if config.normalise == "style" else "all"


def _scored(job: Job, queries: dict[str, Row]) -> Iterator[Row]:
    for batch in job.table("teacher_scores").batches():
        for row in batch.to_pylist():
            yield {**queries[row["query_id"]], **row}
