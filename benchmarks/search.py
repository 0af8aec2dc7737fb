"""Nearest neighbours over corpora of growing size: rate, memory, and what an approximate search finds.

    OMP_NUM_THREADS=1 python benchmarks/search.py 10000 100000 1000000 [--queries 512] [--kinds torch faiss_flat]

Vectors of 768 dimensions lie in groups of 200 and are read from a memory-mapped file; every search runs in a process
of its own. Memory is what the process allocates (RssAnon, sampled), less what it had before: pages of the mapped file,
which the system may take back, do not count. Seconds are processor time, since the machine may be busy. Recall is the
share of the exact top 100.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

DIMENSION, TOP = 768, 100
DOCS_PER_GROUP = 200
WRITTEN_AT_ONCE = 16_384


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--kinds", nargs="*", default=["torch", "faiss_flat", "faiss_ivf"])
    options = parser.parse_args()
    print(f"{'docs':>10} {'search':<10} {'build s':>8} {'search s':>9} {'million pairs/s':>16} {'MB':>8} {'recall':>7}")
    with tempfile.TemporaryDirectory(prefix="hone-search-") as folder:
        for size in options.sizes:
            centres = np.random.default_rng(0).normal(size=(size // DOCS_PER_GROUP, DIMENSION)).astype(np.float32)
            write(Path(folder) / "queries.npy", options.queries, centres, 1)
            write(Path(folder) / "docs.npy", size, centres, 2)
            for kind in options.kinds:
                row = measured(Path(folder), kind, size)
                print(
                    f"{size:>10,} {kind:<10} {row['build']:>8.1f} {row['search']:>9.1f} "
                    f"{size * options.queries / row['search'] / 1e6:>16.1f} {row['mb']:>8,.0f} {row['recall']:>7.3f}",
                    flush=True,
                )


def write(path: Path, count: int, centres: np.ndarray, seed: int) -> None:
    """[count, 768] float32 unit vectors around centres [g, 768]."""
    random = np.random.default_rng(seed)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIMENSION))
    for start in range(0, count, WRITTEN_AT_ONCE):
        size = min(WRITTEN_AT_ONCE, count - start)
        noise = random.normal(size=(size, DIMENSION)).astype(np.float32)
        block = centres[random.integers(0, len(centres), size)] + noise
        vectors[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    vectors.flush()


def measured(folder: Path, kind: str, size: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(folder), kind, str(size)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    truth = folder / f"exact-{size}.npy"
    positions = np.load(folder / "found.npy")
    if not truth.exists():
        np.save(truth, positions)
    hits = [len({*row} & {*true}) for row, true in zip(positions.tolist(), np.load(truth).tolist(), strict=True)]
    return {**found, "recall": float(np.mean(hits)) / TOP}


def child(folder: Path, kind: str) -> None:
    from hone.backends import load
    from hone.backends.search.settings import Search

    docs, queries = (np.load(folder / f"{name}.npy", mmap_mode="r+") for name in ("docs", "queries"))
    make = load("search", kind)
    make(docs[:1_000], np.ones(1_000, dtype=bool), Search(kind=kind)).top_k(queries[:2], 2)  # imports and first calls
    before = allocated()
    with Peak() as peak:
        started = time.process_time()
        index = make(docs, np.ones(len(docs), dtype=bool), Search(kind=kind))
        built = time.process_time()
        positions, _ = index.top_k(queries, TOP)
        done = time.process_time()
    np.save(folder / "found.npy", positions)
    print(json.dumps({"build": built - started, "search": done - built, "mb": peak.most - before}))


class Peak:
    """The most memory that the process had allocated in a block, looked at every 20 ms."""

    def __enter__(self) -> "Peak":
        self.most, self._done = allocated(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, allocated())


def allocated() -> float:
    """Megabytes of memory that belong to the process alone."""
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0]) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3])
    else:
        main()
