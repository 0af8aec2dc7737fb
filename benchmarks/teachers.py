"""Which teachers are better than the student, and what a pair costs.

    python benchmarks/teachers.py COLLECTION... [--encoder FOLDER] [--judge FOLDER ...] [--queries 500] [--depth 200]
        [--store DIR]

Every teacher re-ranks what the student retrieves, for judged dev (or train) queries and for test queries. Mixes and an
ensemble's weights are chosen on dev queries, and qualification is the product's own: what a choice reaches on dev
queries that had no part in it. Test queries are only ever used to report. An encoder (a larger embedding model) stands
alone and in the fusion; a judge is a causal language model, by the likelihood it gives the query, alone and in an
ensemble with the fusion before it. Milliseconds per pair leave out the encoding of documents, which is done once, and
are processor time of this process; scores that the store has already cost none. One table for each collection.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import quality

from hone import settings
from hone.backends import encoders, search, teachers
from hone.backends.teachers.settings import FIELDS
from hone.context import Job, Plan, Shard
from hone.engine import runner
from hone.evaluation.qualification import Qualification
from hone.scratch import scratch_folder
from hone.stages import score
from hone.storage.addresses import open_store
from hone.storage.base import Store

ALONE = {"lexical_weight": 0.0, "encoder_weight": 1.0, "feedback_docs": 0, "feedback_weight": 0.5, "mixes": []}
"""The fusion of nothing but its further encoder."""


HEAD = (
    "teacher", "student, dev", "teacher, dev", "qualified", "student, test", "teacher, test", "gain (95%)",
    "ms per pair", "chosen on dev",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What was found of one teacher."""

    name: str
    dev: Qualification
    test: Qualification
    chosen: str
    seconds: float

    def told(self) -> str:
        gain, low, high = (100 * one for one in (self.test.teacher - self.test.student, *self.test.ci95))
        verdict = "yes" if self.dev.qualified else "no"
        chance = f"p {self.dev.p_value:.3f}" if self.dev.p_value >= 0.001 else "p < 0.001"
        return (
            f"| {self.name} | {self.dev.student:.3f} | {self.dev.teacher:.3f} | {verdict}, {chance} | "
            f"{self.test.student:.3f} | {self.test.teacher:.3f} | {gain:+.1f} ({low:+.1f}..{high:+.1f}) | "
            f"{'' if math.isnan(self.seconds) else f'{1000 * self.seconds:.2f}'} | {self.chosen} |"
        )


def main() -> int:
    parser = quality.options(__doc__, seeds="17", store="build/teachers")
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--encoder-tokens", type=int, default=256)
    parser.add_argument("--judge", type=Path, nargs="*", default=[])
    parser.add_argument("--queries", type=int, default=500, help="of dev and of test, a random sample")
    parser.add_argument("--depth", type=int, default=200)
    given = parser.parse_args()
    given.log = False
    store = open_store(given.store)
    for folder in given.collections:
        print(f"\n### {folder.name}\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
        for row in measured(folder, given, store):
            print(row.told(), flush=True)
        print()
    return 0


def measured(folder: Path, given: argparse.Namespace, store: Store) -> Iterator[Row]:
    """Every teacher in turn on one collection."""
    data = quality.run_settings(f"teachers-{folder.name}", folder, int(given.seeds), given)
    data = settings.overlay(data, {"score": {"depth": given.depth, "qualify_queries": given.queries}})
    checked = settings.check(data, "teachers", Path.cwd())
    prepared = runner.run(checked, store, last="prepare")
    config = checked.stages["score"]
    assert isinstance(config, score.Config)
    for name, teacher in kinds(config.teacher.model_dump(), given):
        chosen = score.Config.model_validate({**config.model_dump(), "teacher": teacher})
        with scratch_folder() as scratch:
            plan = Plan("score", chosen, runner.outputs_of(prepared), {}, "")
            yield one(name, chosen, Job(plan, store, scratch, Shard()))


def kinds(preset: dict[str, Any], given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """The teachers by name, as settings."""
    fusion = {name: value for name, value in preset.items() if name in FIELDS["fusion"]}
    fusion["kind"] = "fusion"
    yield "fusion", fusion
    if given.encoder:
        encoder = {"model": str(given.encoder.resolve()), "precision": "auto", "max_doc_tokens": given.encoder_tokens}
        yield given.encoder.name, {**fusion, **ALONE, "encoders": [encoder]}
        fusion["encoders"] = [encoder]
        yield f"fusion with {given.encoder.name}", fusion
    for folder in given.judge:
        judge = {"kind": "query_likelihood", "model": str(folder.resolve()), "precision": "auto"}
        yield f"query_likelihood {folder.name}", judge
        member = {name: value for name, value in fusion.items() if name not in ("mixes", "encoder_weights")}
        yield f"ensemble of the fusion and {folder.name}", {"kind": "ensemble", "members": [member, judge]}


def one(name: str, config: score.Config, job: Job) -> Row:
    """One teacher: chosen and qualified on dev, then measured on test as it is."""
    corpus = encoders.Corpus(job, config.student, "encode docs", config.token_budget)
    encoder = encoders.Encoder(job.source(config.student.model), config.student, token_budget=config.token_budget)
    encode = encoders.QueryEncoder(job, encoder)
    scorer = teachers.scorer_of(config.teacher, job, corpus, encode, config.token_budget)
    dev = score.qualifying_queries(corpus, encode, config, job)
    scorer, found, facts = score.mixed(scorer, dev, config)
    test = tests(corpus, encode, config, job)
    paid, started = job.cost["pairs_paid"], time.process_time()
    scores = scorer.lists(test.texts, test.places, "test queries")
    kind, taken = config.teacher.kind, time.process_time() - started
    pairs = sum(map(len, test.places)) if kind == "fusion" else job.cost["pairs_paid"] - paid
    seconds = taken / pairs if pairs and kind != "ensemble" else math.nan
    chosen = facts.get("mix") or facts.get("weights") or {}
    said = ", ".join(f"{key} {value}" for key, value in chosen.items())
    return Row(name, found, score.compared(test, scores), said, seconds)


def tests(corpus: "encoders.Corpus", encode: "encoders.QueryEncoder", config: score.Config, job: Job) -> score.Asked:
    """The test queries, as `score` takes the dev queries."""
    rows, relevant = score.judged_of(job, "test")
    order = np.random.default_rng(config.seed).permutation(len(rows))[: config.qualify_queries]
    chosen: Sequence[dict[str, Any]] = [rows[at] for at in sorted(order)]
    texts = [row["text"] for row in chosen]
    places, _ = search.top_k(encode(texts), corpus.vectors, config.depth)
    doc_ids = [[corpus.ids[place] for place in found] for found in places]
    answers = [relevant[row["query_id"]] for row in chosen]
    return score.Asked("human", "test queries", texts, list(places), doc_ids, answers, "")


if __name__ == "__main__":
    sys.exit(main())
