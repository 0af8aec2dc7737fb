"""Guard sets of training: how far the student goes is chosen so that it keeps what it knew elsewhere."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import guarding
import twin
from hone.backends.encoders.encoder import Encoder
from hone.backends.training import loop
from hone.core.interpolation import Point, choose, sweep
from hone.errors import UserError
from hone.report.findings import Findings
from hone.report.how_made import training
from hone.report.html import Html
from hone.report.markdown import markdown
from hone.settings import check
from story import measured, story

pytestmark = pytest.mark.slow

KEPT = [0.0, 0.25, 0.5, 0.75, 1.0]


def figures(record: dict[str, Any], name: str = "far") -> dict[float, float]:
    return {point["alpha"]: point["guards"][name] for point in record["alphas"]}


def shown(record: dict[str, Any], **more: Any) -> Html:
    """The report's section on training, by its record."""
    return training(Findings({}, "student", training=record, **more))


@pytest.mark.parametrize("train", ["layers", "lora"])
def test_of_the_way_to_the_trained_weights_no_more_is_kept_than_the_guard_set_allows(
    tmp_path: Path, train: str
) -> None:
    done = guarding.trained(tmp_path, [guarding.guard_set(tmp_path)], train=train, guard_loss=0.2)
    record = guarding.record_of(tmp_path, done)
    guard = figures(record)
    dev = {point["alpha"]: point["dev_loss"] for point in record["alphas"]}
    assert list(guard) == KEPT
    assert guard[0.0] == 1.0
    allowed = [alpha for alpha in KEPT if guard[alpha] >= 0.8]
    assert [point["alpha"] for point in record["alphas"] if point["allowed"]] == allowed
    assert min(KEPT, key=lambda alpha: dev[alpha]) == 1.0  # what the dev lists alone would keep
    assert 0 < done.facts["alpha"] == min(allowed, key=lambda alpha: dev[alpha]) < 1
    assert done.facts["guards"] == {"far": {"base": 1.0, "kept": guard[done.facts["alpha"]]}}
    on = "the dev lists, by listwise, among those that lose at most 0.2 nDCG@10 on far"
    assert done.facts["alpha_chosen_on"] == record["summary"]["alpha_chosen_on"] == on
    assert on in shown(record)


def test_where_every_step_loses_too_much_the_base_is_kept_and_the_record_says_so(tmp_path: Path) -> None:
    guards = [guarding.guard_set(tmp_path, name) for name in ("far", "near")]
    done = guarding.trained(tmp_path, guards, guard_loss=0.001, alphas=(0.5, 1.0))
    on = "far and near alone: all but the base lose more than 0.001 nDCG@10, so the base is kept"
    assert (done.facts["alpha"], done.facts["alpha_chosen_on"]) == (0.0, on)
    kept, base = (Encoder(folder, twin.encoder(folder).student) for folder in
                  (guarding.model_of(tmp_path, done), tmp_path / "student"))  # fmt: skip
    np.testing.assert_array_equal(kept.docs(guarding.TEXTS), base.docs(guarding.TEXTS))


def test_a_training_before_is_guarded_too_and_all_is_held_against_the_base(tmp_path: Path) -> None:
    first = {"learning_rate": 1e-2, "max_epochs": 4, "alphas": [1.0]}
    guard = guarding.guard_set(tmp_path)
    done = guarding.trained(tmp_path, [guard], guard_loss=0.001, train="head", first=first)
    assert done.facts["first"]["alpha"] == 0
    assert done.facts["guards"]["far"]["kept"] >= done.facts["guards"]["far"]["base"] - 0.001
    free = guarding.trained(tmp_path, [guard], guard_loss=1.0, train="head", first=first)
    record = guarding.record_of(tmp_path, free)
    assert figures(record)[0.0] == figures(record["first"])[record["first"]["summary"]["alpha"]]
    assert free.facts["guards"]["far"]["base"] == figures(record["first"])[0.0] == 1.0


def test_without_dev_lists_the_guard_set_alone_says_how_far(tmp_path: Path) -> None:
    done = guarding.trained(tmp_path, [guarding.guard_set(tmp_path)], dev=False, guard_loss=0.2)
    record = guarding.record_of(tmp_path, done)
    assert done.facts["alpha"] == max(alpha for alpha, value in figures(record).items() if value >= 0.8) > 0
    assert (
        done.facts["alpha_chosen_on"] == "far alone, without dev lists: the last that loses at most 0.2 nDCG@10 there"
    )
    assert all(point["dev_loss"] is None for point in record["alphas"])
    assert "a guard set" in shown(record)


def test_the_figures_are_those_of_the_students_themselves_and_the_same_in_every_run(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"guard_loss": 1.0, "train": "head", "learning_rate": 0.02}
    guards = [guarding.guard_set(tmp_path)]
    whole, again = (guarding.trained(tmp_path / home, guards, **settings) for home in ("a", "b"))
    assert whole.outputs == again.outputs
    for alpha, value in figures(guarding.record_of(tmp_path / "a", whole)).items():
        home = tmp_path / f"{alpha}"
        alone = guarding.model_of(home, guarding.trained(home, [], alphas=(alpha,), **settings))
        assert value == pytest.approx(slow_ndcg(alone, tmp_path / "student"), abs=1e-9)


