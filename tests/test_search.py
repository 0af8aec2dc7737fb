"""Nearest neighbours: one contract for every search, and how much an approximate one may miss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import given as given_
import tiny
from hone import tables
from hone.backends import BACKENDS, load
from hone.backends.search import exact, faiss_index
from hone.backends.search.best import best_of
from hone.backends.search.settings import Search
from hone.errors import UserError
from hone.storage.local import LocalStore

EXACT = ("torch", "faiss_flat")
RECALL = 0.9
"""What faiss_ivf finds of the true top 10, at least, with its defaults, of vectors that lie in groups."""


def index(kind: str, docs: np.ndarray, allowed: np.ndarray | None = None, **how: Any) -> Any:
    allowed = np.ones(len(docs), dtype=bool) if allowed is None else allowed
    return load("search", kind)(docs, allowed, Search(kind=kind, **how))


def full_sort(scores: np.ndarray, k: int, allowed: np.ndarray) -> list[int]:
    found = [position for position in range(len(scores)) if allowed[position]]
    return sorted(found, key=lambda position: (-scores[position], position))[:k]


@pytest.mark.parametrize("kind", sorted(BACKENDS["search"]))
@settings(max_examples=40)
@given(st.data())
def test_every_search_equals_a_full_sort_with_ties_by_position(kind: str, data: st.DataObject) -> None:
    rows, n, k = data.draw(st.integers(0, 5)), data.draw(st.integers(0, 30)), data.draw(st.integers(0, 12))
    random = np.random.default_rng(data.draw(st.integers(0, 1_000)))
    queries = random.integers(-1, 2, (rows, 3)).astype(np.float32)
    docs = random.integers(-1, 2, (n, 3)).astype(np.float32)
    allowed = random.random(n) < data.draw(st.sampled_from([1.0, 0.6]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "DOC_BLOCK", data.draw(st.integers(1, 40)))
        patch.setattr(faiss_index, "ADDED_AT_ONCE", data.draw(st.integers(1, 40)))
        # With one part an approximate search looks at all of the corpus.
        made = index(kind, docs, allowed, queries_at_once=data.draw(st.integers(1, 4)), lists=1)
        positions, scores = made.top_k(queries, k)
    if kind in EXACT:
        assert positions.tolist() == [full_sort(query @ docs.T, k, allowed) for query in queries]
    assert (positions.dtype, scores.dtype, positions.shape) == (np.int64, np.float32, scores.shape)
    assert positions.shape == (rows, min(k, int(allowed.sum())))
    assert allowed[positions].all()
    np.testing.assert_array_equal(scores, np.take_along_axis(queries @ docs.T, positions, 1))
    expected = [[query @ docs[at] for at in full_sort(query @ docs.T, k, allowed)] for query in queries]
    np.testing.assert_array_equal(scores, np.array(expected, np.float32).reshape(scores.shape))


@settings(max_examples=100)
@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(0, 45))
def test_the_best_of_one_row_are_those_of_a_full_sort(scores: list[int], k: int) -> None:
    row = np.array(scores, np.float32)
    positions, values = best_of(row, k)
    assert positions.tolist() == full_sort(row, k, np.ones(len(row), dtype=bool))
    assert values.tolist() == row[positions].tolist()


def grouped(count: int, seed: int) -> np.ndarray:
    """[count, 32] unit vectors around 200 centres."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(200, 32))
    vectors = centres[random.integers(0, 200, count)] + 0.5 * random.normal(size=(count, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_exact_searches_give_the_same_documents_and_an_approximate_one_nearly_all() -> None:
    docs, queries = grouped(20_000, 1), grouped(200, 2)
    found = {kind: index(kind, docs).top_k(queries, 10)[0] for kind in BACKENDS["search"]}
    np.testing.assert_array_equal(found["torch"], found["faiss_flat"])
    hits = [len({*row} & {*true}) for row, true in zip(found["faiss_ivf"], found["torch"], strict=True)]
    assert np.mean(hits) / 10 >= RECALL
    few = index("faiss_ivf", docs, probes=1).top_k(queries, 10)[0]
    assert (few != found["torch"]).any()


@pytest.mark.parametrize("kind", sorted(BACKENDS["search"]))
def test_search_reads_vectors_from_a_read_only_file(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "v.npy", np.eye(4, dtype=np.float32))
    docs = np.load(tmp_path / "v.npy", mmap_mode="r")
    positions, scores = index(kind, docs).top_k(np.array([[0, 0.5, 1, 0]], dtype=np.float32), 2)
    assert (positions.tolist(), scores.tolist()) == ([[2, 1]], [[1.0, 0.5]])


def test_another_search_is_refused_with_those_there_are_and_a_missing_library_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValidationError, match="the kinds are faiss_flat, faiss_ivf, torch"):
        Search(kind="annoy")
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(UserError, match=r"install faiss-cpu or faiss-gpu, or set mine\.search\.kind"):
        index("faiss_flat", np.eye(4, dtype=np.float32))


def test_mine_finds_the_same_candidates_with_either_exact_search(tmp_path: Path) -> None:
    words = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex"]
    texts = [f"{words[at % 8]} {words[(at * at + 1) % 7]} {words[at // 8 % 8]}" for at in range(60)]
    ids = [f"d{at}" for at in range(60)]
    docs = tables.DOCS.of(ids, [""] * 60, texts, [at % 9 == 0 for at in range(60)])
    queries = tables.QUERIES.of(["a", "b"], ["stall of rotor", "vortex"], ["", ""], ["log"] * 2, ["log"] * 2)
    store = LocalStore(tmp_path / "store")
    inputs = {**given_.results(store, docs=docs), **given_.results(store, "generate", queries=queries)}
    student = {"model": str(tiny.student(tmp_path / "student", vocab_texts=words))}
    torch, faiss = (
        given_.run(store, "mine", inputs, student=student, top_k=7, search={"kind": kind}) for kind in EXACT
    )
    assert torch.fingerprint != faiss.fingerprint
    kept = [[row["doc_ids"] for row in given_.rows(store, made, "candidates")] for made in (torch, faiss)]
    assert kept[0] == kept[1]
    assert all(len(ids) == 7 for ids in kept[0])
