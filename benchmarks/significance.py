"""The paired randomisation test against scipy.stats.permutation_test: the same differences, in turn, in one process.

OMP_NUM_THREADS=1 python benchmarks/significance.py [--queries 300,1000,3000] [--permutations 100000] [--rounds 3]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import permutation_test

from hone.evaluation.statistics import bootstrap_interval, randomisation_test

SCIPY_AT_ONCE = 1_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", default="300,1000,3000")
    parser.add_argument("--permutations", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = Table("queries", "permutations", "ours s", "scipy s", "ratio", "p ours", "p scipy", "bootstrap 10,000 s")
    for queries in map(int, arguments.queries.split(",")):
        random = np.random.default_rng(queries)
        differences = random.laplace(0.3 / queries**0.5, 0.2, queries) * (random.random(queries) < 0.6)
        ours, theirs, samples = [], [], []
        for seed in range(arguments.rounds):
            ours.append(timed(randomisation_test, differences, arguments.permutations, seed))
            theirs.append(timed(scipy_test, differences, arguments.permutations, seed))
            samples.append(timed(bootstrap_interval, differences, 10_000, seed))
        seconds = [statistics.median(second for second, _ in runs) for runs in (ours, theirs, samples)]
        found.add_row(
            f"{queries:,}", f"{arguments.permutations:,}", f"{seconds[0]:.2f}", f"{seconds[1]:.2f}",
            f"{seconds[1] / seconds[0]:.1f}", f"{ours[0][1]:.4f}", f"{theirs[0][1]:.4f}", f"{seconds[2]:.2f}",
        )  # fmt: skip
    Console(width=120).print(found)
    return 0


def timed(work: Callable[..., Any], *arguments: object) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def scipy_test(differences: np.ndarray, permutations: int, seed: int) -> float:
    """Two-sided, over signs drawn at random."""
    found = permutation_test(
        (differences,), lambda values, axis: values.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=permutations, batch=SCIPY_AT_ONCE, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.pvalue)


if __name__ == "__main__":
    sys.exit(main())
