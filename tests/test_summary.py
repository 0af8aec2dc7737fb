"""metrics.json from per-query values: which set it rests on, groups of queries, the ceiling."""

import numpy as np
import pytest

from hone.evaluation.metrics import MEASURES, PRIMARY
from hone.evaluation.query_groups import grouped, length_of, style_of
from hone.evaluation.summary import Draws, Measured, Role, Values, summarise
from hone.report.findings import headline

DRAWS = Draws(permutations=500, resamples=200, seed=1)
TEXTS = ["how do I bake bread", "bread oven", "bread rises slowly in a cold kitchen over night", "join threads?"]


def values(base: float, tuned: float, teacher: list[float]) -> Values:
    systems = {"base": np.full(4, base), "tuned": np.full(4, tuned), "teacher": np.array(teacher)}
    return {system: dict.fromkeys(MEASURES, column) for system, column in systems.items()}


def measured(name: str, role: Role, tuned: float = 0.6) -> Measured:
    return Measured(name, role, False, TEXTS, values(0.5, tuned, [0.9, np.nan, 0.7, np.nan]))


def test_the_finding_rests_on_the_first_in_domain_set() -> None:
    sets = [measured("guard", "guard"), measured("dev", "dev"), measured("one", "domain", 0.7)]
    metrics = summarise([*sets, measured("two", "domain")], {}, DRAWS)
    assert (metrics["split"], metrics["delta"][PRIMARY]) == ("one", pytest.approx(0.2))
    assert summarise(sets[:2], {}, DRAWS)["split"] == "dev"
    assert summarise([], {}, DRAWS)["queries"] == 0


def test_a_system_that_was_asked_some_queries_only_is_the_ceiling_on_those_and_no_mean_of_all() -> None:
    found = summarise([measured("one", "domain")], {}, DRAWS)["sets"]["one"]
    assert set(found["systems"]) == {"base", "tuned"}
    assert found["ceiling"] == {
        "queries": 2, "of": 4, "base": 0.5, "tuned": pytest.approx(0.6), "teacher": pytest.approx(0.8),
        "gap_closed": pytest.approx(1 / 3),
    }  # fmt: skip


def with_bm25(bm25: float, fused: float, tuned_fused: float) -> Measured:
    systems = {"bm25": bm25, "base+bm25": fused, "tuned+bm25": tuned_fused}
    more = {name: dict.fromkeys(MEASURES, np.full(4, value)) for name, value in systems.items()}
    return Measured("one", "domain", False, TEXTS, {**values(0.5, 0.6, [0.9] * 4), **more})


def test_the_best_that_needs_no_training_is_named_with_what_training_adds_to_hybrid_search() -> None:
    found = summarise([with_bm25(0.55, 0.7, 0.72)], {}, DRAWS)
    free = found["sets"]["one"]["free"]
    assert (found["delta"][PRIMARY], free["best"]) == (pytest.approx(0.1), "base+bm25")
    assert (free["delta"], free["hybrid"]["delta"]) == (pytest.approx(-0.1), pytest.approx(0.02))
    assert ", but base + BM25 has 0.700 without training; fused with BM25, tuned has 0.720 (+2.0, p = " in headline(
        found
    )


def test_hybrid_search_is_compared_before_and_after_as_users_search() -> None:
    found = summarise([with_bm25(0.55, 0.7, 0.68)], {}, DRAWS, "hybrid")
    assert (found["base"][PRIMARY], found["tuned"][PRIMARY]) == (pytest.approx(0.7), pytest.approx(0.68))
    assert "hybrid" not in found["sets"]["one"]["free"]
    lexical = headline(summarise([with_bm25(0.75, 0.7, 0.72)], {}, DRAWS, "hybrid"))
    assert lexical.endswith(", but BM25 has 0.750 without training")


def test_every_query_is_in_one_group_of_each_kind() -> None:
    assert grouped(TEXTS, "style") == {"keywords": [1], "question": [0, 3], "sentence": [2]}
    assert list(grouped(TEXTS, "length")) == ["1 to 3 words", "4 to 7 words", "8 to 15 words"]
    groups = summarise([measured("one", "domain")], {}, DRAWS)["sets"]["one"]["groups"]
    assert [sum(row["queries"] for row in rows) for rows in groups.values()] == [4, 4]


@pytest.mark.parametrize(
    ("text", "style", "length"),
    [
        ("", "keywords", "1 to 3 words"),
        ("Is it safe", "question", "1 to 3 words"),
        ("sort list by key", "keywords", "4 to 7 words"),
        ("a " * 15, "sentence", "8 to 15 words"),
        ("a " * 16, "sentence", "16 words or more"),
    ],
)
def test_style_and_length_are_told_from_the_text(text: str, style: str, length: str) -> None:
    assert (style_of(text), length_of(text)) == (style, length)
