"""The best of scored positions, best first and ties by position; without torch, for `hone search`."""

import numpy as np


def best(positions: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k of largest score in each row of both, best first, ties by position."""
    order = np.lexsort((positions, -scores), axis=-1)[..., :k]
    return np.take_along_axis(positions, order, -1), np.take_along_axis(scores, order, -1)


def best_of(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions and scores of the k largest of one long row [n], best first, ties by position; all if there are fewer.

    Only what reaches the k-th is sorted.
    """
    k = min(k, len(scores))
    near = np.flatnonzero(scores >= np.partition(scores, -k)[-k]) if k else np.zeros(0, np.int64)
    return best(near, scores[near], k)
