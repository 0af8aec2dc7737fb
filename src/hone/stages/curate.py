"""curate: keeps the lists that teach, normalises their scores and says why the rest does not teach."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pydantic import Field, model_validator

from hone import tables
from hone.config import Seed, StageConfig
from hone.context import Job
from hone.core import curation
from hone.errors import UserError
from hone.progress import task

IMAGE = "cpu"
READS = ("queries", "teacher_scores", "qualification", "candidates")
WRITES = ("lists", "dropped_by_curate")

pc: Any = pyarrow.compute  # its functions are made at run time
Row = dict[str, Any]
ONLY_ANSWERS = ("nothing but likely answers", "every other document scores near the positive")
Cut = tuple[float, float, float]
"""The low, weak and high percentile of a style's scores."""


class Config(StageConfig):
    """Settings of curate."""

    seed: Seed = 17
    """Divides source documents between train and dev."""
    list_size: int = Field(20, ge=1)
    """Documents kept of each list."""
    pick: Literal["top", "stratified"] = "top"
    """Which documents are kept: the teacher's best, or the best of each of list_size equal parts of the list's range of
    scores (and the best of the rest, where parts are empty), so that poor documents are in it too."""
    false_negative_margin: float = Field(0.0, ge=0, le=1)
    """Documents beside the positive whose normalised score is above this share of the positive's are left out as
    likely answers, and are not negatives in training either; 0 leaves out none."""
    min_docs: int = Field(20, ge=1)
    """A query with fewer scored documents is dropped."""
    outscored: Literal["drop", "relabel"] = "drop"
    """What becomes of a query whose source document is not the teacher's first: it is dropped, or the teacher's best
    becomes its positive. To relabel, score needs early_exit: false, which leaves their scores whole."""
    mask_source: bool = False
    """Take the source document out of the list: a query made from a document's own words flatters it."""
    low_percentile: float = Field(1.0, ge=0, le=100)
    """Scores at or below this percentile of their style become 0."""
    weak_percentile: float = Field(25.0, ge=0, le=100)
    """A query whose best score is below this percentile of its style is dropped."""
    high_percentile: float = Field(99.0, ge=0, le=100)
    """Scores at or above this percentile of their style become 1."""
    normalise: Literal["style", "global", "none"] = "style"
    """Over what percentiles are taken: the queries of one style, or all. With none the scores stay raw, less the least
    that the query's documents have, and a query is weak among those of its style."""
    dev_share: float = Field(0.1, ge=0, lt=1)
    """Share of source documents whose lists are used to choose the best weights instead of training."""

    @model_validator(mode="after")
    def _low_is_below_high(self) -> Self:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must be below high_percentile: scores are stretched between the two")
        return self


def run(config: Config, job: Job) -> None:
    """Two passes over the scores: percentiles of each style first, then the lists."""
    _check_scores_are_whole(config, job)
    cuts = percentiles(config, job)
    counts: Counter[str] = Counter()
    with (
        task("curate", job.table("teacher_scores").rows, "queries") as progress,
        job.writer("lists") as lists,
        job.writer("dropped_by_curate") as dropped,
    ):
        for rows in _scored(job):
            reasons = [refusal(config, row) or weakness(row, cuts[_group(config, row)]) for row in _heads(rows)]
            kept = pa.array([reason is None for reason in reasons], pa.bool_())
            made = [training_list(config, row, cuts[_group(config, row)]) for row in _bodies(rows.filter(kept), config)]
            lost = [(row["query_id"], *reason) for row, reason in zip(_heads(rows), reasons, strict=True) if reason]
            lost += [(row["query_id"], *ONLY_ANSWERS) for row in made if _is_bare(config, row)]
            made = [row for row in made if not _is_bare(config, row)]
            lists.write(tables.LISTS.build(made))
            dropped.write(tables.dropped("curate", lost))
            counts.update(row["split"] for row in made)
            progress.advance(rows.num_rows)
    job.facts["percentiles"] = {style: list(cut) for style, cut in cuts.items()}
    job.facts["lists"] = dict(counts)


def percentiles(config: Config, job: Job) -> dict[str, Cut]:
    """The percentiles of each style over all scores of the queries that are not refused: 4 bytes a score are held."""
    by_style: dict[str, list[np.ndarray]] = {}
    for rows in _scored(job):
        groups = [None if refusal(config, row) else _group(config, row) for row in _heads(rows)]
        for style in {group for group in groups if group is not None}:
            chosen = rows["scores"].filter(pa.array([group == style for group in groups]))
            by_style.setdefault(style, []).append(pc.list_flatten(chosen).to_numpy())
    levels = (config.low_percentile, config.weak_percentile, config.high_percentile)
    return {style: curation.bounds(np.concatenate(by_style.pop(style)), *levels) for style in sorted(by_style)}


