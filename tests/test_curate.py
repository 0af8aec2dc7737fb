"""curate: what is kept, why the rest is not, and that streaming changes nothing."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import given as given_
from hone import context as machinery
from hone import tables
from hone.core.curation import likely, split_of, stratified
from hone.errors import UserError
from hone.settings import check
from hone.stages.curate import Config
from hone.storage.local import LocalStore

Row = dict[str, Any]


def scored(count: int, seed: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Queries of two styles, some from a log; what mine made of them, in part left out as likely answers; and lists of
    one to six documents, best first."""
    draw = random.Random(seed)
    queries, mined, scores = [], [], []
    for number in range(count):
        source = draw.choice(["", *(f"d{n}" for n in range(4))])
        style = "log" if not source else draw.choice(["search", "span"])
        queries.append(
            {"query_id": f"q{number}", "text": f"wing {number}", "doc_id": source, "source": "x", "style": style}
        )
        ids = draw.sample([f"d{n}" for n in range(8)], draw.randint(1, 6))
        values = sorted((draw.uniform(-3, 9) for _ in ids), reverse=True)
        left_out = draw.sample([f"e{n}" for n in range(4)], draw.randint(0, 2))
        mined.append({"query_id": f"q{number}", "doc_ids": ids, "scores": values, "likely": left_out})
        if draw.random() < 0.8:  # what score dropped has no scores
            scores.append({"query_id": f"q{number}", "doc_ids": ids, "scores": values})
    draw.shuffle(queries)
    draw.shuffle(mined)
    return queries, mined, scores


def slow(
    config: Config, queries: list[Row], mined: list[Row], scores: list[Row]
) -> tuple[dict[str, Row], dict[str, str]]:
    """Lists and reasons by query, by the definition: all rows at once."""
    by_id = {row["query_id"]: row for row in queries}
    left_out = {row["query_id"]: row["likely"] for row in mined}
    rows = [{**by_id[row["query_id"]], **row, "scores": np.float32(row["scores"])} for row in scores]
    reasons = {row["query_id"]: slow_refusal(config, row) for row in rows}
    groups = {row["query_id"]: "all" if config.normalise == "global" else row["style"] for row in rows}
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
        chosen = slow_normalised(config, [float(score) for _, score in pairs], low, high)
        kept_places = slow_listed(config, chosen)
        if config.false_negative_margin and len(kept_places) < 2:
            reasons[row["query_id"]] = "nothing but likely answers"
            continue
        lists[row["query_id"]] = {
            "query_id": row["query_id"], "text": row["text"], "style": row["style"], "doc_id": row["doc_id"],
            "split": split_of(row["doc_id"] or row["query_id"], config.seed, config.dev_share),
            "doc_ids": [pairs[place][0] for place in kept_places],
            "scores": [chosen[place] for place in kept_places],
            "likely": [pairs[place][0] for place in range(1, len(pairs)) if slow_is_likely(config, chosen, place)]
            + left_out[row["query_id"]],
        }  # fmt: skip
    return lists, {query_id: reason for query_id, reason in reasons.items() if reason}


def slow_normalised(config: Config, scores: list[float], low: float, high: float) -> list[float]:
    if config.normalise == "none":
        return [float(np.float32(score - min(scores))) for score in scores]
    return [float(np.float32(min(max((score - low) / max(high - low, 1e-9), 0), 1))) for score in scores]


