"""Duplicates among all queries: which of them stays depends on nothing but the queries."""

import random
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import given as given_
import tiny
from hone import tables
from hone.core.duplicate_queries import Query, repeats
from hone.core.near_duplicates import shingles, similarity
from hone.core.query_text import comparable
from hone.storage.local import LocalStore

WORDS = ["rotor", "blade", "stall", "flutter", "engine", "Engine", "engines", "nozzle"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=2, max_size=6).map(" ".join)
KINDS = st.sampled_from([(0, False), (1, True), (2, False)])
"""What people asked, what a model wrote, what was cut from documents."""


def slowly(queries: list[Query], least: float) -> set[str]:
    """Every query against all that stayed before it."""
    stayed: list[Query] = []
    for query in sorted(queries, key=lambda query: (query.rank, query.query_id)):
        if all(comparable(query.text) != comparable(other.text) for other in stayed):
            stayed.append(query)
    kept: list[Query] = []
    for query in stayed:
        own = shingles(comparable(query.text))
        near = [other for other in kept if similarity(own, shingles(comparable(other.text))) >= least]
        if not query.near or not near:
            kept += [query] if query.near else []
            continue
        stayed = [other for other in stayed if other != query]
    return {query.query_id for query in queries} - {query.query_id for query in stayed}


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, KINDS), max_size=24), st.randoms(use_true_random=False))
def test_the_same_queries_go_in_any_order_of_rows_as_in_the_slow_comparison(
    drawn: list[tuple[str, tuple[int, bool]]], draw: random.Random
) -> None:
    queries = [Query(f"{number:02}", text, *kind) for number, (text, kind) in enumerate(drawn)]
    found = repeats(lambda: queries, 0.8)
    assert set(found) == slowly(queries, 0.8)
    shuffled = draw.sample(queries, len(queries))
    assert repeats(lambda: shuffled, 0.8) == found
    assert {fault.reason for fault in repeats(lambda: queries, 0.0).values()} <= {"duplicate"}


def test_a_near_duplicate_names_what_it_is_close_to_and_people_are_kept_first() -> None:
    blades = "what causes stall flutter in compressor blades"
    queries = [
        Query("a", "Stall flutter?", 1, True),
        Query("b", "stall flutter", 0, False),
        Query("c", blades, 1, True),
        Query("d", "What causes stall flutter in compressor blade?", 1, True),
    ]
    found = repeats(lambda: queries, 0.8)
    assert {key: (fault.reason, fault.detail.partition(" | ")[2]) for key, fault in found.items()} == {
        "a": ("duplicate", "b"),
        "d": ("near duplicate", blades),
    }


def test_mine_drops_repeats_of_any_bucket_with_their_reason(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    student = tiny.student(tmp_path / "student", dim=16, layers=1)
    rows = [("q1", "stall flutter of blades", "vllm"), ("q2", "Stall flutter of blades!", "vllm")]
    rows += [("q3", "stall flutter of blade", "vllm"), ("q4", "stall flutter of the blade", "extractive")]
    rows += [("q5", "Stall, flutter of blades", "log")]
    ids, texts, sources = zip(*rows, strict=True)
    queries = tables.QUERIES.of(ids, texts, [""] * 5, sources, ["claim"] * 5)
    docs = tables.DOCS.of(["d1", "d2"], ["", ""], ["stall of blades", "heat"], [False, False])
    inputs = given_.results(store, "prepare", docs=docs)
    inputs |= given_.results(store, "generate", queries=queries)
    manifest = given_.run(store, "mine", inputs, student={"model": str(student)}, consistency_rank=0)
    assert [row["query_id"] for row in given_.rows(store, manifest, "candidates")] == ["q3", "q4", "q5"]
    dropped = {row["id"]: row["reason"] for row in given_.rows(store, manifest, "dropped_by_mine")}
    assert dropped == {"q1": "duplicate", "q2": "duplicate"}
    assert manifest.facts["dropped"]["vllm"]["claim"]["duplicate"]["count"] == 2
