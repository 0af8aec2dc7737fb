"""curate: what is kept, why the rest is not, and that streaming changes nothing."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpora
from hone import stage as machinery
from hone import tables
from hone.core.curation import normalised, split_of
from hone.stages.curate import Config
from hone.store import LocalStore

Row = dict[str, Any]


def scored(count: int, seed: int) -> tuple[list[Row], list[Row]]:
    """Queries of two styles, some from a log, and lists of one to six documents, best first."""
    draw = random.Random(seed)
    queries, scores = [], []
    for number in range(count):
        source = draw.choice(["", *(f"d{n}" for n in range(4))])
        style = "log" if not source else draw.choice(["search", "span"])
        queries.append(
            {"query_id": f"q{number}", "text": f"wing {number}", "doc_id": source, "source": "x", "style": style}
        )
        ids = draw.sample([f"d{n}" for n in range(8)], draw.randint(1, 6))
        values = sorted((draw.uniform(-3, 9) for _ in ids), reverse=True)
        if draw.random() < 0.8:  # what score dropped has no scores
            scores.append({"query_id": f"q{number}", "doc_ids": ids, "scores": values})
    draw.shuffle(queries)
    return queries, scores


def slow(config: Config, queries: list[Row], scores: list[Row]) -> tuple[dict[str, Row], dict[str, str]]:
    """Lists and reasons by query, by the definition: all rows at once."""
    by_id = {row["query_id"]: row for row in queries}
    rows = [{**by_id[row["query_id"]], **row, "scores": np.float32(row["scores"])} for row in scores]
    reasons = {row["query_id"]: slow_refusal(config, row) for row in rows}
    groups = {row["query_id"]: row["style"] if config.normalise == "style" else "all" for row in rows}
    kept = [row for row in rows if not reasons[row["query_id"]]]
    lists: dict[str, Row] = {}
    for row in kept:
        same = [other["scores"] for other in kept if groups[other["query_id"]] == groups[row["query_id"]]]
        levels = [config.low_percentile, config.weak_percentile, config.high_percentile]
        low, weak, high = (float(cut) for cut in np.percentile(np.concatenate(same), levels))
        if row["scores"][0] < weak:
            reasons[row["query_id"]] = "best score is low for its style"
            continue
        pairs = list(zip(row["doc_ids"], row["scores"], strict=True))
        if config.mask_source:
            pairs = [pair for pair in pairs if pair[0] != row["doc_id"]]
        pairs = pairs[: config.list_size]
        lists[row["query_id"]] = {
            "query_id": row["query_id"], "text": row["text"], "style": row["style"], "doc_id": row["doc_id"],
            "split": split_of(row["doc_id"] or row["query_id"], config.seed, config.dev_share),
            "doc_ids": [doc_id for doc_id, _ in pairs],
            "scores": normalised(np.array([float(score) for _, score in pairs]), low, high).tolist(),
        }  # fmt: skip
    return lists, {query_id: reason for query_id, reason in reasons.items() if reason}


def slow_refusal(config: Config, row: Row) -> str:
    if len(row["doc_ids"]) < config.min_docs:
        return "too few documents"
    wrong = config.source_first and row["doc_id"] and row["doc_ids"][0] != row["doc_id"]
    return "source document is not the teacher's first" if wrong else ""


CONFIGS = st.builds(
    Config,
    list_size=st.integers(1, 6),
    min_docs=st.integers(1, 4),
    source_first=st.booleans(),
    mask_source=st.booleans(),
    low_percentile=st.sampled_from([0.0, 1.0, 10.0]),
    weak_percentile=st.sampled_from([0.0, 25.0, 60.0]),
    normalise=st.sampled_from(["style", "global"]),
    dev_share=st.sampled_from([0.0, 0.5]),
)


@settings(max_examples=30)
@given(CONFIGS, st.integers(0, 60), st.integers(0, 99))
def test_bucket_by_bucket_it_keeps_and_drops_what_the_definition_does(
    tmp_path_factory: pytest.TempPathFactory, config: Config, count: int, seed: int
) -> None:
    queries, scores = scored(count, seed)
    store = LocalStore(tmp_path_factory.mktemp("c"))
    inputs = corpora.finished(store, "generate", queries=tables.QUERIES.build(queries))
    inputs |= corpora.finished(store, "score", teacher_scores=tables.TEACHER_SCORES.build(scores))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machinery, "ROWS_PER_BUCKET", 8)
        manifest = corpora.executed(store, "curate", inputs, **config.model_dump())
    lists, reasons = slow(config, queries, scores)
    found = corpora.rows_of(store, manifest, "lists")
    assert {row["query_id"]: row for row in found} == lists
    assert len(found) == len(lists)
    dropped = corpora.rows_of(store, manifest, "dropped_by_curate")
    assert {row["id"]: row["reason"] for row in dropped} == reasons
    assert len(dropped) == len(reasons)
    assert sum(manifest.facts["lists"].values()) == len(lists)


def test_all_queries_of_a_document_are_on_one_side_and_the_shares_are_those_asked_for() -> None:
    sides = [split_of(f"d{number}", 17, 0.1) for number in range(5_000)]
    assert 0.08 < sides.count("dev") / len(sides) < 0.12
    assert sides == [split_of(f"d{number}", 17, 0.1) for number in range(5_000)]
    assert sides != [split_of(f"d{number}", 18, 0.1) for number in range(5_000)]
