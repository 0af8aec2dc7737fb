"""evaluate: the student before and after, query by query, and the report."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from hone import tables
from hone.core.families import Student
from hone.core.metrics import MEASURES, PRIMARY, effectiveness, trec_order
from hone.core.statistics import ALPHA, compare, minimal_detectable_effect
from hone.progress import task
from hone.report.findings import Findings, Move, Origin, QueryGain, headline
from hone.report.markdown import markdown
from hone.report.page import page
from hone.stage import Job, Manifest, Resource, StageConfig

if TYPE_CHECKING:
    from hone.backends.encoder import Encoder

DROPPED = ("dropped_by_prepare", "dropped_by_generate", "dropped_by_mine", "dropped_by_score", "dropped_by_curate")
IMAGE = "train"
READS = ("docs", "judged_queries", "qrels", "queries", "lists", "model", *DROPPED)
WRITES = ("runs", "measures", "report")
SYSTEMS = ("base", "tuned")
MOST_MOVES = 3
TITLE_CHARS = 110


class Config(StageConfig):
    """Settings of evaluate."""

    seed: int = 17
    """Draws the permutations and the bootstrap samples."""
    student: Student
    """The retriever before it was specialised."""
    depth: int = Field(100, ge=100)
    """Documents retrieved for each query; Recall@100 needs 100."""
    permutations: int = Field(100_000, ge=1)
    """Random sign assignments of the paired randomisation test."""
    bootstrap: int = Field(10_000, ge=1)
    """Resamples for the 95% interval."""
    examples: int = 10
    """Queries shown in the report that gained most, and as many that lost most."""
    token_budget: Annotated[int, Resource()] = 8192
    """Tokens encoded at once, padding included."""


@dataclass(frozen=True)
class Judged:
    """The queries that have judgements, by position: ids, texts, splits and doc_id to relevance."""

    ids: list[str]
    texts: list[str]
    splits: list[str]
    judgements: list[dict[str, int]]

    def of(self, split: str) -> list[int]:
        """Positions of the queries of one split."""
        return [at for at, own in enumerate(self.splits) if own == split]


@dataclass(frozen=True)
class Ranking:
    """One system's answer to one query, in trec_eval's order."""

    doc_ids: list[str]
    scores: list[float]


Values = dict[str, dict[str, np.ndarray]]
"""System to measure to values of all judged queries [q]."""
Shapes = dict[str, dict[str, int]]
"""System to what its model is like: see `shape`."""


def run(config: Config, job: Job) -> None:
    """Retrieves with both systems, measures, compares and writes the report."""
    judged = read_judged(job)
    models: Shapes = {}
    rankings = {system: retrieve(system, judged, models, config, job) for system in SYSTEMS if judged.ids}
    values = {
        system: effectiveness([answer.doc_ids for answer in found], judged.judgements)
        for system, found in rankings.items()
    }
    with job.writer("runs") as runs, job.writer("measures") as measures:
        for system in rankings:
            runs.write(run_rows(system, judged, rankings[system]))
            measures.write(measure_rows(system, judged, values[system]))
    metrics = summary(judged, values, models, config)
    findings = describe(job, config, metrics, judged, rankings, values)
    write_report(findings, job.new_folder("report"))
    job.facts.update({key: value for key, value in metrics.items() if key != "sets"}, finding=headline(metrics))
    job.cost.update({"queries": len(judged.ids), "docs": job.table("docs").rows if judged.ids else 0})


def read_judged(job: Job) -> Judged:
    """The judged queries in table order; one without any judgement measures nothing and is left out."""
    judgements: dict[str, dict[str, int]] = defaultdict(dict)
    for row in job.table("qrels").read().to_pylist():
        judgements[row["query_id"]][row["doc_id"]] = row["relevance"]
    rows = [row for row in job.table("judged_queries").read().to_pylist() if row["query_id"] in judgements]
    ids, texts, splits = ([row[name] for row in rows] for name in ("query_id", "text", "split"))
    return Judged(ids, texts, splits, [judgements[query_id] for query_id in ids])


def retrieve(system: str, judged: Judged, models: Shapes, config: Config, job: Job) -> list[Ranking]:
    """What the base or the tuned student retrieves for every judged query: exact search over all docs.

    Notes in `models` what the student is like.
    """
    from hone.backends.encoder import Encoder, encode_docs
    from hone.backends.search import top_k

    model = config.student.model if system == "base" else job.folder("model")
    folder = job.source(model) if isinstance(model, str) else model
    label = f"evaluate: encode docs ({system})"
    doc_ids, vectors = encode_docs(job, config.student, model, label, config.token_budget)
    encoder = Encoder(folder, config.student, token_budget=config.token_budget)
    models[system] = shape(encoder)
    with task(f"evaluate: encode queries ({system})", len(judged.ids), "queries") as progress:
        queries = encoder.queries(judged.texts, progress)
    positions, scores = top_k(queries, vectors, config.depth + 1)
    return [
        ranking(query_id, [doc_ids[position] for position in places], values.tolist(), config.depth)
        for query_id, places, values in zip(judged.ids, positions, scores, strict=True)
    ]


def shape(encoder: "Encoder") -> dict[str, int]:
    """What an index, a memory budget and a latency depend on."""
    return {
        "dimension": encoder.dimension,
        "parameters": sum(weight.numel() for weight in encoder.model.parameters()),
        "layers": int(encoder.model.config.num_hidden_layers),
        "max_doc_tokens": min(encoder.student.max_doc_tokens, int(encoder.tokenizer.model_max_length)),
    }


def ranking(query_id: str, doc_ids: Sequence[str], scores: Sequence[float], depth: int) -> Ranking:
    """The first `depth` documents; one with the query's own id is the query itself (ArguAna) and is left out."""
    pairs = [pair for pair in zip(doc_ids, scores, strict=True) if pair[0] != query_id]
    ids, values = trec_order([doc_id for doc_id, _ in pairs], [score for _, score in pairs])
    return Ranking(ids[:depth], values[:depth])


