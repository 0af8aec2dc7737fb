"""How many dev queries may choose BM25's weight: fused by what few of them choose, beside reciprocal ranks.

    python benchmarks/fusing.py COLLECTION... [--preset cpu] [--dev 10,20,50,100,200] [--draws 1000] [--store DIR]

A run of the chain gives the rankings of base, tuned student and BM25. Each draw takes so many dev queries at random,
lets them choose the weight as evaluate does, and fuses the test queries with it; test queries choose nothing. Prints
nDCG@10 on test queries by ranks, and in points beside it: the mean of the draws, what a twentieth of them falls below,
and the share of them that are below ranks. The last row of each student is what all dev queries choose.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import quality

from hone import settings
from hone.context import Job, Plan, Shard
from hone.engine import runner
from hone.evaluation.hybrid import WEIGHTS, fused
from hone.evaluation.metrics import PRIMARY, effectiveness
from hone.evaluation.rankings import Ranking
from hone.scratch import scratch_folder
from hone.stages import score
from hone.storage.addresses import open_store

DEPTH = 100
STUDENTS = ("base", "tuned")


def main() -> int:
    parser = quality.options(__doc__, seeds="17", store="build/quality")
    parser.add_argument("--dev", default="10,20,50,100,200")
    parser.add_argument("--draws", type=int, default=1_000)
    given = parser.parse_args()
    given.log, store = False, open_store(given.store)
    print("| collection | student | by ranks | dev queries | by weights | a twentieth below | below ranks |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for folder in given.collections:
        name = f"{folder.name}-synthetic-{given.seeds}"
        checked = settings.check(quality.run_settings(name, folder, int(given.seeds), given), name, Path.cwd())
        outputs = runner.outputs_of(runner.run(checked, store))
        with scratch_folder() as scratch:
            job = Job(Plan("evaluate", checked.stages["evaluate"], outputs, {}, ""), store, scratch, Shard())
            runs = job.table("runs").read().to_pylist()
            relevant = {split: score.judged_of(job, split)[1] for split in ("dev", "test")}
            for student in STUDENTS:
                dev, test = (values(runs, student, split, relevant[split]) for split in ("dev", "test"))
                for line in lines(dev, test, given.dev, given.draws):
                    print(f"| {folder.name} | {student} | {line}", flush=True)
    return 0


def values(
    runs: Sequence[Mapping[str, Any]], student: str, split: str, relevant: Mapping[str, dict[str, int]]
) -> np.ndarray:
    """[1 + weights, queries] nDCG@10 of what student and BM25 find: by ranks, then by each weight."""
    found: dict[str, dict[str, Ranking]] = {student: {}, "bm25": {}}
    for row in runs:
        if row["set"] == split and row["system"] in found:
            found[row["system"]][row["query_id"]] = Ranking(row["doc_ids"], row["scores"])
    pairs = [(found[student][query_id], found["bm25"][query_id]) for query_id in relevant]
    qrels = list(relevant.values())
    by = [[fused(*pair, DEPTH, weight).doc_ids for pair in pairs] for weight in (None, *WEIGHTS)]
    return np.stack([effectiveness(rankings, qrels)[PRIMARY] for rankings in by])


def lines(dev: np.ndarray, test: np.ndarray, sizes: str, draws: int) -> Iterator[str]:
    """A row for each number of dev queries."""
    random = np.random.default_rng(17)
    ranks, *by_weight = test.mean(1)
    for size in [*(size for size in map(int, sizes.split(",")) if size < dev.shape[1]), dev.shape[1]]:
        tries = draws if size < dev.shape[1] else 1
        chosen = [int(dev[1:, random.permutation(dev.shape[1])[:size]].mean(1).argmax()) for _ in range(tries)]
        gains = 100 * (np.array(by_weight)[chosen] - ranks)
        low, below = np.quantile(gains, 0.05), (gains < 0).mean()
        yield f"{ranks:.3f} | {size:,} | {gains.mean():+.1f} | {low:+.1f} | {below:.0%} |"


if __name__ == "__main__":
    sys.exit(main())
