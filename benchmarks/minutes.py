"""Quality against processor time: the head alone, the top layers and all layers, looked at while they train.

    OMP_NUM_THREADS=1 python benchmarks/minutes.py COLLECTION... [--encoder FOLDER] [--minutes 8] [--store DIR]
        [--ways head:1,...] [--draw FOLDER]

Everything before training is run once with the preset `cpu-long` and shared. Each way of training then has the minutes
(its learning rate falls to a tenth over them) and is looked at on the way: nDCG@10 on dev and on test queries over all
documents, alone and fused with BM25 by reciprocal ranks, and of layers also at half of the way from the base. Minutes
are of this process, looks left out; test queries are only ever used to report. `--draw` writes a chart for each
collection.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quality
import torch

from hone import settings
from hone.backends import encoders, search, training
from hone.backends.encoders.families import doc_text
from hone.backends.search.bm25 import BM25, index_of
from hone.backends.training import loop
from hone.backends.training.batches import make_batch
from hone.backends.training.schedule import course
from hone.backends.training.state import State
from hone.context import Job, Plan, Shard
from hone.engine import runner
from hone.evaluation.hybrid import fused
from hone.evaluation.metrics import PRIMARY, effectiveness
from hone.evaluation.rankings import ranking
from hone.progress import task
from hone.report.charts import Line, line_chart
from hone.report.style import CSS
from hone.scratch import scratch_folder
from hone.stages import distill, score
from hone.storage.addresses import open_store
from hone.storage.base import Store

LOOKS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Minutes at which the student is measured."""
DEPTH = 100
LAYERS = {"top layer": 1, "top two": 2, "top three": 3, "all layers": 0}
TIMED_STEPS = 4


@dataclass(frozen=True)
class Look:
    """What a student had learnt after some minutes."""

    minutes: float
    steps: int
    figures: Mapping[str, float]
    """Of dev, test, and each fused: nDCG@10; of layers at half of the way too, after `half `."""


class Judges:
    """The dev and test queries of a run, for a student as it is now."""

    def __init__(self, job: Job, most: int) -> None:
        self.ids, self.bm25 = index_of(job.table("docs"))
        self.texts = [doc_text(row["title"], row["text"]) for row in job.table("docs").read().to_pylist()]
        self.sets = {split: judged(job, split, most) for split in ("dev", "test")}
        self.lexical = {split: by_words(self.bm25, self.ids, queries) for split, (queries, _) in self.sets.items()}

    def measure(self, encoder: Any) -> dict[str, float]:
        """nDCG@10 of each set, alone and fused."""
        vectors = encoder.docs(self.texts)
        found: dict[str, float] = {}
        for split, (queries, answers) in self.sets.items():
            if not queries:
                continue
            places, scores = search.top_k(encoder.queries(queries), vectors, DEPTH)
            dense = [
                ranking([self.ids[place] for place in row], values.tolist(), DEPTH)
                for row, values in zip(places, scores, strict=True)
            ]
            both = [fused(*pair, DEPTH) for pair in zip(dense, self.lexical[split], strict=True)]
            for name, rankings in ((split, dense), (f"{split} fused", both)):
                found[name] = float(effectiveness([one.doc_ids for one in rankings], answers)[PRIMARY].mean())
        return found


def main() -> int:
    parser = quality.options(__doc__, seeds="17", store="build/minutes")
    parser.add_argument("--encoder", type=Path, help="a larger encoder in the teacher, cut to 128 tokens")
    parser.add_argument("--minutes", type=float, default=8.0, help="of the processor, for each way of training")
    parser.add_argument(
        "--ways", default=",".join(("head:1", *LAYERS)), help="each with minutes of its own, or without"
    )
    parser.add_argument("--queries", type=int, default=1_000, help="most of dev and of test, a random sample")
    parser.add_argument("--draw", type=Path)
    parser.set_defaults(preset="cpu-long", log=False)
    given = parser.parse_args()
    store = open_store(given.store)
    if given.encoder:
        encoder = {"model": str(given.encoder.resolve()), "precision": "auto", "max_doc_tokens": 128}
        given.set = [f"teacher.encoders={json.dumps([encoder])}", *given.set]
    for folder in given.collections:
        curves: dict[str, list[Look]] = {}
        for asked in given.ways.split(","):
            way, _, minutes = asked.partition(":")
            curves[way] = list(looks(folder, way, float(minutes or given.minutes), given, store))
            print(json.dumps({"collection": folder.name, "way": way, **last(curves[way])}), flush=True)
        print("\n".join(table(folder.name, curves)), flush=True)
        if given.draw:
            (given.draw / f"minutes-{folder.name}.svg").write_text(drawn(folder.name, curves))
    return 0


def looks(folder: Path, way: str, minutes: float, given: argparse.Namespace, store: Store) -> Iterator[Look]:
    """One training, with what it had reached at each look."""
    data = quality.run_settings(f"minutes-{folder.name}", folder, int(given.seeds), given)
    checked = settings.check(data, "minutes", Path.cwd())
    curated = runner.run(checked, store, last="curate")
    config = checked.stages["distill"]
    assert isinstance(config, distill.Config)
    config = config.model_copy(update={"seed": int(given.seeds)})
    if way != "head":
        assert config.first
        layers = config.first.model_copy(update={"train_layers": LAYERS[way]})
        config = distill.first_alone(config, layers)
    else:
        config = config.model_copy(update={"first": False})
    with scratch_folder() as scratch:
        job = Job(Plan("distill", config, runner.outputs_of(curated), {}, ""), store, scratch, Shard())
        yield from trained(config, job, Judges(job, given.queries), minutes)