def run_rows(system: str, judged: Judged, rankings: Sequence[Ranking]) -> pa.Table:
    """Rows of the table runs."""
    columns = [r.doc_ids for r in rankings], [r.scores for r in rankings]
    return tables.RUNS.of([system] * len(rankings), judged.ids, *columns)


def measure_rows(system: str, judged: Judged, values: Mapping[str, np.ndarray]) -> pa.Table:
    """Rows of the table measures, query by query."""
    queries = [query_id for query_id in judged.ids for _ in MEASURES]
    stacked = np.stack([values[name] for name in MEASURES], axis=1)
    return tables.MEASURES.of(
        [system] * len(queries), queries, list(MEASURES) * len(judged.ids), pa.array(stacked.ravel())
    )


def summary(judged: Judged, values: Values, models: Shapes, config: Config) -> dict[str, Any]:
    """metrics.json: the verdict's figures (on test, else on dev), and all figures of every set."""
    sets = {name: compare_split(name, judged.of(name), values, config) for name in sorted(set(judged.splits))}
    if not sets:
        return {"queries": 0, "split": "", "significant": False, "sets": {}}
    split = "test" if "test" in sets else min(sets)
    found = sets[split]["measures"]
    return {
        **{key: {name: found[name][key] for name in MEASURES} for key in ("base", "tuned", "delta")},
        "p_value": found[PRIMARY]["p_value"],
        "ci95": found[PRIMARY]["ci95"],
        "queries": sets[split]["queries"],
        "split": split,
        "significant": found[PRIMARY]["p_value"] < ALPHA,
        "sets": sets,
        "models": models,
    }


def compare_split(split: str, positions: list[int], values: Values, config: Config) -> dict[str, Any]:
    """The figures of one split: every measure compared, and the smallest difference its queries could show."""
    measured = {
        name: asdict(
            compare(
                values["base"][name][positions],
                values["tuned"][name][positions],
                permutations=config.permutations,
                resamples=config.bootstrap,
                seed=config.seed,
            )
        )
        for name in MEASURES
    }
    effect = minimal_detectable_effect((values["tuned"][PRIMARY] - values["base"][PRIMARY])[positions])
    found = effect if np.isfinite(effect) else None
    return {
        "role": "domain" if split == "test" else "dev",
        "synthetic": False,
        "queries": len(positions),
        "measures": measured,
        "minimal_detectable_effect": found,
    }


