"""Exact nearest neighbours by blocked matrix products: any device, bounded memory."""

import numpy as np
import torch
from torch import Tensor

QUERY_BLOCK = 1_024
DOC_BLOCK = 65_536


def top_k(
    queries: np.ndarray, docs: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k documents of largest inner product for every query, best first, ties by position.

    queries [q, d] float32 and docs [n, d] float32 (may be memory-mapped) to positions [q, k] int64 and scores [q, k]
    float32. Only documents where `allowed` [n] bool is true are found; k shrinks to as many as there are.
    """
    k = min(k, len(docs) if allowed is None else int(allowed.sum()))
    positions = np.zeros((len(queries), k), dtype=np.int64)
    scores = np.zeros((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries) if k else 0, QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
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
        positions, scores = _best(
            np.concatenate([positions, near + start], axis=1), np.concatenate([scores, values], axis=1), k
        )
    return positions, scores


def _block_top(products: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns of every row [q, b]; of those that tie with the k-th, the leftmost."""
    best, columns = torch.topk(products, min(k, products.shape[1]), dim=1)
    edge = best[:, -1:]
    crowded = ((products >= edge).sum(1) > best.shape[1]).nonzero()[:, 0].tolist()
    positions, scores = columns.cpu().numpy(), best.cpu().numpy()
    # Which of several equals topk returns depends on the device: position has to break the tie.
    for row in crowded:
        tied = (products[row] >= edge[row]).nonzero()[:, 0]
        positions[row], scores[row] = _best(tied.cpu().numpy(), products[row, tied].cpu().numpy(), best.shape[1])
    return positions, scores


def _best(positions: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((positions, -scores), axis=-1)[..., :k]
    return np.take_along_axis(positions, order, -1), np.take_along_axis(scores, order, -1)


def _tensor(values: np.ndarray) -> Tensor:
    # A copy where memory is read-only: torch cannot wrap it.
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))
