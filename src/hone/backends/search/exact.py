"""Exact nearest neighbours by blocked matrix products: any device, bounded memory."""

import numpy as np
import torch
from torch import Tensor

from hone.backends.search.best import best
from hone.backends.search.settings import Search
from hone.spent import COMPARISONS, growing

QUERY_BLOCK = 1_024
DOC_BLOCK = 65_536


class Torch:
    """The exact search over vectors that stay where they are, in memory or memory-mapped."""

    def __init__(self, docs: np.ndarray, allowed: np.ndarray, settings: Search) -> None:
        """docs [n, d] float32; only those where `allowed` [n] bool is true are found."""
        self.docs, self.allowed, self.settings = docs, allowed, settings

    def top_k(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """[q, d] float32 to positions [q, k] int64 and scores [q, k] float32, best first, ties by position.

        k shrinks to as many documents as there are.
        """
        return top_k(queries, self.docs, k, self.allowed, self.settings.queries_at_once)


@growing(COMPARISONS)
def top_k(
    queries: np.ndarray, docs: np.ndarray, k: int, allowed: np.ndarray | None = None, at_once: int = QUERY_BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    """The k documents of largest inner product for every query, best first, ties by position.

    queries [q, d] float32 and docs [n, d] float32 (may be memory-mapped) to positions [q, k] int64 and scores [q, k]
    float32. Only documents where `allowed` [n] bool is true are found; k shrinks to as many as there are.
    """
    k = min(k, len(docs) if allowed is None else int(allowed.sum()))
    positions = np.zeros((len(queries), k), dtype=np.int64)
    scores = np.zeros((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries) if k else 0, at_once):
        rows = slice(start, start + at_once)
        positions[rows], scores[rows] = _search(queries[rows], docs, k, allowed)
    return positions, scores


def _search(queries: np.ndarray, docs: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    query = _tensor(queries).to(device)
    positions = np.zeros((len(queries), 0), dtype=np.int64)
    scores = np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(docs), DOC_BLOCK):
        block = slice(start, start + DOC_BLOCK)
        products = query @ _tensor(docs[block]).to(device).T
        if allowed is not None:
            products[:, ~_tensor(allowed[block]).to(device)] = -torch.inf
        near, values = _block_top(products, k)
        positions, scores = best(
            np.concatenate([positions, near + start], axis=1), np.concatenate([scores, values], axis=1), k
        )
    return positions, scores


def _block_top(products: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns of every row [q, b]; of those that tie with the k-th, the leftmost."""
    k = min(k, products.shape[1])
    values, columns = torch.topk(products, min(k + 1, products.shape[1]), dim=1)
    edge, after = values[:, k - 1 : k], values[:, k:]
    # What is not allowed has -inf and ties with its like, but is in nobody's list.
    crowded = ((after == edge) & edge.isfinite()).nonzero()[:, 0].tolist()
    positions, scores = columns[:, :k].cpu().numpy(), values[:, :k].cpu().numpy()
    # Which of several equals topk returns depends on the device: position has to break the tie.
    for row in crowded:
        tied = (products[row] >= edge[row]).nonzero()[:, 0]
        positions[row], scores[row] = best(tied.cpu().numpy(), products[row, tied].cpu().numpy(), k)
    return positions, scores


def _tensor(values: np.ndarray) -> Tensor:
    # A copy where memory is read-only: torch cannot wrap it.
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))
