"""prepare: what is kept, what is dropped and why, and what is held out."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import corpora
import given as given_
from hone.core.text import contained, dedup_key
from hone.storage.base import LocalStore

LONG = "the lift of a swept wing in supersonic flow"
Dropped = dict[str, tuple[str, str]]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def outcome(store: LocalStore, corpus: Path, **settings: object) -> tuple[list[str], Dropped]:
    """The ids kept, and id to (reason, detail) of what was dropped."""
    manifest = corpora.prepared(store, corpus, **settings)
    kept = [row["doc_id"] for row in given_.rows(store, manifest, "docs")]
    lost = given_.rows(store, manifest, "dropped_by_prepare")
    assert {row["stage"] for row in lost} <= {"prepare"}
    assert manifest.facts["docs"] == len(kept)
    assert manifest.facts["dropped"] == len(lost)
    return kept, {row["id"]: (row["reason"], row["detail"]) for row in lost}


def test_every_dropped_document_has_its_reason(store: LocalStore, tmp_path: Path) -> None:
    texts = [LONG, "", "12 + 34 !", "wing 7", f"{LONG}, measured", f"On {LONG}", "Lift? The lift of 2 swept WINGS"]
    kept, lost = outcome(store, corpora.jsonl(tmp_path / "c.jsonl", corpora.docs(*texts)))
    assert kept == ["d4", "d5", "d6"]
    assert lost == {
        "d0": ("contained in another document", "d5"),
        "d1": ("empty text", ""),
        "d2": ("empty text", ""),
        "d3": ("too short", "wing"),
    }


def test_without_deduplication_equal_texts_stay(store: LocalStore, tmp_path: Path) -> None:
    corpus = corpora.jsonl(tmp_path / "c.jsonl", corpora.docs(LONG, LONG))
    assert outcome(store, corpus) == (["d0"], {"d1": ("contained in another document", "d0")})
    assert outcome(store, corpus, deduplicate=False) == (["d0", "d1"], {})


def test_texts_are_flattened_and_cut_and_numbers_may_be_ids(store: LocalStore, tmp_path: Path) -> None:
    row = {"key": 7, "head": "Lift\n of wings", "body": f" a\t{'swept ' * 40}\u2028wing"}
    corpus = corpora.jsonl(tmp_path / "c.jsonl", [row])
    fields = {"id_field": "key", "title_field": "head", "text_field": "body"}
    (doc,) = given_.rows(store, corpora.prepared(store, corpus, **fields, max_chars=20), "docs")
    expected = {"doc_id": "7", "title": "Lift of wings", "text": "a swept swept swept "[:20], "held_out": False}
    assert doc == expected


def judged(folder: Path) -> Path:
    texts = ["the flutter of thin blades", LONG, f"{LONG}, measured", LONG, "a heat shield that ablates", "stall"]
    queries = {"t": "swept wing", "t2": "heat", "d": "flutter", "unused": "x"}
    test = [("t", "d1", 1), ("t2", "d4", 0), ("t2", "d5", 2)]
    return corpora.beir(folder, corpora.docs(*texts), queries, dev=[("d", "d0", 1)], test=test)


def test_documents_relevant_for_test_queries_are_held_out_and_judged_ones_are_never_duplicates(
    store: LocalStore, tmp_path: Path
) -> None:
    manifest = corpora.prepared(store, judged(tmp_path / "beir"))
    docs = {row["doc_id"]: row["held_out"] for row in given_.rows(store, manifest, "docs")}
    assert docs == {"d0": False, "d1": True, "d2": False, "d4": False, "d5": True}
    assert [(row["id"], row["detail"]) for row in given_.rows(store, manifest, "dropped_by_prepare")] == [("d3", "d1")]
    assert given_.rows(store, manifest, "judged_queries") == [
        {"query_id": "d", "text": "flutter", "split": "dev"},
        {"query_id": "t", "text": "swept wing", "split": "test"},
        {"query_id": "t2", "text": "heat", "split": "test"},
    ]
    qrels = [tuple(row.values()) for row in given_.rows(store, manifest, "qrels")]
    assert qrels == [("d", "d0", 1), ("t", "d1", 1), ("t2", "d4", 0), ("t2", "d5", 2)]
    assert manifest.facts == {"docs": 5, "dropped": 1, "held_out": 2, "dev_queries": 1, "test_queries": 2}


def test_the_hold_out_is_a_setting(store: LocalStore, tmp_path: Path) -> None:
    corpus = judged(tmp_path / "beir")
    for changed in ({"exclude_judged": False}, {"test_split": ""}):
        manifest = corpora.prepared(store, corpus, **changed)
        assert not any(row["held_out"] for row in given_.rows(store, manifest, "docs"))


def test_a_judged_copy_stays_and_the_others_go(store: LocalStore, tmp_path: Path) -> None:
    corpus = corpora.beir(tmp_path / "b", corpora.docs(LONG, LONG, LONG), {"q": "wing"}, test=[("q", "d1", 1)])
    kept, lost = outcome(store, corpus)
    assert kept == ["d1"]
    assert {detail for _, detail in lost.values()} == {"d1"}


def slow_contained(texts: list[str], window: int) -> set[tuple[int, int]]:
    """(part, whole) by the definition: all pairs of distinct texts at most `window` apart in the sorted list."""
    distinct = sorted(set(texts))
    first = {text: texts.index(text) for text in distinct}
    pairs = {(at, first[text]) for at, text in enumerate(texts) if at != first[text]}
    near = ((a, b) for i, a in enumerate(distinct) for j, b in enumerate(distinct) if 0 < abs(i - j) <= window)
    return pairs | {(first[a], first[b]) for a, b in near if a in b}


@given(st.lists(st.text("ab ", min_size=1, max_size=6), max_size=25), st.integers(1, 4))
def test_containment_equals_its_slow_definition(texts: list[str], window: int) -> None:
    ordered = sorted((text, at) for at, text in enumerate(texts))
    found = list(contained(ordered, window))
    assert len(found) == len(set(found))
    assert set(found) == slow_contained(texts, window)


@settings(max_examples=40)
@given(st.lists(st.text("ab \u00e4\u0663.1", max_size=14), min_size=1, max_size=12), st.integers(1, 3))
def test_what_is_dropped_says_no_more_than_something_that_was_there(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], window: int
) -> None:
    folder = tmp_path_factory.mktemp("c")
    rows = corpora.docs("something that always stays", *texts)
    kept, lost = outcome(LocalStore(folder / "store"), corpora.jsonl(folder / "c.jsonl", rows), dedupe_window=window)
    norms = {row["_id"]: dedup_key(row["text"]) for row in rows}
    assert sorted([*kept, *lost]) == sorted(norms)
    assert Counter(norms[doc_id] for doc_id in kept).most_common(1)[0][1] == 1
    for doc_id, (reason, detail) in lost.items():
        if reason == "contained in another document":
            assert norms[doc_id] in norms[detail]
        else:
            assert (reason == "empty text") is not bool(norms[doc_id])
            assert len(norms[doc_id]) < 10
    for doc_id in kept:
        assert len(norms[doc_id]) >= 10


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ångström, 3 µm!", "angstrom μm"),
        ("ﬁne—print", "fineprint"),
        ("  a \u00a0b\n", "a b"),
        ("42", ""),
        ("翼3", "翼"),
    ],
)
def test_texts_that_read_alike_have_one_normal_form(text: str, plain: str) -> None:
    assert dedup_key(text) == plain