def describe(
    job: Job,
    config: Config,
    metrics: dict[str, Any],
    judged: Judged,
    rankings: Mapping[str, Sequence[Ranking]],
    values: Values,
) -> Findings:
    """Everything the report says."""
    training = job.folder("model") / "training.json"
    findings = Findings(
        metrics=metrics,
        model=Path(config.student.model.removeprefix("package:")).name,
        history=history(job.ancestors),
        origins=origins(job),
        dropped=dropped(job),
        training=json.loads(training.read_text("utf-8")) if training.is_file() else {},
        config=config.model_dump(mode="json"),
    )
    if not judged.ids:
        return findings
    order = by_gain(judged.of(metrics["split"]), values)
    gains = {at: gain_of(at, judged, values) for at in order}
    won = [at for at in order if gains[at].gain > 0][: config.examples]
    lost = [at for at in reversed(order) if gains[at].gain < 0][: config.examples]
    moves = moves_of([*won, *lost], judged, rankings, job)
    shown = {at: replace(gains[at], moves=moves[at]) for at in (*won, *lost)}
    return replace(
        findings,
        gains=tuple(gains.values()),
        won=tuple(shown[at] for at in won),
        lost=tuple(shown[at] for at in lost),
    )


def by_gain(positions: list[int], values: Values) -> list[int]:
    """Positions of queries, best gain first, ties in table order."""
    gain = values["tuned"][PRIMARY] - values["base"][PRIMARY]
    return sorted(positions, key=lambda at: -gain[at])


def gain_of(at: int, judged: Judged, values: Values) -> QueryGain:
    base, tuned = (float(values[system][PRIMARY][at]) for system in SYSTEMS)
    return QueryGain(judged.texts[at], base, tuned)


def moves_of(
    positions: Sequence[int], judged: Judged, rankings: Mapping[str, Sequence[Ranking]], job: Job
) -> dict[int, tuple[Move, ...]]:
    """For each query its relevant documents and where both systems rank them: the few that either ranks best."""
    chosen: dict[int, list[tuple[str, int, int]]] = {}
    for at in positions:
        ranks = [{doc_id: n for n, doc_id in enumerate(rankings[system][at].doc_ids, 1)} for system in SYSTEMS]
        relevant = [doc_id for doc_id, grade in judged.judgements[at].items() if grade > 0]
        rows = [(doc_id, ranks[0].get(doc_id, 0), ranks[1].get(doc_id, 0)) for doc_id in sorted(relevant)]
        chosen[at] = sorted(rows, key=lambda row: min(row[1] or np.inf, row[2] or np.inf))[:MOST_MOVES]
    titles = titles_of({doc_id for rows in chosen.values() for doc_id, _, _ in rows}, job)
    return {
        at: tuple(Move(titles.get(doc_id, doc_id), before, after) for doc_id, before, after in rows)
        for at, rows in chosen.items()
    }


def titles_of(doc_ids: set[str], job: Job) -> dict[str, str]:
    """Title of each document, or the start of its text if it has none."""
    found: dict[str, str] = {}
    for batch in job.table("docs").batches(["doc_id", "title", "text"]):
        for doc_id, title, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if doc_id in doc_ids:
                words = title or text
                found[doc_id] = words if len(words) <= TITLE_CHARS else f"{words[:TITLE_CHARS].rstrip()}…"
    return found


def origins(job: Job) -> tuple[Origin, ...]:
    """Training queries by source and style: how many were made, how many became lists."""
    kept = {query_id for batch in job.table("lists").batches(["query_id"]) for query_id in batch[0].to_pylist()}
    made: Counter[tuple[str, str]] = Counter()
    used: Counter[tuple[str, str]] = Counter()
    for batch in job.table("queries").batches(["query_id", "source", "style"]):
        for query_id, source, style in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            made[source, style] += 1
            used[source, style] += query_id in kept
    return tuple(Origin(*key, made[key], used[key]) for key in sorted(made))


def dropped(job: Job) -> dict[str, dict[str, int]]:
    """Stage to reason to rows, over all tables of what was left out."""
    return {name.removeprefix("dropped_by_"): _reasons(job.table(name).batches(["reason"])) for name in DROPPED}


def _reasons(batches: Iterable[pa.RecordBatch]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for batch in batches:
        counts.update(batch[0].to_pylist())
    return dict(counts)


def history(ancestors: Mapping[str, Manifest]) -> tuple[Manifest, ...]:
    """The manifests of the stages before, in the order of the flow."""
    from hone.stages import STAGES

    return tuple(ancestors[name] for name in STAGES if name in ancestors)


def write_report(findings: Findings, folder: Path) -> None:
    """report.html for people, report.md for a pull request, metrics.json for programs."""
    (folder / "report.html").write_text(page(findings), "utf-8")
    (folder / "report.md").write_text(markdown(findings), "utf-8")
    (folder / "metrics.json").write_text(json.dumps(findings.metrics, indent=1, allow_nan=False), "utf-8")
