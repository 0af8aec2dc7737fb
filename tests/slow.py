"""score in a process of its own, a few pairs at a time, so that a test can kill it in between."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import given
from hone.backends.pair_models import PairModel
from hone.store import LocalStore

PAIRS, SECONDS = 50, 0.1


def score(folder: str, world: dict[str, pa.Table], settings: dict[str, Any]) -> None:
    """Runs score on these tables with a store in `folder`."""
    score_pairs = PairModel.score_pairs

    def slowly(self: PairModel, queries: list[str], docs: list[str]) -> np.ndarray:
        time.sleep(SECONDS)
        return score_pairs(self, queries, docs)

    PairModel.score_pairs = slowly  # type: ignore[method-assign]
    PairModel.pairs_at_once = PAIRS
    store = LocalStore(Path(folder))
    given.run(store, "score", given.results(store, **world), **settings)
