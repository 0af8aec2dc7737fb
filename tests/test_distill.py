"""The stage distill on lists that are few, wrong or hard to learn from: handled, or one clear sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

import given
import tiny
import twin
from hone import tables
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.training.batches import Batch, make_batch
from hone.context import Job, Shard
from hone.engine.plan import plan
from hone.errors import UserError
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.stages.distill import Config, read_examples, training_record
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

TEXTS = twin.texts(12)
SETTINGS: dict[str, Any] = {"max_epochs": 1, "learning_rate": 1e-3}


def distilled(home: Path, count: int, dev: int = 0, unknown: str = "", **settings: Any) -> Manifest:
    """What distill makes of `count` lists to train with and `dev` more."""
    ids = [f"d{number}" for number in range(len(TEXTS))]
    docs = tables.DOCS.of(ids, [""] * len(ids), TEXTS, [False] * len(ids))
    rows = [
        {
            "query_id": f"q{number}", "text": TEXTS[number % 12], "style": "span", "doc_id": "",
            "split": "train" if number < count else "dev",
            "doc_ids": [ids[(number + place) % 12] for place in range(3)] + ([unknown] if unknown else []),
            "scores": [1.0, 0.5, 0.2] + ([0.1] if unknown else []),
            "likely": [],
        }
        for number in range(count + dev)
    ]  # fmt: skip
    store = LocalStore(home / "store")
    lists = tables.LISTS.build([{column.name: row[column.name] for column in tables.LISTS.columns} for row in rows])
    student = tiny.student(home / "student", dim=16, layers=1, vocab_texts=twin.WORDS)
    inputs = given.results(store, docs=docs, lists=lists)
    return given.run(store, "distill", inputs, student={"model": str(student)}, **SETTINGS | settings)


@pytest.mark.parametrize("train", ["layers", "head", "lora"])
def test_fewer_lists_than_one_micro_batch_holds_are_trained_on(tmp_path: Path, train: str) -> None:
    done = distilled(tmp_path, 1, train=train)
    assert (done.facts["train_lists"], done.facts["lists_per_step"], done.facts["steps"]) == (1, 1, 1)
    assert done.facts["note"] == "no dev lists: trained to the last step without early stopping"


def test_a_training_before_leaves_its_share_of_layers_under_the_head_of_the_last(tmp_path: Path) -> None:
    layers = {"train": "layers", "max_steps": 3, "max_epochs": 3, "learning_rate": 1e-3, "docs_per_step": 6}
    alone = distilled(tmp_path / "alone", 8, 4, **{**layers, "alphas": [1.0]})
    both = distilled(tmp_path / "both", 8, 4, train="head", first={**layers, "alphas": [0.5]})
    base, whole = (
        load_file(path / "model.safetensors") for path in (tmp_path / "alone/student", model(tmp_path / "alone", alone))
    )
    folder = model(tmp_path / "both", both)
    for name, weight in load_file(folder / "model.safetensors").items():
        torch.testing.assert_close(weight, base[name] + 0.5 * (whole[name] - base[name]), rtol=1e-4, atol=1e-6)
    assert any(
        (folder / one["path"]).name.endswith("Dense") for one in json.loads((folder / "modules.json").read_text())
    )
    assert (both.facts["first"]["steps"], both.facts["first"]["alpha"], both.facts["alpha"]) == (3, 0.5, 1.0)
    assert [step["step"] for step in training_record(folder)["first"]["steps"]] == [1, 2, 3]
    assert both.cost["steps"] == 3 + both.facts["steps"]


def model(home: Path, done: Manifest) -> Path:
    return fetch_folder(LocalStore(home / "store"), done, "model", home)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first": {"docs_per_step": 9, "cluster_batches": True}}, "cluster_batches or docs_per_step, not both"),
        ({"docs_per_step": 9, "cluster_batches": True}, "cluster_batches or docs_per_step, not both"),
    ],
)
def test_trainings_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Config.model_validate({"student": {"model": "/models/student"}, **settings})


def test_lists_that_name_documents_which_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lists name documents that are not in docs, such as 'ghost'; curate again"):
        distilled(tmp_path, 4, unknown="ghost")


def test_what_curate_left_out_as_a_likely_answer_is_no_negative_of_any_batch(tmp_path: Path) -> None:
    student = Student(model=str(tiny.student(tmp_path / "student", dim=16, layers=1, vocab_texts=twin.WORDS)))
    ids = [f"d{number}" for number in range(4)]
    docs = tables.DOCS.of(ids, [""] * 4, TEXTS[:4], [False] * 4)
    rows = [["q0", "q1"], ["heat", "flow"], ["span"] * 2, ["", "d3"], ["train"] * 2]
    lists = tables.LISTS.of(*rows, [["d0", "d1"], ["d2"]], [[1.0, 0.2], [1.0]], [["d2", "d3"], []])
    store = LocalStore(tmp_path / "store")
    batch = whole_batch(store, given.results(store, docs=docs, lists=lists), student)
    assert batch.passages == 3
    assert [sorted(set(row) - {-1}) for row in batch.likely.tolist()] == [[2], []]  # d3 is in no list


def whole_batch(store: LocalStore, inputs: dict[str, Manifest], student: Student) -> Batch:
    """The training lists as one batch, as distill makes them of its inputs."""
    with scratch_folder() as scratch:
        config = Config(student=student)
        job = Job(plan("distill", config, inputs, scratch), store, scratch, Shard())
        encoder = Encoder(Path(student.model), student)
        return make_batch(read_examples(job, encoder, config, 1e9)[1].train, encoder.device)


@pytest.mark.parametrize("leaves_out", [{"positive_margin": 0.95}, {"first_rank": 3}])
def test_what_mine_left_out_as_a_likely_answer_is_no_negative_of_any_batch(
    tmp_path: Path, leaves_out: dict[str, Any]
) -> None:
    student = {"model": str(tiny.student(tmp_path / "student", dim=16, layers=1, vocab_texts=twin.WORDS))}
    texts = [text for text in twin.texts(6) for _ in range(2)]  # two of each are equally near to every query
    ids = [f"d{number}" for number in range(12)]
    store = LocalStore(tmp_path / "store")
    inputs = given.results(
        store, docs=tables.DOCS.of(ids, [""] * 12, texts, [False] * 12),
        judged_queries=tables.JUDGED_QUERIES.of([], [], []), qrels=tables.QRELS.of([], [], []),
    )  # fmt: skip
    queries = tables.QUERIES.of(ids, texts, ids, ["human"] * 12, ["human"] * 12)
    inputs |= given.results(store, "generate", queries=queries)
    inputs["candidates"] = given.run(store, "mine", inputs, student=student, near_duplicate=0, **leaves_out)
    teacher = {"kind": "fusion", "force": True}
    inputs["teacher_scores"] = given.run(store, "score", inputs, student=student, teacher=teacher)
    inputs["qualification"] = inputs["teacher_scores"]
    curate: dict[str, Any] = {"outscored": "relabel", "min_docs": 1, "weak_percentile": 0, "dev_share": 0}
    inputs["lists"] = given.run(store, "curate", inputs, **curate)

    lists = given.rows(store, inputs["lists"], "lists")
    mined = {row["query_id"]: row for row in given.rows(store, inputs["candidates"], "candidates")}
    batch = whole_batch(store, inputs, Student.model_validate(student))
    listed = sorted({doc_id for row in lists for doc_id in row["doc_ids"]}, key=ids.index)
    spared = 0
    for row, places in zip(lists, batch.likely.tolist(), strict=True):
        left_out = {*mined[row["query_id"]]["likely"]}
        assert left_out
        assert left_out.isdisjoint(row["doc_ids"])
        assert {listed[place] for place in places if place >= 0} == {row["doc_id"], *left_out} & {*listed}
        spared += len(left_out & {*listed})
    assert spared


def test_dev_lists_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no training lists are left; see the reasons in dropped_by_curate"):
        distilled(tmp_path, 0, dev=3)


def test_a_loss_that_is_no_number_leaves_nothing_behind_that_looks_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(loss|norm of its gradient) is (nan|inf) at step \d"):
        distilled(tmp_path, 12, dev=3, learning_rate=1e30, clip=1e30, max_epochs=9)
    assert not list((tmp_path / "store").rglob("manifest.json"))


def test_the_weights_that_are_kept_on_the_way_are_the_best_on_the_dev_lists_alone_and_the_record_says_so(
    tmp_path: Path,
) -> None:
    # Steps that are far too long: some of the way is better than all of it.
    swept: dict[str, Any] = {"learning_rate": 0.03, "max_epochs": 3, "patience": 9, "alphas": (0.0, 0.1, 0.5, 1.0)}
    done = distilled(tmp_path, 9, dev=3, **swept)
    record = training_record(fetch_folder(LocalStore(tmp_path / "store"), done, "model", tmp_path / "saved"))
    curve = {point["alpha"]: point["dev_loss"] for point in record["alphas"]}
    assert tuple(curve) == swept["alphas"]
    assert done.facts["alpha"] == min(curve, key=lambda alpha: curve[alpha])
    assert record["summary"]["alpha_chosen_on"] == "the dev lists alone, by listwise"
    without = distilled(tmp_path / "without", 9, **swept)
    assert without.facts["alpha"] == 1.0
    assert without.facts["alpha_chosen_on"] == "nothing, without dev lists: the last"


def test_no_way_at_all_to_the_trained_weights_is_the_base_though_low_rank_additions_were_merged(tmp_path: Path) -> None:
    done = distilled(tmp_path, 9, dev=3, alphas=(0.0,), train="lora", learning_rate=0.05, max_epochs=4, patience=9)
    saved = fetch_folder(LocalStore(tmp_path / "store"), done, "model", tmp_path / "saved")
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "student", saved))
    assert done.facts["steps"] > 1
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
