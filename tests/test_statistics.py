"""The test of significance says what it promises: measured on simulated data whose truth is known."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hone.evaluation.statistics import (
    ALPHA,
    bootstrap_interval,
    compare,
    gap_closed,
    holm,
    minimal_detectable_effect,
    randomisation_test,
)

DIFFERENCES = st.lists(st.integers(-10, 10), min_size=1, max_size=8).map(lambda values: np.array(values) / 10)


def exact_test(differences: np.ndarray) -> float:
    """The p-value over every assignment of signs."""
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    return float(np.mean([total >= abs(differences.sum()) - 1e-9 for total in sums]))


@settings(deadline=None)
@given(DIFFERENCES, st.integers(0, 1000))
def test_the_p_value_approaches_that_of_all_assignments_of_signs(differences: np.ndarray, seed: int) -> None:
    assert randomisation_test(differences, 10_000, seed) == pytest.approx(exact_test(differences), abs=0.025)


def test_the_p_value_is_that_of_signs_drawn_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hone.evaluation.statistics.NUMBERS_AT_ONCE", 70)
    differences = nulls(1, 37)[0]
    moving = [value for value in differences if value]
    random, extreme, left = np.random.default_rng(3), 0, 150
    while left:
        drawn = [random.bytes(min(70, left)) for _ in range(0, len(moving), 8)]
        for draw in range(min(70, left)):
            bits = "".join(f"{byte[draw]:08b}" for byte in drawn)
            total = sum(value if bit == "1" else -value for value, bit in zip(moving, bits, strict=False))
            extreme += abs(total) >= abs(sum(moving)) - 1e-12
        left -= min(70, left)
    assert randomisation_test(differences, 150, 3) == (extreme + 1) / 151


def nulls(count: int, queries: int) -> np.ndarray:
    """Differences of two systems that are equally good, shaped like those of nDCG: many zeros, a few large."""
    random = np.random.default_rng(5)
    return random.laplace(0, 0.15, (count, queries)) * (random.random((count, queries)) < 0.6)


def stepped_nulls(count: int, queries: int) -> np.ndarray:
    """Two equally good systems, each with its one relevant document at a random rank: differences of MRR@10."""
    ranks = np.random.default_rng(6).integers(1, 21, (2, count, queries))
    one, other = np.where(ranks <= 10, 1 / ranks, 0)
    return one - other


@pytest.mark.parametrize("shape", [nulls, stepped_nulls])
def test_equally_good_systems_are_told_apart_in_five_of_a_hundred_cases(
    shape: Callable[[int, int], np.ndarray],
) -> None:
    base = np.full(60, 0.5)
    found = [compare(base, base + row, permutations=500, resamples=1, seed=n) for n, row in enumerate(shape(2_000, 60))]
    assert np.mean([one.p_value <= ALPHA for one in found]) == pytest.approx(0.05, abs=0.015)


def test_the_interval_covers_the_truth_in_about_ninety_five_of_a_hundred_cases() -> None:
    intervals = [bootstrap_interval(row + 0.02, 500, seed) for seed, row in enumerate(nulls(1_000, 80))]
    assert np.mean([low <= 0.02 <= high for low, high in intervals]) == pytest.approx(0.95, abs=0.025)


def test_the_minimal_detectable_effect_is_found_four_times_out_of_five() -> None:
    samples = nulls(1_000, 80)
    effect = float(np.mean([minimal_detectable_effect(row) for row in samples]))
    found = [randomisation_test(row + effect, 500, seed) < ALPHA for seed, row in enumerate(samples)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)


def test_no_difference_at_all_has_a_p_value_of_one() -> None:
    assert randomisation_test(np.zeros(20), 1_000, 0) == 1.0


def test_a_p_value_is_never_zero() -> None:
    assert randomisation_test(np.ones(200), 1_000, 0) == pytest.approx(1 / 1001)


def test_the_test_is_two_sided_and_seeded() -> None:
    differences = nulls(1, 50)[0] + 0.03
    assert randomisation_test(differences, 1_000, 3) == randomisation_test(-differences, 1_000, 3)
    assert bootstrap_interval(differences, 1_000, 3) == bootstrap_interval(differences, 1_000, 3)
    assert bootstrap_interval(differences, 1_000, 3) != bootstrap_interval(differences, 1_000, 4)


def test_blocks_change_memory_and_not_the_size_of_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hone.evaluation.statistics.NUMBERS_AT_ONCE", 7)
    assert randomisation_test(np.ones(3), 1_000, 0) == pytest.approx(0.25, abs=0.05)
    low, high = bootstrap_interval(np.ones(3), 10, 0)
    assert low == high == 1


def test_a_single_query_detects_nothing() -> None:
    assert minimal_detectable_effect(np.array([0.4])) == math.inf


def test_a_comparison_holds_means_difference_interval_and_p_value() -> None:
    base = np.linspace(0, 0.8, 40)
    found = compare(base, base + 0.1, permutations=1_000, resamples=100, seed=0)
    assert found.tuned - found.base == pytest.approx(found.delta) == pytest.approx(0.1)
    assert found.ci95 == (pytest.approx(0.1), pytest.approx(0.1))
    assert found.p_value < 0.01


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_exactly_what_stepping_down_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    rejected = set[int]()
    for place, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        if p_values[at] * (len(p_values) - place) > ALPHA:
            break
        rejected.add(at)
    assert {at for at, value in enumerate(adjusted) if value <= ALPHA} == rejected


def test_a_family_of_true_nulls_is_rejected_at_all_in_five_of_a_hundred_cases() -> None:
    families = np.random.default_rng(2).random((2_000, 6))
    assert np.mean([min(holm(row.tolist())) <= ALPHA for row in families]) == pytest.approx(0.05, abs=0.015)


def test_the_share_of_the_gap_that_is_closed() -> None:
    base, ceiling = np.array([0.2, 0.4]), np.array([0.6, 0.8])
    assert gap_closed(base, base + 0.1, ceiling) == pytest.approx(0.25)
    assert gap_closed(ceiling, ceiling, base) is None