def trained(config: "distill.Config", job: Job, judges: Judges, minutes: float) -> Iterator[Look]:
    """Trains, without early stopping, for as many steps as fit the minutes."""
    encoder = encoders.Encoder(job.source(config.student.model), config.student, token_budget=config.token_budget)
    memory = training.memory_limit(config.memory_gb, encoder.device)
    embedder, examples = distill.read_examples(job, encoder, config, training.states_limit(memory, encoder.device))
    base = [weight.detach().clone() for weight in embedder.weights]
    if not config.loss.student_tau:
        with task("fit temperature", 0, "texts") as shown:
            loss = loop.calibrated(embedder, examples.train, config, lambda _: shown)
        config = config.model_copy(update={"loss": loss})
    gradients = training.Gradients(embedder, config.loss, config.token_budget, memory)
    state = State(embedder.weights, config)
    yield Look(0.0, 0, judges.measure(encoder))
    spent, due, plan = 0.0, [*(minute for minute in LOOKS[1:] if minute < minutes), minutes], None
    lists = loop.steps_of(examples.train, config)
    while due and (plan is None or state.step < plan.steps):
        started = time.process_time()
        factor = plan.rate_factor(state.step) if plan else (state.step + 1) / TIMED_STEPS
        loop.take_step(gradients, make_batch(next(lists), encoder.device), state, config, factor)
        spent += (time.process_time() - started) / 60
        if state.step == TIMED_STEPS:
            steps = max(2 * TIMED_STEPS, int(minutes / (spent / TIMED_STEPS)))
            plan = course([len(examples.train)], config.model_copy(update={"max_steps": steps, "max_epochs": steps}))
        if spent >= due[0] or (plan and state.step == plan.steps):
            yield Look(spent, state.step, judges.measure(encoder) | halfway(embedder, base, judges, config))
            due = [minute for minute in due if minute > spent]


def halfway(embedder: Any, base: Sequence[Any], judges: Judges, config: "distill.Config") -> dict[str, float]:
    """What half of the way from the base comes to; the head is given none."""
    if config.train == "head":
        return {}
    there = [weight.detach().clone() for weight in embedder.weights]
    training.interpolate(embedder.weights, base, there, 0.5)
    found = {f"half {name}": value for name, value in judges.measure(embedder.encoder).items()}
    training.interpolate(embedder.weights, base, there, 1.0)
    return found


def judged(job: Job, split: str, most: int) -> tuple[list[str], list[dict[str, int]]]:
    """Texts and relevant documents of a split's queries, at most so many."""
    rows, relevant = score.judged_of(job, split)
    chosen = sorted(torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:most])
    return [rows[at]["text"] for at in chosen], [relevant[rows[at]["query_id"]] for at in chosen]


def by_words(bm25: BM25, ids: Sequence[str], queries: Sequence[str]) -> list[Any]:
    rankings: list[Any] = []
    for query in queries:
        scores, places = bm25.scores(query), bm25.top_k(query, DEPTH)
        rankings.append(ranking([ids[int(place)] for place in places], scores[places].tolist(), DEPTH))
    return rankings


def last(curve: Sequence[Look]) -> dict[str, Any]:
    return {"minutes": round(curve[-1].minutes, 2), "steps": curve[-1].steps, **curve[-1].figures}


def table(name: str, curves: Mapping[str, Sequence[Look]]) -> Iterator[str]:
    """Gains over the base in points, a row for each look."""
    base = next(iter(curves.values()))[0].figures
    kinds = [kind for kind in ("dev", "dev fused", "test", "test fused") if kind in base]
    yield f"\n**{name}** (base: {', '.join(f'{kind} {base[kind]:.3f}' for kind in kinds)})\n"
    yield f"| | minutes | steps | {' | '.join(kinds)} | {' | '.join(f'half the way: {kind}' for kind in kinds)} |"
    yield f"|---|{'--:|' * (2 + 2 * len(kinds))}"
    for way, curve in curves.items():
        for look in curve[1:]:
            cells = [gain(look.figures, base, kind) for kind in kinds]
            cells += [gain(look.figures, base, kind, "half ") for kind in kinds]
            yield f"| {way} | {look.minutes:.1f} | {look.steps} | {' | '.join(cells)} |"


def gain(figures: Mapping[str, float], base: Mapping[str, float], kind: str, of: str = "") -> str:
    return f"{100 * (figures[of + kind] - base[kind]):+.1f}" if of + kind in figures else ""


def drawn(name: str, curves: Mapping[str, Sequence[Look]]) -> str:
    """nDCG@10 on test queries against minutes, as an SVG that stands alone."""
    lines = [
        Line(way, [(look.minutes, look.figures["test"]) for look in curve], dots=True) for way, curve in curves.items()
    ]
    chart = str(line_chart(lines, f"nDCG@10 on test queries of {name} by minutes of one core", "minutes", "{:,.0f}"))
    return chart.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace(">", f"><style>{CSS}</style>", 1)


if __name__ == "__main__":
    sys.exit(main())
