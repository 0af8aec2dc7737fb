"""score in its own process, a few pairs at a time, so that a test can kill it in between."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import given
from hone import context
from hone.backends.teachers import pair_models
from hone.backends.teachers.pair_models import PairModel
from hone.context import Shard
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.scratch import scratch_folder
from hone.stages import stage
from hone.storage.local import LocalStore

PAIRS, SECONDS = 50, 0.1


def score(
    folder: str, world: dict[str, pa.Table], settings: dict[str, Any], shard: str = "0/1", bucket: int = 0
) -> None:
    """Runs score, or a shard of it, on these tables with a store in `folder`; `bucket` are the rows of one."""
    context.ROWS_PER_BUCKET = bucket or context.ROWS_PER_BUCKET
    score_pairs = PairModel.score_pairs

    def slowly(self: PairModel, queries: list[str], docs: list[str]) -> np.ndarray:
        time.sleep(SECONDS)
        return score_pairs(self, queries, docs)

    PairModel.score_pairs = slowly  # type: ignore[method-assign]
    pair_models.PAIRS_AT_ONCE = PAIRS
    store = LocalStore(Path(folder))
    with scratch_folder() as scratch:
        config = stage("score").Config.model_validate(settings)
        execute(plan("score", config, given.results(store, **world), scratch), store, scratch, Shard.parse(shard))