def slow_listed(config: Config, scores: list[float]) -> list[int]:
    """Places of a list that are kept, one after the other."""
    places = [at for at in range(len(scores)) if at == 0 or not slow_is_likely(config, scores, at)]
    if config.pick == "top" or len(places) <= config.list_size:
        return places[: config.list_size]
    top, width = scores[places[0]], max(scores[places[0]] - scores[places[-1]], 1e-9) / config.list_size
    strata: dict[int, int] = {}
    for place in places:
        strata.setdefault(min(int((top - scores[place]) // width), config.list_size - 1), place)
    chosen = list(strata.values())
    for place in places:
        if len(chosen) < config.list_size and place not in chosen:
            chosen.append(place)
    return sorted(chosen)


def slow_is_likely(config: Config, scores: list[float], at: int) -> bool:
    margin = config.false_negative_margin
    return bool(margin) and scores[at] > np.float32(margin * scores[0])


def slow_refusal(config: Config, row: Row) -> str:
    if len(row["doc_ids"]) < config.min_docs:
        return "too few documents"
    wrong = config.outscored == "drop" and row["doc_id"] and row["doc_ids"][0] != row["doc_id"]
    return "source document is not the teacher's first" if wrong else ""


CONFIGS = st.builds(
    Config,
    list_size=st.integers(1, 6),
    min_docs=st.integers(1, 4),
    outscored=st.sampled_from(["drop", "relabel"]),
    pick=st.sampled_from(["top", "stratified"]),
    false_negative_margin=st.sampled_from([0.0, 0.5, 0.95]),
    mask_source=st.booleans(),
    low_percentile=st.sampled_from([0.0, 1.0, 10.0]),
    weak_percentile=st.sampled_from([0.0, 25.0, 60.0]),
    normalise=st.sampled_from(["style", "global", "none"]),
    dev_share=st.sampled_from([0.0, 0.5]),
)


@settings(max_examples=40)
@given(CONFIGS, st.integers(0, 60), st.integers(0, 99))
def test_bucket_by_bucket_it_keeps_and_drops_what_the_definition_does(
    tmp_path_factory: pytest.TempPathFactory, config: Config, count: int, seed: int
) -> None:
    queries, mined, scores = scored(count, seed)
    store = LocalStore(tmp_path_factory.mktemp("c"))
    inputs = given_.results(store, "generate", queries=tables.QUERIES.build(queries))
    inputs |= given_.results(store, "mine", candidates=tables.CANDIDATES.build(mined))
    inputs |= given_.results(store, "score", teacher_scores=tables.TEACHER_SCORES.build(scores), qualification={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machinery, "ROWS_PER_BUCKET", 8)
        manifest = given_.run(store, "curate", inputs, **config.model_dump())
    lists, reasons = slow(config, queries, mined, scores)
    found = given_.rows(store, manifest, "lists")
    assert {row["query_id"]: row for row in found} == lists
    assert len(found) == len(lists)
    dropped = given_.rows(store, manifest, "dropped_by_curate")
    assert {row["id"]: row["reason"] for row in dropped} == reasons
    assert len(dropped) == len(reasons)
    assert sum(manifest.facts["lists"].values()) == len(lists)


def test_all_queries_of_a_document_are_on_one_side_and_the_shares_are_those_asked_for() -> None:
    sides = [split_of(f"d{number}", 17, 0.1) for number in range(5_000)]
    assert 0.08 < sides.count("dev") / len(sides) < 0.12
    assert sides == [split_of(f"d{number}", 17, 0.1) for number in range(5_000)]
    assert sides != [split_of(f"d{number}", 18, 0.1) for number in range(5_000)]


DESCENDING = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.52, 0.9, 1.0]), min_size=1, max_size=12).map(
    lambda scores: np.array(sorted(scores, reverse=True), dtype=np.float32)
)


@given(DESCENDING, st.integers(1, 12))
def test_a_stratified_list_is_full_holds_the_best_and_reaches_the_end_of_the_range(
    scores: np.ndarray, size: int
) -> None:
    places = stratified(scores, size)
    assert places.tolist() == sorted(set(places.tolist()))
    assert len(places) == min(size, len(scores))
    assert places[0] == 0
    if size > 1 and scores[-1] < scores[0]:
        assert scores[places[-1]] <= scores[0] - (scores[0] - scores[-1]) * (1 - 1 / size) + 1e-6


def test_a_stratified_list_holds_poor_documents_where_the_top_holds_none() -> None:
    scores = np.array([1.0, 0.99, 0.98, 0.97, 0.6, 0.3, 0.28, 0.0], dtype=np.float32)
    assert stratified(scores, 4).tolist() == [0, 4, 5, 7]
    assert stratified(scores, 6).tolist() == [0, 1, 2, 4, 5, 7]


@given(DESCENDING, st.sampled_from([0.5, 0.95, 1.0]))
def test_likely_answers_are_left_out_and_the_positive_never(scores: np.ndarray, margin: float) -> None:
    left_out = likely(scores, margin).tolist()
    assert 0 not in left_out
    assert all((at in left_out) == (scores[at] > np.float32(margin * scores[0])) for at in range(1, len(scores)))


def test_queries_that_were_left_half_scored_cannot_be_relabelled(tmp_path: Path) -> None:
    queries, mined, scores = scored(20, 1)
    store = LocalStore(tmp_path)
    inputs = given_.results(store, "generate", queries=tables.QUERIES.build(queries))
    inputs |= given_.results(store, "mine", candidates=tables.CANDIDATES.build(mined))
    inputs |= given_.results(
        store, "score", teacher_scores=tables.TEACHER_SCORES.build(scores), qualification={"early_exit": True}
    )
    with pytest.raises(UserError, match=r"early exit left out; score again with score\.early_exit: false"):
        given_.run(store, "curate", inputs, outscored="relabel")


def test_a_settings_file_that_relabels_what_early_exit_leaves_out_is_refused() -> None:
    data = {"name": "n", "student": {"model": "m"}, "prepare": {"corpus": "c"}, "curate": {"outscored": "relabel"}}
    with pytest.raises(UserError, match=r"f\.yaml: curate\.outscored: relabel .* set score\.early_exit: false"):
        check({**data, "teacher": {"kind": "rankt5"}}, "f.yaml", Path())
    check({**data, "teacher": {"kind": "fusion"}}, "f.yaml", Path())
    check({**data, "teacher": {"kind": "rankt5"}, "score": {"early_exit": False}}, "f.yaml", Path())
