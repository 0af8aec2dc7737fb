"""Nearest neighbours by FAISS, with the contract of `hone.backends.search.exact`; on GPUs where FAISS can."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from hone.backends.search.best import best
from hone.backends.search.exact import top_k
from hone.backends.search.settings import Search
from hone.errors import UserError

ADDED_AT_ONCE = 65_536
TRAINED_PER_LIST = 64
ROUNDS = 10


class Flat:
    """Exact: every document is compared. Holds a copy of the vectors, 4 bytes a dimension."""

    def __init__(self, docs: np.ndarray, allowed: np.ndarray, settings: Search) -> None:
        """docs [n, d] float32, may be memory-mapped; only those where `allowed` [n] bool is true are found."""
        self.docs, self.allowed, self.settings = docs, allowed, settings
        self.places = np.flatnonzero(allowed)
        self.index = on_gpus(self.made(faiss()))
        for start in range(0, len(self.places), ADDED_AT_ONCE):
            self.index.add(self._vectors(self.places[start : start + ADDED_AT_ONCE]))

    def made(self, library: Any) -> Any:
        """The empty index."""
        return library.IndexFlatIP(self.docs.shape[1])

    def top_k(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As `hone.backends.search.exact.Torch.top_k`."""
        k = min(k, len(self.places))
        positions, scores = np.zeros((len(queries), k), np.int64), np.zeros((len(queries), k), np.float32)
        for start in range(0, len(queries) if k else 0, self.settings.queries_at_once):
            rows = slice(start, start + self.settings.queries_at_once)
            positions[rows], scores[rows] = self._search(queries[rows], k)
        return positions, scores

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = self.index.search(np.ascontiguousarray(queries, np.float32), min(k + 1, len(self.places)))
        unsure = self.unsure(rows, scores, k)
        positions, scores = best(self.places[rows], scores, k)
        if unsure.any():
            positions[unsure], scores[unsure] = top_k(queries[unsure], self.docs, k, self.allowed)
        return positions, scores

    def unsure(self, rows: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
        """[q] bool: the queries whose last document ties with the next, of which FAISS returns any."""
        return scores[:, k - 1] == scores[:, -1] if scores.shape[1] > k else np.zeros(len(scores), dtype=bool)

    def _vectors(self, places: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.docs[places], np.float32)


class IVF(Flat):
    """Approximate: documents are grouped around centres, and only the groups nearest to a query are compared."""

    def made(self, library: Any) -> Any:
        count, dimension = max(1, len(self.places)), self.docs.shape[1]
        lists = min(self.settings.lists or round(4 * count**0.5), count)
        index = library.IndexIVFFlat(library.IndexFlatIP(dimension), dimension, lists, library.METRIC_INNER_PRODUCT)
        index.nprobe, index.cp.niter = min(self.settings.probes, lists), ROUNDS
        index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 1, TRAINED_PER_LIST
        drawn = np.random.default_rng(0).permutation(self.places)[: lists * TRAINED_PER_LIST]
        if len(drawn):
            index.train(self._vectors(np.sort(drawn)))
        return index

    def unsure(self, rows: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
        """[q] bool: the queries whose groups hold fewer than k documents; they are searched for exactly."""
        return np.any(rows[:, :k] < 0, axis=1)


def write_flat(vectors: np.ndarray, path: Path) -> None:
    """Writes an exact index of inner products over [n, d] vectors, which are found by their position."""
    library = faiss()
    index = library.IndexFlatIP(vectors.shape[1])
    for start in range(0, len(vectors), ADDED_AT_ONCE):
        index.add(np.ascontiguousarray(vectors[start : start + ADDED_AT_ONCE], np.float32))
    library.write_index(index, str(path))


def faiss() -> Any:
    """The library. Raises UserError if it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ModuleNotFoundError:
        raise UserError(
            "FAISS is not installed: install faiss-cpu or faiss-gpu, or set mine.search.kind: torch"
        ) from None


def on_gpus(index: Any) -> Any:
    """The index on all GPUs, a copy on each, if FAISS is built for GPUs and there are any."""
    library = faiss()
    there = library.get_num_gpus() if hasattr(library, "StandardGpuResources") else 0
    return library.index_cpu_to_all_gpus(index) if there else index
