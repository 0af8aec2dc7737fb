"""No query of a test set, no near duplicate of one and no document judged for one reaches training."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpora
import given as given_
import tiny
from hone import tables
from hone.context import Job, Plan, Shard
from hone.core.near_duplicates import NearTexts, shingles, similarity
from hone.core.query_text import comparable
from hone.engine.runner import run
from hone.scratch import scratch_folder
from hone.settings import check
from hone.stages import stage
from hone.stages.gate import count_lists
from hone.storage.local import LocalStore

WORDS = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock", "wedge", "heat"]
TEST = "What causes stall flutter in compressor blades?"
PLANTED = {
    "what causes stall FLUTTER in compressor blades": "test query",
    "what causes stall flutter in compressor blade": "near duplicate of a test query",
    "what causes the stall flutter in compressor blades": "near duplicate of a test query",
}
FREE = ["shock wedge mach", "vortex of the inlet nozzle", "stall flutter"]


@pytest.mark.parametrize("source", ["log", "human"])
def test_what_is_planted_is_found_among_what_is_dropped_and_in_no_list(tmp_path: Path, source: str) -> None:
    texts = [" ".join(WORDS[at % 12 :] + WORDS[: at % 5]) for at in range(30)]
    queries = {"t1": TEST, "v1": FREE[2]}
    judged = {"test": [("t1", "d3", 1), ("t1", "d4", 1), ("t1", "d5", 0)], "dev": [("v1", "d6", 1)]}
    corpora.beir(tmp_path / "corpus", corpora.docs(*texts), queries, **judged)
    asked = [{"text": text, "doc_id": f"d{10 + at}"} for at, text in enumerate([*PLANTED, *FREE])]
    file = str(corpora.jsonl(tmp_path / "asked.jsonl", [*asked, {"text": "engine heat", "doc_id": "d3"}]))
    student = {"model": str(tiny.student(tmp_path / "student", vocab_texts=WORDS))}
    store = LocalStore(tmp_path / "store")

    known = dict.fromkeys(("docs", "judged_queries", "qrels"), given_.run(
        store, "prepare", {}, corpus=str(tmp_path / "corpus"), deduplicate=False))  # fmt: skip
    sources = {"log": {"query_log": file}, "human": {"human": {"file": file}}}[source]
    generated = given_.run(store, "generate", known, sources=[source], **sources)
    reasons = {row["detail"].partition(" | ")[0]: row["reason"]
               for row in given_.rows(store, generated, "dropped_by_generate")}  # fmt: skip
    assert {text: reasons.get(text) for text in PLANTED} == PLANTED
    assert [row["text"] for row in given_.rows(store, generated, "queries")][:3] == FREE
    assert ("d3: engine heat" in reasons) == (source == "human")

    known |= {"queries": generated}
    mined = given_.run(store, "mine", known, student=student, consistency_rank=0)
    dropped = {row["id"]: row["reason"] for row in given_.rows(store, mined, "dropped_by_mine")}
    assert dropped == {"d3": "held-out document", "d4": "held-out document"}
    known |= {"candidates": mined}
    scored = given_.run(store, "score", known, student=student, teacher={"kind": "fusion", "force": True})
    known |= {"teacher_scores": scored, "qualification": scored}
    curated = given_.run(store, "curate", known, outscored="relabel", min_docs=1, weak_percentile=0)
    lists = given_.rows(store, curated, "lists")
    listed = {doc_id for row in lists for doc_id in row["doc_ids"]}
    assert len(lists) >= 3
    assert not listed & {"d3", "d4"}
    assert {"d5", "d6"} <= listed  # judged, but not relevant for a test query


def test_a_query_made_from_a_held_out_document_is_dropped_by_mine(tmp_path: Path) -> None:
    texts = [" ".join(WORDS[at:]) for at in range(6)]
    ids = [f"d{at}" for at in range(6)]
    docs = tables.DOCS.of(ids, [""] * 6, texts, [at == 2 for at in range(6)])
    queries = tables.QUERIES.of(["q1", "q2"], ["stall", "heat"], ["d2", "d1"], ["human"] * 2, ["human"] * 2)
    store = LocalStore(tmp_path / "store")
    inputs = {**given_.results(store, docs=docs), **given_.results(store, "generate", queries=queries)}
    student = {"model": str(tiny.student(tmp_path / "student", vocab_texts=WORDS))}
    mined = given_.run(store, "mine", inputs, student=student, consistency_rank=0)
    dropped = [(row["id"], row["reason"]) for row in given_.rows(store, mined, "dropped_by_mine")]
    assert dropped == [("d2", "held-out document"), ("q1", "made from a held-out document")]
    assert [row["query_id"] for row in given_.rows(store, mined, "candidates")] == ["q2"]


def test_every_test_set_and_guard_set_of_the_settings_is_guarded_against(tmp_path: Path) -> None:
    texts = [" ".join(WORDS[at:]) for at in range(8)]
    corpora.beir(tmp_path / "corpus", corpora.docs(*texts), {"t1": "mach heat"}, test=[("t1", "d0", 1)])
    # One set asks of the same documents, the other of its own under ids that the corpus uses too.
    corpora.beir(tmp_path / "more", corpora.docs(*texts), {"m1": TEST}, test=[("m1", "d3", 1), ("m1", "d4", 0)])
    corpora.beir(tmp_path / "far", corpora.docs(*FREE), {"f1": FREE[0]}, hard=[("f1", "d1", 1)])
    # What training is guarded with is not trained with either.
    asked = "is a wedge of heat an engine"
    corpora.beir(tmp_path / "kept", corpora.docs(FREE[0], texts[6]), {"k1": asked}, test=[("k1", "d1", 1)])
    sources = {**dict.fromkeys([*PLANTED, FREE[0].upper(), asked, *FREE[1:]], "d5"), "mach of the heat": "d3"}
    corpora.jsonl(tmp_path / "asked.jsonl", [{"text": text, "doc_id": doc_id} for text, doc_id in sources.items()])
    settings = check(
        {
            "name": "guarded",
            "prepare": {"corpus": "corpus", "deduplicate": False},
            "generate": {"sources": ["human"], "human": {"file": "asked.jsonl"}},
            "distill": {"guards": [{"name": "kept", "folder": "kept"}]},
            "evaluate": {"tests": [{"name": "more", "folder": "more"},
                                   {"name": "far", "folder": "far", "split": "hard"}]},
            "teacher": {"kind": "fusion"},
            "student": {"model": str(tiny.student(tmp_path / "student", vocab_texts=WORDS))},
        },
        "settings.yaml",
        tmp_path,
    )  # fmt: skip
    assert settings.stages["gate"].tests == settings.stages["evaluate"].tests
    assert settings.stages["gate"].guards == settings.stages["distill"].guards
    store = LocalStore(tmp_path / "store")
    done = run(settings, store, last="mine")
    held_out = [row["doc_id"] for row in given_.rows(store, done["prepare"], "docs") if row["held_out"]]
    assert held_out == ["d0", "d3", "d6"]
    lost = {row["detail"].partition(" | ")[0]: row["reason"]
            for row in given_.rows(store, done["generate"], "dropped_by_generate")}  # fmt: skip
    planted = {**PLANTED, FREE[0].upper(): "test query", asked: "test query"}
    assert lost == planted | {"d3: mach of the heat": "held-out document"}
    assert [row["text"] for row in given_.rows(store, done["generate"], "queries")] == FREE[1:]
    listed = {doc_id for row in given_.rows(store, done["mine"], "candidates") for doc_id in row["doc_ids"]}
    assert listed
    assert not listed & set(held_out)


def test_gate_counts_the_lists_that_show_something_of_any_test_or_guard_set(tmp_path: Path) -> None:
    texts = [" ".join(WORDS[at:]) for at in range(8)]
    own = {"test": [("t1", "d0", 1), ("t1", "d1", 0)], "dev": [("v1", "d2", 1)]}
    corpora.beir(tmp_path / "corpus", corpora.docs(*texts), {"t1": "mach 1 heat", "v1": "engine"}, **own)
    # What is judged in the other set has the texts of d5 and d6 under other ids, and a text that is in no corpus.
    corpora.beir(tmp_path / "more", corpora.docs(texts[5].upper(), texts[6], FREE[0]), {"m1": TEST},
                 test=[("m1", "d0", 1), ("m1", "d1", 0), ("m1", "d2", 2)])  # fmt: skip
    store, settings = LocalStore(tmp_path / "store"), {"corpus": str(tmp_path / "corpus"), "deduplicate": False}
    prepared = given_.run(store, "prepare", {}, **settings, max_chars=40, exclude_judged=False)
    shown = {
        "Mach 1: heat": ["d1"], "mach 2 heat": ["d3"], "stall": ["d3", "d0"], "engine": ["d2"],
        TEST.lower(): ["d3"], "rotor": ["d4", "d5"], "blade": ["d6"],
    }  # fmt: skip
    ids, count = [f"q{number}" for number in range(len(shown))], len(shown)
    rows = [ids, list(shown), ["log"] * count, [""] * count, ["train"] * (count - 1) + ["dev"], list(shown.values())]
    lists = tables.LISTS.of(*rows, [[1.0] * len(docs) for docs in shown.values()], [[]] * count)
    inputs = dict.fromkeys(("docs", "judged_queries", "qrels"), prepared) | given_.results(store, "curate", lists=lists)
    leaks, more = [], {"name": "more", "folder": str(tmp_path / "more")}
    for others in ({}, {"tests": [more]}, {"guards": [more]}, {"tests": [more], "exclude_judged": False}):
        config = stage("gate").Config.model_validate({"max_chars": 40, **others})
        with scratch_folder() as scratch:
            leaks.append(count_lists(config, Job(Plan("gate", config, inputs, {}, "f" * 16), store, scratch, Shard())))
    assert leaks == [(count - 1, 1, found) for found in (2, 4, 4, 2)]


QUERIES = st.lists(st.lists(st.sampled_from(WORDS), min_size=0, max_size=9).map(" ".join), min_size=1, max_size=20)


@given(QUERIES, QUERIES, st.sampled_from([0.3, 0.5, 0.75, 0.8, 1.0]))
def test_looking_up_rare_sequences_finds_the_test_queries_that_comparing_with_each_finds(
    tests: list[str], asked: list[str], least: float
) -> None:
    guard = NearTexts(set(tests), least)
    for text in (*asked, *tests):
        near = [one for one in tests if similarity(shingles(comparable(text)), shingles(one)) >= least]
        assert guard.find(comparable(text)) == min(near, default="")
