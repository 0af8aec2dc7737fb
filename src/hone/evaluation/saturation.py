"""A curve of gain against the number of queries that flattens, and how sure it is."""

import numpy as np

GRID = 41
"""Points at which a curve is drawn, from none to twice as many; odd, so that one lies in the middle."""
RESAMPLES = 2_000
HALF_POINTS = np.geomspace(1e-2, 1e2, 200)
"""Where half of what can be gained is reached, as multiples of the largest number measured."""


def fit(counts: np.ndarray, gains: np.ndarray, at: np.ndarray) -> np.ndarray:
    """gain = G n / (n + h) by least squares: counts [p] and gains [r, p] to the curve [r, a] at `at`.

    It starts at 0, where nothing is learned, and flattens towards G; h is where half of G is reached. G has a closed
    form for each h of a grid.
    """
    halves = HALF_POINTS * counts.max()
    shapes = counts / (counts + halves[:, None])
    size = (shapes**2).sum(axis=1)
    tops = gains @ shapes.T / size
    errors = (gains**2).sum(axis=1)[:, None] - tops**2 * size
    best = errors.argmin(axis=1)
    top = np.take_along_axis(tops, best[:, None], 1)
    return top * at / (at + halves[best][:, None])


def resampled(gains: np.ndarray, seed: int) -> np.ndarray:
    """Gains [p, q] of every query to means [r, p] over queries drawn with replacement, the same ones for all points."""
    random, count = np.random.default_rng(seed), gains.shape[1]
    return np.stack([gains[:, random.integers(0, count, count)].mean(axis=1) for _ in range(RESAMPLES)])
