"""mine: fusion of rankings, and which queries are kept."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import given as given_
import tiny
from hone import tables
from hone.backends.encoders import Encoder
from hone.backends.encoders.families import Student
from hone.core.fusion import reciprocal_rank_fusion
from hone.stages.mine import Config, Miner, rank_of
from hone.storage.local import LocalStore

RANKINGS = st.lists(st.lists(st.integers(0, 9), unique=True), max_size=4)


@given(RANKINGS, st.integers(1, 100))
def test_reciprocal_rank_fusion_equals_its_definition(rankings: list[list[int]], k: int) -> None:
    fused = reciprocal_rank_fusion(rankings, k)
    items = {item for ranking in rankings for item in ranking}
    expected = {item: sum(1 / (k + r.index(item) + 1) for r in rankings if item in r) for item in items}
    assert dict(fused) == pytest.approx(expected)
    assert fused == sorted(fused, key=lambda pair: (-pair[1], pair[0]))


def test_ranks_count_from_one_and_zero_is_absent() -> None:
    assert [rank_of(position, [7, 3]) for position in (7, 3, 5)] == [1, 2, 0]


def miner(fuse: bool, **settings: Any) -> Miner:
    docs = tables.DOCS.of(["a", "b", "c"], [""] * 3, ["wing flow", "heat", "heat heat"], [False, True, False])
    job = SimpleNamespace(table=lambda name: SimpleNamespace(read=docs.select))
    config = Config(student=Student(model=str(Path("m"))), fuse_bm25=fuse, **settings)
    return Miner(config, job, ["a", "b", "c"])  # pyright: ignore[reportArgumentType]


QUERIES = tables.QUERIES.of(["q1", "q2", "q3"], ["wing", "heat", "heat"], ["a", "a", ""], ["x"] * 3, ["x"] * 3)
FOUND = np.array([[0, 2], [2, 0], [2, 0]]), np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2]], dtype=np.float32)


def cosines(at: int, places: list[int]) -> np.ndarray:
    """The student's: each query has its own source at 0.5 and every other document at 0.48."""
    return np.where(np.array(places) == [0, 0, 9][at], 0.5, 0.48)


def test_inconsistent_queries_are_dropped_with_their_rank_and_log_queries_kept() -> None:
    kept, lost = miner(False, consistency_rank=1).mine(QUERIES, [FOUND], cosines)
    assert kept["query_id"].to_pylist() == ["q1", "q3"]
    assert kept["doc_ids"].to_pylist() == [["a", "c"], ["c", "a"]]
    reason = "source document not retrieved near the top"
    assert lost.to_pylist() == [{"id": "q2", "stage": "mine", "reason": reason, "detail": "rank 2"}]


def test_a_source_that_only_bm25_finds_near_the_top_is_enough() -> None:
    second = np.array([[2, 0], [2, 0], [2, 0]]), FOUND[1]
    kept, _ = miner(False, consistency_rank=1).mine(QUERIES, [second], cosines)
    assert kept["query_id"].to_pylist() == ["q1", "q3"]
    kept, lost = miner(False, consistency_rank=1, consistency_bm25=False).mine(QUERIES, [second], cosines)
    assert kept["query_id"].to_pylist() == ["q3"]
    assert lost["id"].to_pylist() == ["q1", "q2"]
    kept, _ = miner(False, consistency_rank=0).mine(QUERIES, [second], cosines)
    assert len(kept) == 3


def test_fused_lists_hold_no_held_out_document_and_score_by_reciprocal_rank() -> None:
    kept, _ = miner(True, top_k=2).mine(QUERIES, [FOUND], cosines)
    assert kept["doc_ids"].to_pylist() == [["a", "c"], ["c", "a"], ["c", "a"]]
    assert kept["scores"].to_pylist()[0] == pytest.approx([2 / 61, 1 / 62])


