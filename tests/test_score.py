"""score: the teacher is asked first whether it is any good, and what it says depends on nothing but the pair."""

import inspect
import itertools
import multiprocessing
import os
import random
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import corpora
import given
import slow
import tiny
from hone import context as job_module
from hone import tables
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.search.bm25 import BM25
from hone.backends.teachers.pair_models import PairModel
from hone.backends.teachers.query_likelihood import PAIRS_AT_ONCE, QueryLikelihood
from hone.errors import UserError
from hone.results.manifest import Manifest
from hone.storage.local import LocalStore
from scoring import DEPTH, DOCS, QUERIES, WORDS, world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("models")
    teacher = tiny.bert(folder / "teacher", labels=1, vocab_texts=WORDS, seed=1)
    student = tiny.student(folder / "student", vocab_texts=WORDS)
    return {"student": {"model": str(student)}, "teacher": {"model": str(teacher), "force": True}}


@pytest.fixture
def many_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "ROWS_PER_BUCKET", 9)


def lists_of(store: LocalStore, inputs: dict[str, Manifest], scored: Manifest) -> Manifest:
    """What curate makes of the scores."""
    kept = {**inputs, "teacher_scores": scored, "qualification": scored}
    return given.run(store, "curate", kept, min_docs=DEPTH, list_size=DEPTH, dev_share=0.0)


