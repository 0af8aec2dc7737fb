"""Ablation and saturation: what runs, what is found again, and what is said."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import chain
from hone.engine import ablation
from hone.errors import UserError
from hone.evaluation.saturation import fit
from hone.report.ablation import ablation_markdown, ablation_page, saturation_page, sentence
from hone.stages import distill
from hone.storage.local import LocalStore

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ablation.Study:
    home = chain.home(tmp_path_factory.mktemp("study"), docs=60)
    path = chain.settings_file(home, "study", generate={"extractive": {"styles": {"search": 1, "span": 1}}})
    return ablation.load(path, LocalStore(home / "store"))


def test_variants_run_what_differs_and_the_table_compares_each_with_the_recipe(study: ablation.Study) -> None:
    told: list[str] = []
    found = ablation.ablate(study, ["loss", "queries"], [17, 18], 1, study.base / "out", told.append)
    names = [row.name for row in found.rows]
    assert names[:2] == ["full recipe", "listwise alone"]
    assert {"style search alone", "style span alone"} <= set(names)
    people = next(row for row in found.rows if row.name.startswith("people's"))
    synthetic = next(row for row in found.rows if row.name.startswith("as many"))
    assert people.lists == synthetic.lists > 0
    alone = next(row for row in found.rows if row.name == "InfoNCE alone")
    assert (len(alone.gains), alone.changes.startswith("distill.loss.kl_weight: 0")) == (2, True)
    # What the recipe itself is: nothing is run for it, and nothing differs.
    same = next(row for row in found.rows if row.name == "listwise + 0.1 InfoNCE")
    assert (same.against.delta if same.against else None, same.seconds) == (0.0, 0.0)
    assert "| loss | InfoNCE alone |" in ablation_markdown(found)
    assert "whisker" in ablation_page(found)
    distilled = len(list((study.base / "store/distill").iterdir()))
    assert ablation.ablate(study, ["loss", "queries"], [17, 18], 1, study.base / "out", told.append) == found
    assert len(list((study.base / "store/distill").iterdir())) == distilled


def test_people_s_queries_are_found_however_the_collection_lies(study: ablation.Study, tmp_path: Path) -> None:
    queries = study.base / "corpus/queries.jsonl"
    rows = [json.loads(line) for line in queries.read_text("utf-8").splitlines()]
    with (study.base / "corpus/queries.tsv").open("w", encoding="utf-8") as table:
        table.writelines(f"{row['_id']}\t{row['text']}\n" for row in rows)
    queries.rename(tmp_path / "kept")
    try:
        found = ablation.of_queries(study, 17, tmp_path, lambda line: None)
    finally:
        (tmp_path / "kept").rename(queries)
        (study.base / "corpus/queries.tsv").unlink()
    assert any(variant.name.startswith("people's queries") for variant in found)
    assert (tmp_path / "dev-queries.txt").read_text("utf-8").splitlines()


def test_a_spent_budget_leaves_the_recipe_and_says_what_was_not_run(study: ablation.Study) -> None:
    found = ablation.ablate(study, ["loss"], [17], 0, study.base / "out", lambda line: None)
    assert found.rows[0].gains
    assert {row.note for row in found.rows[1:]} == {"not run: the budget was spent"}
    with pytest.raises(UserError, match="--over losses: no such group; choose from loss, queries"):
        ablation.ablate(study, ["losses"], [17], 1, study.base / "out", lambda line: None)


def test_a_saturation_study_says_what_twice_the_queries_would_bring(study: ablation.Study) -> None:
    found = ablation.saturate(study, [17], 3.6, 1, lambda line: None)
    curve = found.curves[0]
    assert [curve.axis for curve in found.curves] == ["queries", "documents"]
    assert [x for x, _ in curve.measured][-1] == curve.most
    assert sentence(curve).startswith(f"Twice the queries ({2 * curve.most:,} instead of {curve.most:,}) would bring ")
    assert "polyline" in saturation_page(found)
    assert sentence(replace(curve, price=0.004)).endswith(", at a price of less than 0.01.")
    assert sentence(replace(curve, price=12.5)).endswith(", at a price of 12.50.")


def test_the_curve_finds_what_the_points_were_made_from() -> None:
    counts = np.array([100.0, 200.0, 400.0, 800.0])
    gains = 0.04 * counts / (counts + 400)
    assert fit(counts, gains[None], np.array([1600.0]))[0] == pytest.approx([0.032], abs=2e-4)


def test_every_variant_is_a_valid_recipe(study: ablation.Study) -> None:
    for variant in ablation.VARIANTS:
        changed = study.checked(variant.overlay, 17)
        assert changed.stages, yaml.safe_dump(dict(variant.overlay))


def test_no_teacher_to_compare_with_keeps_the_encoders_of_the_recipe(study: ablation.Study) -> None:
    names = [variant.name for variant in ablation.of_groups(study, ["teacher"], 17)]
    student = study.checked({}, 17).stages["distill"].student.model
    with_encoder = replace(study, data={**study.data, "teacher": {"kind": "fusion", "encoders": [{"model": student}]}})
    variants = ablation.of_groups(with_encoder, ["teacher"], 17)
    assert [variant.name for variant in variants] == ["the further encoders alone", *names]
    teachers = [with_encoder.checked(variant.overlay, 17).stages["score"].teacher for variant in variants]
    assert [len(teacher.encoders) for teacher in teachers] == [1, *[0] * len(names)]
    assert (teachers[0].lexical_weight, teachers[0].encoder_weight, teachers[0].choices) == (0, 1, ())


def test_a_loss_is_exchanged_in_both_trainings_where_the_recipe_has_two(study: ablation.Study) -> None:
    twice = replace(study, data={**study.data, "preset": "cpu-long"})
    variants = {variant.name: variant for variant in ablation.of_groups(twice, ["loss", "negatives"], 17)}
    for name, mined in {"InfoNCE alone": 200, "InfoNCE, negatives of the batch only": 1}.items():
        trained = twice.checked(variants[name].overlay, 17).stages["distill"]
        assert isinstance(trained, distill.Config)
        assert trained.first
        assert {loss.kl_weight for loss in (trained.loss, trained.first.loss)} == {0}
        assert {loss.infonce_weight for loss in (trained.loss, trained.first.loss)} == {1}
        assert trained.first.list_size == mined
    assert "first" not in variants["mined by the student alone"].overlay.get("distill", {})
    once = ablation.of_groups(study, ["loss"], 17)
    assert not any("first" in variant.overlay["distill"] for variant in once)
