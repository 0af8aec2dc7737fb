"""Is a difference between two systems more than chance? Paired over queries, without assuming a distribution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

ALPHA = 0.05
POWER = 0.8
NUMBERS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Comparison:
    """Means of two systems over the same queries, and how sure their difference is."""

    base: float
    tuned: float
    delta: float
    ci95: tuple[float, float]
    p_value: float


def compare(base: np.ndarray, tuned: np.ndarray, *, permutations: int, resamples: int, seed: int) -> Comparison:
    """Compares the values [q] of one measure, query by query; q is at least 1."""
    differences = tuned - base
    return Comparison(
        base=float(base.mean()),
        tuned=float(tuned.mean()),
        delta=float(differences.mean()),
        ci95=bootstrap_interval(differences, resamples, seed),
        p_value=randomisation_test(differences, permutations, seed),
    )


def randomisation_test(differences: np.ndarray, permutations: int, seed: int) -> float:
    """Two-sided p-value of paired differences [q]: how often flipping signs at random gives a mean as far from 0.

    Source: Fisher's randomisation test as in Smucker, Allan, Carterette, CIKM 2007; the observed assignment is counted
    among the random ones, so that the value is never 0 (Phipson and Smyth, 2010).
    """
    # A difference of 0 is the same under either sign.
    moving = differences[differences != 0].astype(np.float64)
    # Sums of the same numbers in another order differ in their last bits.
    observed = abs(moving.sum()) - 1e-12 * abs(moving).sum()
    sums, random = _signed_sums(moving), np.random.default_rng(seed)
    extreme = 0
    for rows in _blocks(permutations, 1):
        totals = np.zeros(rows)
        for of_eight in sums:
            totals += of_eight[np.frombuffer(random.bytes(rows), dtype=np.uint8)]
        extreme += int((abs(totals) >= observed).sum())
    return (extreme + 1) / (permutations + 1)


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """The sums of every eight values under all their signs, [ceil(q / 8), 256]: one random byte picks one of them."""
    eights = np.pad(values, (0, -len(values) % 8)).reshape(-1, 8)
    signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1.0
    return eights @ signs.T


def bootstrap_interval(differences: np.ndarray, resamples: int, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean of differences [q] (Efron and Tibshirani, 1993, chapter 13)."""
    random = np.random.default_rng(seed)
    means = [
        differences[random.integers(0, len(differences), (rows, len(differences)))].mean(axis=1)
        for rows in _blocks(resamples, len(differences))
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def minimal_detectable_effect(differences: np.ndarray) -> float:
    """The true mean difference that a test at 5% on so many queries would find four times out of five.

    (z(1 - alpha/2) + z(power)) sd / sqrt(q), after Bloom, Evaluation Review 1995; infinite for a single query.
    """
    if len(differences) < 2:
        return math.inf
    factor = NormalDist().inv_cdf(1 - ALPHA / 2) + NormalDist().inv_cdf(POWER)
    return factor * float(differences.std(ddof=1)) / math.sqrt(len(differences))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several: rejecting those up to 5% errs on any of them in at most 5 of 100 cases.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for place, at in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[at]))
        adjusted[at] = highest
    return adjusted


def gap_closed(base: np.ndarray, tuned: np.ndarray, ceiling: np.ndarray) -> float | None:
    """Share of the way from base to ceiling that tuned has gone, from means over the same queries [q].

    None where the ceiling is not above the base: there is no way to go.
    """
    gap = float(ceiling.mean() - base.mean())
    return float(tuned.mean() - base.mean()) / gap if gap > 0 else None


def _blocks(total: int, width: int) -> list[int]:
    """Row counts that add up to `total`, each block holding a bounded number of numbers."""
    rows = max(1, NUMBERS_AT_ONCE // max(1, width))
    return [min(rows, total - start) for start in range(0, total, rows)]
