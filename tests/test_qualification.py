"""Whether a teacher is better than the student, told from its scores alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hone.evaluation.qualification import best_choice, cross_fitted, flaw_of, qualify

LISTS = [["a", "b", "c"], ["c", "a", "b"], ["b", "c", "a"], ["a", "c", "b"]]
RELEVANT = [{"c": 1}, {"b": 1}, {"a": 1}, {"b": 1}]
GOOD = [np.array([0.1, 0.2, 0.9]), np.array([0.1, 0.3, 0.7]), np.array([0.3, 0.2, 0.8]), np.array([0.0, 0.4, 0.5])]


def verdict(scores: list[np.ndarray]) -> tuple[bool, str]:
    found = qualify("human", LISTS, scores, RELEVANT)
    return found.qualified, found.reason


def test_a_teacher_that_ranks_better_than_the_student_qualifies() -> None:
    assert verdict(GOOD) == (True, "")


def test_reversed_scores_are_told_from_bad_ones() -> None:
    qualified, reason = verdict([-part for part in GOOD])
    assert not qualified
    assert "reversed: lowest first it reaches 1.0000" in reason
    second = [np.array([0.5, 0.6 + n / 100, 0.4 - n / 100]) for n in range(4)]
    found = qualify("human", LISTS, second, [{ids[0]: 1} for ids in LISTS])
    assert not found.qualified
    assert found.reason == "its nDCG@10 of 0.6309 is not above the student's 1.0000"


@pytest.mark.parametrize(
    ("scores", "phrase"),
    [
        ([np.array([0.5, 0.5, 0.5])] * 4, "one and the same score to all documents of 4 of 4"),
        ([GOOD[0], GOOD[1], GOOD[2], np.array([np.nan, 0.4, 0.5])], "1 of its 12 scores are not finite"),
        ([np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.5]), np.array([0.0, 0.2, 1.0])], "saturated: 7 of its 9"),
        ([np.array([0.0, 1e-9, 1.0])] * 3, "saturated: 9 of its 9 scores are 0 or 1"),
        ([], "scored nothing"),
    ],
)
def test_scores_that_cannot_teach_are_named(scores: list[np.ndarray], phrase: str) -> None:
    assert phrase in flaw_of(scores)


def test_the_best_of_many_equal_choices_is_not_taken_for_better_than_they_are() -> None:
    choices = np.random.default_rng(17).random((50, 400))
    assert choices.mean(axis=1).max() > 0.52
    assert cross_fitted(choices).mean() < 0.51


@given(arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 4)), st.data())
def test_no_query_has_a_say_in_what_it_is_measured_with(choices: np.ndarray, data: st.DataObject) -> None:
    query = data.draw(st.integers(0, choices.shape[1] - 1))
    values = np.arange(len(choices)) / len(choices)

    def measured(own: np.ndarray) -> float:
        changed = choices.copy()
        changed[:, query] = own
        return float(cross_fitted(changed)[query])

    # Only if the same choices are made whatever its own values are do values and their opposites add up.
    assert measured(values) + measured(1 - values) == pytest.approx(1)


def test_a_choice_that_is_better_by_chance_does_not_qualify() -> None:
    found = qualify("human", LISTS, GOOD, RELEVANT, unseen=np.array([0.1, 0.2, 0.3, 0.2]))
    assert not found.qualified
    assert found.reason.endswith("on queries that had no part in choosing it")
    assert found.teacher == 0.2


def test_a_teacher_that_may_be_better_by_chance_qualifies_with_a_caution() -> None:
    few = qualify("human", LISTS, GOOD, RELEVANT, caution="so it is")
    assert few.qualified
    assert few.p_value == pytest.approx(2 / 2**4, abs=0.02)
    assert few.caution == "so it is; that it is better on 4 queries may be chance (p = 0.13): judge more"
    many = qualify("human", LISTS * 4, GOOD * 4, RELEVANT * 4)
    assert many.qualified
    assert not many.caution
    assert many.p_value < 0.001


def test_of_choices_that_queries_cannot_tell_apart_the_one_with_most_that_the_student_does_not_know_is_taken() -> None:
    random = np.random.default_rng(17)
    own = random.random(200)
    noise = random.standard_normal((4, 200))
    noise -= noise.mean(axis=1, keepdims=True)
    choices = own + 0.001 * noise + np.array([[0.0], [0.00005], [-0.00003], [-0.01]])
    assert best_choice(choices) == 1
    assert best_choice(choices, np.array([0.5, 0.5, 1.0, 1.0])) == 2  # the last is worse beyond doubt
    assert best_choice(choices, np.array([0.5, 0.5, 0.5, 0.5])) == 0  # none knows more: the first that is named
    assert cross_fitted(choices, np.array([0.5, 0.5, 1.0, 1.0])).mean() == pytest.approx(choices[2].mean(), abs=5e-5)


@given(arrays(float, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 4)))
def test_a_choice_that_is_taken_for_what_it_knows_is_within_a_standard_error_of_the_best(choices: np.ndarray) -> None:
    taken = choices[best_choice(choices, np.arange(len(choices)))]
    best = choices[best_choice(choices)]
    assert best.mean() - taken.mean() <= (best - taken).std() / math.sqrt(len(best)) + 1e-12