def refusal(config: Config, row: Row) -> tuple[str, str] | None:
    """The reason and detail why a query cannot teach, judged by itself; `row` is one of `_heads`."""
    if row["docs"] < config.min_docs:
        return "too few documents", f"{row['docs']} of {config.min_docs}"
    if config.outscored == "drop" and not curation.source_is_first(row["doc_id"], row["first"]):
        return "source document is not the teacher's first", row["first"][0]
    return None


def weakness(row: Row, cut: Cut) -> tuple[str, str] | None:
    """The reason and detail why a query is weak among those of its style; `row` is one of `_heads`."""
    if row["best"][0] < cut[1]:
        return "best score is low for its style", f"{row['best'][0]:.4f} < {cut[1]:.4f}"
    return None


def training_list(config: Config, row: Row, cut: Cut) -> Row:
    """The list of one kept query, a row of the table lists; `row` is one of `_bodies`."""
    pairs = zip(row["doc_ids"], row["scores"], strict=True)
    pairs = [pair for pair in pairs if not (config.mask_source and pair[0] == row["doc_id"])]
    raw = np.array([score for _, score in pairs], dtype=np.float64)
    scores = curation.shifted(raw) if config.normalise == "none" else curation.min_max(raw, cut[0], cut[2])
    near = likely(config, scores)
    kept = listed(config, scores, near)
    return {
        "query_id": row["query_id"],
        "text": row["text"],
        "style": row["style"],
        "doc_id": row["doc_id"],
        "split": curation.split_of(row["doc_id"] or row["query_id"], config.seed, config.dev_share),
        "doc_ids": [pairs[at][0] for at in kept],
        "scores": scores[kept].tolist(),
        "likely": [*(pairs[at][0] for at in near), *row["likely"]],
    }


def listed(config: Config, scores: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Positions, ascending, of the documents of a list that are kept, by their normalised scores [n], best first, and
    the positions of its likely answers."""
    places = np.setdiff1d(np.arange(len(scores)), near)
    if config.pick == "stratified":
        return places[curation.stratified(scores[places], config.list_size)]
    return places[: config.list_size]


def likely(config: Config, scores: np.ndarray) -> np.ndarray:
    """Positions, ascending, of the documents of a list that are left out as likely answers."""
    margin = config.false_negative_margin
    return curation.likely(scores, margin) if margin else np.zeros(0, dtype=np.int64)


def _is_bare(config: Config, row: Row) -> bool:
    """Whether the positive is all that the false-negative margin left of a list."""
    return config.false_negative_margin > 0 and len(row["doc_ids"]) < 2


def _check_scores_are_whole(config: Config, job: Job) -> None:
    """Raises UserError if the queries that are to be relabelled were left half scored."""
    if config.outscored == "relabel" and job.read_json("qualification").get("early_exit"):
        raise UserError(
            "curate.outscored: relabel needs the scores of outscored queries, which early exit left out; score again "
            "with score.early_exit: false"
        )


def _group(config: Config, row: Row) -> str:
    return "all" if config.normalise == "global" else str(row["style"])


def _scored(job: Job) -> Iterator[pa.Table]:
    """Queries beside their scores and what mine left out of their lists, some thousand at a time."""
    queries = job.buckets("queries", by="query_id")
    mined = job.buckets("candidates", by="query_id", like="queries", columns=["query_id", "likely"])
    scores = job.buckets("teacher_scores", by="query_id", like="queries")
    for asked, lists, scored in zip(queries, mined, scores, strict=True):
        rows = _beside(scored.rows, asked.rows, "text", "style", "doc_id")
        yield _beside(rows, lists.rows, "likely")


def _beside(rows: pa.Table, others: pa.Table, *columns: str) -> pa.Table:
    """`rows` with columns of the rows that are about the same queries in `others`."""
    at = pc.index_in(rows["query_id"], others["query_id"].combine_chunks())
    for name in columns:
        rows = rows.append_column(name, others[name].take(at))
    return rows


def _heads(rows: pa.Table) -> list[Row]:
    """What decides over each query, without its list: docs is how many there are, first and best hold the first."""
    heads = rows.select(["query_id", "style", "doc_id"])
    heads = heads.append_column("docs", pc.list_value_length(rows["doc_ids"]))
    heads = heads.append_column("first", pc.list_slice(rows["doc_ids"], 0, 1))
    return heads.append_column("best", pc.list_slice(rows["scores"], 0, 1)).to_pylist()


def _bodies(rows: pa.Table, config: Config) -> list[Row]:
    """Queries with as much of their lists as can be kept: one more where the source may be taken out."""
    if config.pick != "top" or config.false_negative_margin or config.normalise == "none":
        return rows.to_pylist()
    for name in ("doc_ids", "scores"):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, pc.list_slice(rows[name], 0, config.list_size + 1))
    return rows.to_pylist()
