"""metrics.json from per-query values: which set it rests on, groups of queries, the ceiling."""

import numpy as np
import pytest

from hone.evaluation.metrics import MEASURES, PRIMARY
from hone.evaluation.query_groups import grouped, length_of, style_of
from hone.evaluation.summary import Draws, Measured, Role, Values, summarise

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
        "queries": 2, "base": 0.5, "tuned": pytest.approx(0.6), "teacher": pytest.approx(0.8),
        "gap_closed": pytest.approx(1 / 3),
    }  # fmt: skip


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
