"""The rules by which scored lists become training lists. Source: arXiv 2502.19712, section 3, and its scripts."""

import hashlib
from collections.abc import Sequence

import numpy as np


def source_is_first(source: str, doc_ids: Sequence[str]) -> bool:
    """Whether the teacher ranks a query's source document first; queries from a log have none and pass."""
    return not source or (len(doc_ids) > 0 and doc_ids[0] == source)


def bounds(scores: np.ndarray, low: float, middle: float, high: float) -> tuple[float, float, float]:
    """Three percentiles over all scores of the kept queries of a style."""
    cut = np.percentile(scores, [low, middle, high])
    return float(cut[0]), float(cut[1]), float(cut[2])


def min_max(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scores to [0, 1]: min-max between two bounds, clipped."""
    return np.clip((scores - low) / max(high - low, 1e-9), 0.0, 1.0).astype(np.float32)


def shifted(scores: np.ndarray) -> np.ndarray:
    """Raw scores [n] less the least of them: not below 0, and the same to a loss of softmaxes or of differences."""
    return (scores - (scores.min() if len(scores) else 0.0)).astype(np.float32)


def likely(scores: np.ndarray, margin: float) -> np.ndarray:
    """Positions of what scores more than `margin` times what the positive, which is the first, scores.

    Scores [n], best first and not below 0. These documents are probably answers too: they are not negatives.
    """
    return np.flatnonzero((np.arange(len(scores)) > 0) & (scores > margin * scores[:1]))


def stratified(scores: np.ndarray, size: int) -> np.ndarray:
    """`size` positions spread over the range of scores [n], best first: ascending, the first among them.

    The range is divided into `size` strata of equal width; the best of each is taken, then the best of the rest.
    """
    if len(scores) <= size:
        return np.arange(len(scores))
    width = max(float(scores[0]) - float(scores[-1]), 1e-9) / size
    stratum = np.minimum((float(scores[0]) - scores.astype(np.float64)) // width, size - 1)
    best = np.unique(stratum, return_index=True)[1]
    rest = np.setdiff1d(np.arange(len(scores)), best)
    return np.sort(np.concatenate([best, rest[: size - len(best)]]))


def split_of(group: str, seed: int, dev_share: float) -> str:
    """train or dev, by a hash of the source document: all queries of one document are on one side."""
    digest = hashlib.blake2b(f"{seed}\0{group}".encode(), digest_size=8).digest()
    return "dev" if int.from_bytes(digest, "big") < dev_share * 2**64 else "train"