def slow_ndcg(model: Path, before: Path) -> float:
    """Mean nDCG@10 where each word has one right answer: the base's first."""
    base, student = twin.encoder(before), twin.encoder(model)
    right = (base.queries(twin.WORDS) @ base.docs(guarding.TEXTS).T).argmax(1)
    scores = student.queries(twin.WORDS) @ student.docs(guarding.TEXTS).T
    ranks = [1 + sum(row > row[answer]) for row, answer in zip(scores, right, strict=True)]
    return float(np.mean([1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks]))


def test_where_the_head_alone_is_trained_the_guards_documents_are_encoded_once_for_all_alphas(tmp_path: Path) -> None:
    guards = [guarding.guard_set(tmp_path, name) for name in ("far", "near")]
    with pytest.MonkeyPatch.context() as patch:
        paid: list[list[int]] = []
        encode = Encoder.encode_tokens
        patch.setattr(
            Encoder, "encode_tokens", lambda self, rows, *more: paid.extend(rows) or encode(self, rows, *more)
        )
        guarding.trained(tmp_path, guards, train="head")
    docs = twin.encoder(tmp_path / "student").tokenize_docs(guarding.TEXTS)
    assert sorted(row for row in paid if row in docs) == sorted(docs)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            "qrels/test.tsv",
            r"distill\.guards: far: .*far holds no judgements called 'test', but none; correct folder or split",
        ),
        ("corpus.jsonl", r"distill\.guards: far: .*far holds no queries, such as queries\.jsonl; correct folder"),
        ("", r"far does not exist"),
    ],
)
def test_a_guard_set_that_lacks_something_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, told: str
) -> None:
    guard = guarding.guard_set(tmp_path)
    folder = Path(guard["folder"])
    (folder / broken).unlink() if broken else folder.rename(tmp_path / "gone")
    monkeypatch.setattr(loop, "train", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=told):
        guarding.trained(tmp_path, [guard])
    assert not list((tmp_path / "store").rglob("distill/*/manifest.json"))


def test_two_guard_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"distill\.guards: the name 'far' is taken; give every set its own"):
        guarding.trained(tmp_path, [guarding.guard_set(tmp_path)] * 2)


def test_the_settings_tell_the_stages_before_which_sets_guard_training(tmp_path: Path) -> None:
    guard = {"name": "far", "folder": "far"}
    own = {"name": "x", "preset": "cpu", "prepare": {"corpus": "c"}, "student": {"model": "m"}}
    settings = {**own, "distill": {"guards": [guard]}}
    stages: dict[str, Any] = dict(check(settings, "settings.yaml", tmp_path).stages)
    for name in ("prepare", "generate", "distill"):
        assert [(one.name, one.folder) for one in stages[name].guards] == [("far", str(tmp_path / "far"))]
    assert stages["evaluate"].tests == ()


def test_a_guard_set_alone_makes_quarters_of_the_way_and_the_base_is_always_among_them() -> None:
    assert sweep((1.0,), guarded=True) == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert sweep((0.9, 0.3), guarded=True) == (0.0, 0.3, 0.9)
    assert sweep((1.0,), guarded=False) == (1.0,)
    assert sweep((0.9, 0.3), guarded=False) == (0.9, 0.3)


def test_the_report_shows_both_curves_a_table_and_what_was_kept() -> None:
    record = {
        "summary": {"alpha": 0.5, "alpha_chosen_on": "what <b>was</b> asked"},
        "alphas": [
            {"alpha": alpha, "dev_loss": 1 - alpha / 2, "dev_ndcg": 0.5, "guards": {"<b>far": 0.7 - alpha / 10},
             "allowed": alpha <= 0.5}
            for alpha in (0.0, 0.5, 1.0)
        ],
    }  # fmt: skip
    one = shown(record)
    assert one.count("<svg") == 2
    assert "nDCG@10 on &lt;b&gt;far, a guard set, against alpha" in one
    assert "<b>" not in one
    cells = ["0.5", "0.7500", "0.5000", "0.6500 (−5.0)", "kept"]
    assert all(f">{cell}</t" in one for cell in [*cells, "0.6000 (−10.0)", "loses too much"])
    told = markdown(replace(story(measured()), training=record))
    assert r"| 0.5 | 0.7500 | 0.5000 | 0.6500 \(−5.0\) | kept |" in told
    without = {"summary": {}, "alphas": [{"alpha": alpha, "dev_loss": alpha} for alpha in (0.0, 1.0)]}
    sides = (Findings({}, "a", training=record), Findings({}, "b", training=without))
    both = shown({}, sides=sides, names=("one", "two"))
    assert both.count("<svg") == 2
    assert both.count("<caption>What each alpha came to") == 2


FIGURES = st.floats(0, 1).map(lambda value: round(value, 2))


@given(st.lists(st.tuples(FIGURES, FIGURES, FIGURES), min_size=1, max_size=6), FIGURES, st.booleans())
def test_what_is_kept_is_the_best_of_what_no_guard_set_forbids(
    found: Sequence[tuple[float, float, float]], most: float, dev: bool
) -> None:
    nan = float("nan")
    curve = [Point(at / 5, bad if dev else nan, {}, {"a": a, "b": b}) for at, (bad, a, b) in enumerate(found)]
    kept = choose(curve, most)
    # In whole hundredths, as they are written.
    allowed = [
        at for at, (_, a, b) in enumerate(found)
        if round(100 * (found[0][1] - a)) <= round(100 * most) and round(100 * (found[0][2] - b)) <= round(100 * most)
    ]  # fmt: skip
    best = min(allowed, key=lambda at: (found[at][0], at)) if dev else allowed[-1]
    assert kept.alpha == best / 5