def test_weights_shift_the_fusion_and_missing_ones_are_one() -> None:
    assert reciprocal_rank_fusion([[1, 2], [2, 1]], 60, [1, 2])[0] == (2, pytest.approx(2 / 61 + 1 / 62))
    assert reciprocal_rank_fusion([[1, 2], [2, 1]], 60) == reciprocal_rank_fusion([[1, 2], [2, 1]], 60, [1, 1])


def test_several_retrievers_are_fused_by_their_weights() -> None:
    other = np.array([[2, 0], [2, 0], [0, 2]]), FOUND[1]
    second = {"model": "n", "weight": 3.0}
    kept, _ = miner(False, retrievers=(second,), consistency_rank=0).mine(QUERIES, [FOUND, other], cosines)
    assert kept["doc_ids"].to_pylist() == [["c", "a"], ["c", "a"], ["a", "c"]]
    assert kept["scores"].to_pylist()[0] == pytest.approx([3 / 61 + 1 / 62, 1 / 61 + 3 / 62])


def test_a_rank_window_leaves_out_the_nearest_but_never_the_source() -> None:
    kept, _ = miner(False, first_rank=2).mine(QUERIES, [FOUND], cosines)
    assert kept["doc_ids"].to_pylist() == [["a", "c"], ["a"], ["a"]]
    assert kept["likely"].to_pylist() == [[], ["c"], ["c"]]


@pytest.mark.parametrize(("margin", "first"), [(0.95, ["a"]), (0.97, ["a", "c"]), (0.0, ["a", "c"])])
def test_documents_near_the_sources_score_are_left_out_as_likely_answers(margin: float, first: list[str]) -> None:
    kept, _ = miner(False, positive_margin=margin).mine(QUERIES, [FOUND], cosines)
    assert kept["doc_ids"].to_pylist()[0] == first
    assert kept["likely"].to_pylist()[0] == [name for name in ("a", "c") if name not in first]
    assert kept["doc_ids"].to_pylist()[2] == ["c", "a"]  # a query from a log has no source to compare with


def test_the_stage_ranks_by_the_students_cosines_and_tells_what_became_of_every_query(tmp_path: Path) -> None:
    words = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock"]
    folder = tiny.student(tmp_path / "student", vocab_texts=words)
    student, ids = Student(model=str(folder)), [f"d{number}" for number in range(20)]
    texts = [" ".join(words[(number + step) % 10] for step in range(3 + number % 4)) for number in range(20)]
    docs = tables.DOCS.of(ids, [""] * 20, texts, [number == 4 for number in range(20)])
    asked = {"q1": ("rotor blade", "d0"), "q2": ("blade rotor engine", ""), "q3": ("stall", "d4")}
    asked["q4"] = asked["q1"]
    names, sources = list(asked), [source for _, source in asked.values()]
    queries = tables.QUERIES.of(names, [text for text, _ in asked.values()], sources, ["x"] * 4, ["search"] * 4)
    store = LocalStore(tmp_path / "store")
    inputs = given_.results(store, docs=docs) | given_.results(store, "generate", queries=queries)
    mined = given_.run(store, "mine", inputs, student=student.model_dump(), top_k=7, consistency_rank=0)
    lost = {row["id"]: row["reason"] for row in given_.rows(store, mined, "dropped_by_mine")}
    assert lost.pop("d4") == "held-out document"
    assert lost.keys() == {"q3", "q4"}, "made from a held-out document, and asked twice"
    encoder = Encoder(folder, student)
    vectors, kept = encoder.docs(texts), {row["query_id"]: row for row in given_.rows(store, mined, "candidates")}
    assert kept.keys() == {"q1", "q2"}
    for name, row in kept.items():
        cosines = (encoder.queries([asked[name][0]]) @ vectors.T)[0]
        cosines[4] = -2.0  # held out
        assert row["doc_ids"] == [ids[at] for at in np.argsort(-cosines, kind="stable")[:7]]
        assert row["scores"] == pytest.approx(np.sort(cosines)[::-1][:7], abs=1e-5)