@pytest.mark.usefixtures("many_buckets")
def test_lists_are_the_same_for_exhaustive_and_early_exit_and_for_any_number_of_shards(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    results = []
    for name, exits, shards in (("all", False, 1), ("early", True, 1), ("five", True, 5)):
        store = LocalStore(tmp_path / name)
        inputs = given.results(store, **world(log=9))
        scored = given.run(store, "score", inputs, shards, early_exit=exits, qualify_queries=20, **models)
        results.append((scored, lists_of(store, inputs, scored)))
    exhaustive, early, five = results
    assert exhaustive[1].outputs["lists"].digest == early[1].outputs["lists"].digest
    assert early[0].outputs == five[0].outputs
    assert 9 < early[1].outputs["lists"].rows < QUERIES / 2
    assert exhaustive[0].cost["pairs"] == QUERIES * DEPTH == early[0].cost["pairs_exhaustive"]
    assert early[0].cost["pairs"] == five[0].cost["pairs"] < 0.7 * QUERIES * DEPTH


def killed_scoring(store: LocalStore, parts: int, *arguments: Any) -> None:
    """slow.score in a process that is killed when so many parts of its cache are there."""
    child = multiprocessing.get_context("spawn").Process(target=slow.score, args=(str(store.root), *arguments))
    child.start()
    while child.is_alive() and len(list(store.objects("memo/scores"))) < parts:
        time.sleep(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_a_killed_run_goes_on_where_it_was_and_writes_the_same_bytes(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    store = LocalStore(tmp_path / "store")
    settings = {"early_exit": False, "qualify_queries": 0, **models}
    killed_scoring(store, 3, world(), settings)
    finished = len(list(store.objects("memo/scores"))) * slow.PAIRS
    resumed = given.run(store, "score", given.results(store, **world()), **settings)
    other = LocalStore(tmp_path / "other")
    unbroken = given.run(other, "score", given.results(other, **world()), **settings)
    assert resumed.outputs == unbroken.outputs
    assert 150 <= finished < QUERIES * DEPTH
    assert resumed.cost["pairs_paid"] <= unbroken.cost["pairs_paid"] - finished


def test_a_language_model_judges_document_by_document_in_small_portions_and_tells_how_far_it_is(
    tmp_path: Path,
    models: dict[str, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    judge = {"kind": "query_likelihood", "model": str(tiny.llama(tmp_path / "judge", words=WORDS)), "force": True}
    portions: list[list[str]] = []
    score_pairs = QueryLikelihood.score_pairs

    def noted(self: QueryLikelihood, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        portions.append(list(docs))
        return score_pairs(self, queries, docs)

    monkeypatch.setattr(QueryLikelihood, "score_pairs", noted)
    settings = {"qualify_queries": 3, "student": models["student"], "teacher": judge}
    found = []
    for documents_first in (True, False):
        portions.clear()
        monkeypatch.setattr(QueryLikelihood, "documents_first", documents_first)
        store = LocalStore(tmp_path / str(documents_first))
        found.append(given.run(store, "score", given.results(store, **world()), **settings))
        assert max(map(len, portions)) <= PAIRS_AT_ONCE["cpu"]
        turns = sum(len(list(itertools.groupby(portion))) for portion in portions)
        assert (turns < 0.7 * sum(map(len, portions))) == documents_first
    assert found[0].outputs == found[1].outputs
    said = capfd.readouterr().err
    assert "score: qualify the teacher: 180/180 pairs" in said
    assert re.search(r"score: teacher: 90/90 queries, .* \d+ pairs, [\d,.]+/(s|min|h)\n", said)


@pytest.mark.usefixtures("many_buckets")
def test_five_shards_with_early_exit_of_which_one_was_killed_keep_the_lists_of_exhaustive_scoring(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    store, other = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "other")
    settings = {"early_exit": True, "qualify_queries": 0, **models}
    killed_scoring(store, 2, world(), settings, "1/5", 9)
    inputs = given.results(store, **world())
    torn = given.run(store, "score", inputs, 5, **settings)
    whole = given.run(other, "score", given.results(other, **world()), **{**settings, "early_exit": False})
    assert torn.cost["pairs_paid"] < torn.cost["pairs"] < whole.cost["pairs"]
    lists = lists_of(store, inputs, torn), lists_of(other, inputs, whole)
    assert lists[0].outputs["lists"].digest == lists[1].outputs["lists"].digest
    assert lists[0].outputs["lists"].rows


OWNERS = (str, bytes, list, dict, set, int, float, Path, np.ndarray, pa.Table, random.Random)


def test_early_exit_keeps_the_lists_of_exhaustive_scoring_on_the_documentation_of_python(tmp_path: Path) -> None:
    named = {f"{owner.__name__}.{name}": inspect.getdoc(getattr(owner, name)) or "" for owner in OWNERS
             for name in sorted(dir(owner)) if not name.startswith("_")}  # fmt: skip
    told = {doc_id: text[:400] for doc_id, text in named.items() if len(text.split()) >= 12}
    corpora.beir(tmp_path / "corpus", [{"_id": doc_id, "title": "", "text": text} for doc_id, text in told.items()])
    texts = list(told.values())
    student = {"model": str(tiny.student(tmp_path / "student", vocab_texts=texts))}
    teacher = {"model": str(tiny.bert(tmp_path / "teacher", labels=1, vocab_texts=texts, seed=3)), "force": True}
    store = LocalStore(tmp_path / "store")
    prepared = given.run(store, "prepare", {}, corpus=str(tmp_path / "corpus"))
    known = dict.fromkeys(("docs", "judged_queries", "qrels"), prepared)
    known["queries"] = given.run(store, "generate", known, extractive={"styles": {"search": 1}})
    known["candidates"] = given.run(store, "mine", known, student=student, top_k=12, fuse_bm25=True, bm25_weight=9)
    lists: list[Manifest] = []
    for exits in (False, True):
        settings = {"student": student, "teacher": teacher, "early_exit": exits, "qualify_queries": 0}
        known["teacher_scores"] = known["qualification"] = given.run(store, "score", known, **settings)
        lists.append(given.run(store, "curate", known, min_docs=8, list_size=8, weak_percentile=0))
    scored = known["teacher_scores"]
    assert scored.cost["pairs"] * 2 < scored.cost["pairs_exhaustive"]
    assert lists[0].outputs["lists"].digest == lists[1].outputs["lists"].digest
    assert 5 < lists[0].outputs["lists"].rows < known["candidates"].outputs["candidates"].rows / 4


def test_scores_do_not_depend_on_what_a_pair_is_batched_with(models: dict[str, dict[str, Any]]) -> None:
    from hone.backends.teachers.settings import Teacher

    teacher = Teacher.model_validate(models["teacher"])
    made = world()
    queries, docs = made["queries"]["text"].to_pylist()[:DOCS], made["docs"]["text"].to_pylist()
    together = PairModel(teacher, Path(teacher.model), 4_096).score_pairs(queries, docs)
    for budget, step in ((1, 1), (100, 7), (16_384, 31)):
        model = PairModel(teacher, Path(teacher.model), budget)
        parts = [model.score_pairs(queries[at : at + step], docs[at : at + step]) for at in range(0, DOCS, step)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


def judged(inputs: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The same world with the sources of its first queries as dev judgements."""
    rows = inputs["queries"].slice(0, 30)
    names = [f"j{query_id}" for query_id in rows["query_id"].to_pylist()]
    dev = tables.JUDGED_QUERIES.of(names, rows["text"].to_pylist(), ["dev"] * 30)
    return {**inputs, "judged_queries": dev, "qrels": tables.QRELS.of(names, rows["doc_id"].to_pylist(), [1] * 30)}


def test_a_teacher_worse_than_the_student_is_refused_with_its_figures_unless_forced(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    store = LocalStore(tmp_path)
    inputs = given.results(store, **judged(world()))
    refusing = {**models, "teacher": {**models["teacher"], "force": False}}
    with pytest.raises(UserError, match=r"nDCG@10 of 0\.\d{4} is not above .* \(human judgements, 30 queries\)"):
        given.run(store, "score", inputs, **refusing)
    assert not list(store.objects("score"))
    fact = given.run(store, "score", inputs, **models).facts["qualification"]
    assert fact["qualified"] is False
    assert fact["teacher"] < fact["student"]


def test_a_score_that_is_no_number_costs_its_query_and_is_named(
    tmp_path: Path, models: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    score_pairs = PairModel.score_pairs

    def faulty(self: PairModel, queries: list[str], docs: list[str]) -> np.ndarray:
        broken = np.array([text == queries[0] for text in queries])
        return np.where(broken, np.nan, score_pairs(self, queries, docs)).astype(np.float32)

    monkeypatch.setattr(PairModel, "score_pairs", faulty)
    store = LocalStore(tmp_path)
    scored = given.run(store, "score", given.results(store, **world()), early_exit=False, qualify_queries=0, **models)
    lost = given.rows(store, scored, "dropped_by_score")
    assert {row["reason"] for row in lost} == {"the teacher gave a score that is not a number"}
    assert scored.outputs["teacher_scores"].rows == QUERIES - len(lost)


def test_a_query_whose_source_is_not_among_the_candidates_is_dropped_unscored(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    made = world()
    made["candidates"] = tables.CANDIDATES.of(["q0"], [["d1", "d2"]], [[0.5, 0.4]], [[]])
    store = LocalStore(tmp_path)
    scored = given.run(store, "score", given.results(store, **made), qualify_queries=0, **models)
    [row] = given.rows(store, scored, "dropped_by_score")
    assert (row["id"], row["detail"]) == ("q0", "d0")
    assert row["reason"] == "source document is not among the scored candidates"
    assert "pairs" not in scored.cost


def test_own_queries_that_copy_words_are_no_fair_judges_of_a_teacher_that_matches_words(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    made = world()
    extractive = made["queries"].set_column(3, "source", pa.array(["extractive"] * QUERIES))
    fusion = {**models, "teacher": {"kind": "fusion", "force": True}}
    store = LocalStore(tmp_path)
    for world_of, settings, flattered in (
        ({**made, "queries": extractive}, fusion, True),
        ({**made, "queries": extractive}, models, False),
        (judged({**made, "queries": extractive}), fusion, False),
        (made, fusion, False),
    ):
        inputs = given.results(store, **world_of)
        fact = given.run(store, "score", inputs, qualify_queries=20, **settings).facts["qualification"]
        assert ("flatters a teacher that matches words" in fact["caution"]) is flattered


def test_where_nobody_judged_the_teacher_is_tried_on_queries_of_another_kind_than_those_trained_on(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    made = world()
    extracts = made["queries"].set_column(3, "source", pa.array(["extractive"] * QUERIES))
    store = LocalStore(tmp_path)
    inputs = given.results(store, **{**made, "queries": extracts})
    fusion = {**models, "teacher": {"kind": "fusion", "force": True}}
    fact = given.run(store, "score", inputs, qualify_queries=20, **fusion).facts["qualification"]
    assert (fact["judged"], fact["kind"]) == (
        "synthetic", "queries cut from documents, in a style that is not trained on (sentence)",
    )  # fmt: skip
    low, high = fact["ci95"]
    assert low <= fact["teacher"] - fact["student"] <= high
    assert "nobody judged these queries" in fact["caution"]
    written = given.run(store, "score", given.results(store, **made), qualify_queries=20, **fusion)
    assert written.facts["qualification"]["kind"] == "queries of its own, which are trained on too"


def test_judged_dev_queries_choose_the_mix_of_the_fusion_and_own_queries_do_not(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    def scored(world_of: dict[str, pa.Table], **teacher: Any) -> Manifest:
        store = LocalStore(tmp_path / str(len(world_of["judged_queries"])))
        settings = {**models, "teacher": {"kind": "fusion", "force": True, **teacher}}
        return given.run(store, "score", given.results(store, **world_of), **settings)

    mixes = [{"lexical_weight": weight, "centred": centred} for weight in (0.0, 0.3) for centred in (False, True)]
    chosen = scored(judged(world()), mixes=mixes)
    single = [scored(judged(world()), **mix) for mix in mixes]
    reached = [alone.facts["qualification"]["teacher"] for alone in single]
    assert len(set(reached)) > 2
    assert [{**mix, "nDCG@10": value} for mix, value in zip(mixes, reached, strict=True)] == chosen.facts["mixes"]
    best = reached.index(max(reached))
    assert chosen.facts["mix"] == mixes[best]
    assert chosen.facts["qualification"]["teacher"] <= max(reached)
    assert chosen.outputs["teacher_scores"].digest == single[best].outputs["teacher_scores"].digest
    assert "mix" not in scored(world(), mixes=mixes).facts


def test_judged_dev_queries_choose_the_weights_of_an_ensemble_and_a_member_that_adds_nothing_is_named(
    tmp_path: Path, models: dict[str, dict[str, Any]]
) -> None:
    def scored(name: str, **teacher: Any) -> Manifest:
        store = LocalStore(tmp_path / name)
        settings = {**models, "teacher": {"kind": "ensemble", "force": True, **teacher}}
        return given.run(store, "score", given.results(store, **judged(world())), early_exit=False, **settings)

    fusion, random = {"kind": "fusion", "lexical_weight": 1.0}, models["teacher"]
    random = {key: random[key] for key in ("kind", "model", "max_tokens") if key in random}
    chosen = scored("chosen", members=[fusion, random])
    facts = chosen.facts
    reached = {tuple(one["weights"]): one["nDCG@10"] for one in facts["weighings"]}
    assert len(reached) == 5
    for weights in ((0.25, 0.75), (0.75, 0.25)):
        members = [{**member, "weight": weight} for member, weight in zip((fusion, random), weights, strict=True)]
        fixed = scored(str(weights), members=members, choose_weights=False)
        assert fixed.facts["qualification"]["teacher"] == reached[weights]
        assert "weights" not in fixed.facts
    best = max(reached, key=lambda weights: reached[weights])
    assert tuple(facts["weights"].values()) == best
    assert facts["qualification"]["teacher"] <= reached[best]

    # A member twice: either adds nothing to the other.
    twice = scored("twice", members=[fusion, fusion])
    assert twice.facts["adds_nothing"] == ["fusion", "fusion (2)"]
    assert twice.facts["weights"] == {"fusion": 1.0, "fusion (2)": 0.0}
    assert "add nothing to the others: fusion, fusion (2)" in twice.facts["qualification"]["caution"]
    alone = scored("alone", members=[fusion], choose_weights=False)
    assert twice.outputs["teacher_scores"].digest == alone.outputs["teacher_scores"].digest
    assert twice.cost.get("pairs_paid", 0) == 0


def test_further_encoders_with_their_own_prompts_share_in_the_fusion_and_encode_a_document_once(
    tmp_path: Path, models: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.student(
        tmp_path / "other", pooling="cls", prompts={"query": "rotor ", "document": "heat "}, dim=48, vocab_texts=WORDS,
        seed=4,
    )  # fmt: skip
    paid: list[int] = []
    encode = Encoder.encode_tokens

    def counted(self: Encoder, tokens: Sequence[Sequence[int]]) -> np.ndarray:
        paid.append(len(tokens) if self.dimension == 48 else 0)
        return encode(self, tokens)

    monkeypatch.setattr(Encoder, "encode_tokens", counted)
    store = LocalStore(tmp_path / "store")
    made = judged(world())
    inputs = given.results(store, **made)
    fusion = {
        "kind": "fusion", "force": True, "encoders": [{"model": str(folder)}], "mixes": [{"lexical_weight": 0.25}],
        "encoder_weights": [0.0, 0.75, 1.0], "feedback_docs": 0, "pool": DOCS,
    }  # fmt: skip
    chosen = given.run(store, "score", inputs, student=models["student"], teacher=fusion)
    asked = dict(zip(*(made["queries"][name].to_pylist() for name in ("query_id", "text")), strict=True))
    dev = [row["text"] for row in made["judged_queries"].to_pylist() if row["split"] == "dev"]
    assert sorted(count for count in paid if count) == sorted([DOCS, len(dev), len({*asked.values()} - {*dev})])
    paid.clear()
    given.run(store, "score", inputs, student=models["student"], teacher={**fusion, "encoder_weights": [0.5]})
    assert sum(paid) == 0, "another mix of the same encoders encodes nothing again"

    reached = {mix["encoder_weight"]: mix["nDCG@10"] for mix in chosen.facts["mixes"]}
    assert len(set(reached.values())) > 1
    kept = chosen.facts["mix"]["encoder_weight"]
    assert chosen.facts["mix"] == {"lexical_weight": 0.25, "centred": False, "encoder_weight": kept}
    assert kept == max(share for share in reached if share >= kept and reached[share] >= reached[kept])

    # The same by hand, for every query: all documents are in the pool.
    texts = made["docs"]["text"].to_pylist()
    bm25 = BM25(texts)
    student, other = (Encoder(Path(path), Student(model=str(path))) for path in (models["student"]["model"], folder))

    def standard(scores: np.ndarray) -> np.ndarray:
        return (scores - scores.mean()) / scores.std()

    for row in given.rows(store, chosen, "teacher_scores"):
        text = asked[row["query_id"]]
        own, theirs = (standard(one.docs(texts) @ one.queries([text])[0]) for one in (student, other))
        expected = 0.75 * ((1 - kept) * own + kept * theirs) + 0.25 * standard(bm25.scores(text))
        at = [int(doc_id[1:]) for doc_id in row["doc_ids"]]
        np.testing.assert_allclose(row["scores"], expected[at], atol=1e-3)
