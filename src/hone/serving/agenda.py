"""What to judge next: the queries of a run on which base and tuned differ most, and how many it takes."""

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hone import tables
from hone.context import Job, Shard
from hone.core.text import flat
from hone.evaluation.summary import SIDES
from hone.evaluation.test_collections import read_judged
from hone.report.next_step import GAINS, queries_for
from hone.results.table_io import TableReader, fetch_folder
from hone.serving.finished import finished
from hone.stages import evaluate
from hone.storage.base import Store

TOP = 10
MOST = 500
"""Queries that are proposed in all."""
GAIN = GAINS[0]
"""The gain in nDCG@10 that enough judged queries would show."""


@dataclass(frozen=True)
class Agenda:
    """Queries to judge, the most informative first, and how many judged queries show a gain of GAIN."""

    queries: tuple[str, ...] = ()
    wanted: int = 0

    def left(self, judged: Set[str]) -> list[str]:
        """Those that are not among the texts judged already."""
        return [text for text in self.queries if text not in judged]


def agenda(store: Store, run_name: str, scratch: Path) -> Agenda:
    """The agenda of a finished run. Raises UserError if it is not finished."""
    done, plan = finished(store, run_name)
    job, config = Job(plan, store, scratch, Shard()), cast(evaluate.Config, plan.config)
    manifest = done["evaluate"]
    folder = fetch_folder(store, manifest, "findings", scratch)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text("utf-8"))
    split = metrics["split"]
    own = next((one for one in read_judged(job, (), config.seed, config.same_ids) if split in one.roles), None)
    if own is None:
        return Agenda(wanted=queries_for(GAIN, {}))
    synthetic = metrics["synthetic"]
    wanted = queries_for(GAIN, {} if synthetic else metrics["sets"][split])
    reader = TableReader(tables.RUNS, manifest.outputs["runs"], manifest.prefix, store, scratch)
    before, after = SIDES[metrics["search_as"]]
    tops: dict[str, dict[str, list[str]]] = {before: {}, after: {}}
    for batch in reader.batches():
        for row in batch.to_pylist():
            if row["set"] == split and row["system"] in tops:
                tops[row["system"]][row["query_id"]] = row["doc_ids"][:TOP]
    texts = dict(zip(own.ids, own.texts, strict=True))
    both = [query_id for query_id in tops[before] if query_id in tops[after] and query_id in texts]
    order = sorted(both, key=lambda query_id: -difference(tops[before][query_id], tops[after][query_id]))
    return Agenda(tuple(dict.fromkeys(flat(texts[query_id]) for query_id in order))[:MOST], wanted)


def difference(one: Sequence[str], other: Sequence[str]) -> float:
    """How much two rankings differ, from 0 (the same) to 1: 1 - their average overlap over all depths, so that a
    change at the top counts most."""
    depths = range(1, max(len(one), len(other)) + 1)
    return 1 - sum(len({*one[:depth]} & {*other[:depth]}) / depth for depth in depths) / max(1, len(depths))
