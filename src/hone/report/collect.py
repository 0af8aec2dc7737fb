"""Gathers from a job and its lineage what the report says."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hone.context import Job
from hone.core.personal_data import masked
from hone.evaluation.metrics import PRIMARY
from hone.evaluation.rankings import Ranking, Result, extremes
from hone.evaluation.summary import SIDES, Values
from hone.inputs.references import declared_licence, model_name
from hone.report.findings import Findings, Histogram, Move, Origin, QueryGain, p_value, points
from hone.results.manifest import Manifest
from hone.results.table_io import Docs

DROPPED = ("dropped_by_prepare", "dropped_by_generate", "dropped_by_mine", "dropped_by_score", "dropped_by_curate")
MOST_MOVES = 3
TITLE_CHARS = 110
BINS = 24
UNDECLARED = "not declared"


def gather(
    job: Job, metrics: dict[str, Any], latency: Mapping[str, float], main: Result | None, examples: int
) -> Findings:
    """Everything the report says; `main` is the set that the finding rests on."""
    training = job.folder("model") / "training.json"
    curves: dict[str, Any] = json.loads(training.read_text("utf-8")) if training.is_file() else {}
    config = job.plan.config.model_dump(mode="json")
    findings = Findings(
        metrics=metrics,
        model=model_name(config["student"]["model"]),
        origins=origins(job),
        dropped=dropped(job),
        training=curves,
        config=config,
        latency=latency,
        histograms=(*_teacher_scores(job), *(_student_scores(main) if main else ())),
        licences=licences(job, config),
        notes=(*_started(metrics), *_several(curves), *_notes(job.facts.get("queries_that_are_documents", {}))),
    )
    sides = SIDES[metrics["search_as"]]
    return replace(findings, **queries_of(main, main.values, examples, sides)) if main else findings


def _several(training: Mapping[str, Any]) -> Iterator[str]:
    """What the student saw of each domain, if it was trained for several."""
    if domains := training.get("domains"):
        seen = [f"{name} ({one['train_lists']:,} lists, {one['steps']:,} steps)" for name, one in domains.items()]
        yield f"One student for several domains, each step on lists of one of them: {', '.join(seen)}."


def _started(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What training started from, if not from the base."""
    if start := metrics.get("start"):
        yield (
            f"Training started from what is published: version {start['version']} of {start['domain']}. The model is "
            "judged against the base and against that version, also on the test queries of the run that it came from."
        )
        for name, facts in metrics["sets"].items():
            gained, test = points(facts["published"]["delta"]), p_value(facts["published"]["p_value"])
            yield f"Against the published version on {name}: {gained} points in {PRIMARY} ({test})."


def _notes(counts: Mapping[str, int]) -> tuple[str, ...]:
    """What the rankings leave out."""
    return tuple(
        f"{count:,} of the {name} queries are documents themselves, which are left out of their own rankings "
        "(evaluate.same_ids)."
        for name, count in counts.items()
    )


def queries_of(
    main: Result, values: Values, examples: int, sides: tuple[str, str] = SIDES["dense"]
) -> dict[str, tuple[QueryGain, ...]]:
    """The gain of every query, best first, and the examples won and lost with where their documents went.

    A report is passed on: the texts it shows are free of personal data.
    """
    base, tuned = (values[system][PRIMARY] for system in sides)
    won, lost = extremes(base, tuned, examples)
    gains = {at: QueryGain(masked(main.judged.texts[at]), float(base[at]), float(tuned[at])) for at in range(len(base))}
    moves = moves_of([*won, *lost], main, sides)
    known = {at: replace(gains[at], moves=moves[at]) for at in (*won, *lost)}
    return {
        "gains": tuple(sorted(gains.values(), key=lambda gain: -gain.gain)),
        "won": tuple(known[at] for at in won),
        "lost": tuple(known[at] for at in lost),
    }


def moves_of(positions: Sequence[int], main: Result, sides: tuple[str, str]) -> dict[int, tuple[Move, ...]]:
    """For each query its relevant documents and where the systems rank them: the few that either student ranks best."""
    chosen: dict[int, list[tuple[str, int, int, int]]] = {}
    for at in positions:
        relevant = sorted(doc_id for doc_id, grade in main.judged.judgements[at].items() if grade > 0)
        ranks = [_places(main.answers[system].get(at)) for system in sides]
        teacher = _places(main.opinions.get(at))
        rows = [(d, ranks[0].get(d, 0), ranks[1].get(d, 0), teacher.get(d, 0) if teacher else -1) for d in relevant]
        chosen[at] = sorted(rows, key=lambda row: min(row[1] or np.inf, row[2] or np.inf))[:MOST_MOVES]
    titles = titles_of({row[0] for rows in chosen.values() for row in rows}, main.judged.docs)
    return {at: tuple(Move(titles.get(row[0], row[0]), *row[1:]) for row in rows) for at, rows in chosen.items()}


def _places(answer: Ranking | None) -> dict[str, int]:
    return {doc_id: rank for rank, doc_id in enumerate(answer.doc_ids, 1)} if answer else {}


def titles_of(doc_ids: set[str], docs: Docs) -> dict[str, str]:
    """Title of each document, or the start of its text if it has none."""
    return {doc_id: cut(masked(title or text), TITLE_CHARS) for doc_id, title, text in find(doc_ids, docs)}


def find(doc_ids: set[str], docs: Docs) -> Iterator[tuple[str, str, str]]:
    """(doc_id, title, text) of these documents."""
    for batch in docs.batches(["doc_id", "title", "text"]):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if row[0] in doc_ids:
                yield row


def cut(words: str, most: int) -> str:
    """The start of a text, with a mark if there is more."""
    return words if len(words) <= most else f"{words[:most].rstrip()}…"


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


def _reasons(batches: Iterable[Any]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for batch in batches:
        counts.update(batch[0].to_pylist())
    return dict(counts)


def _teacher_scores(job: Job) -> Iterator[Histogram]:
    """The teacher's normalised scores in the training lists: its first document against the others."""
    counts = np.zeros((2, BINS))
    for batch in job.table("lists").batches(["scores"]):
        offsets = np.asarray(batch[0].offsets)
        scores = np.asarray(batch[0].flatten(), dtype=np.float64)
        first = np.zeros(len(scores), dtype=bool)
        first[offsets[:-1][offsets[:-1] < offsets[1:]] - offsets[0]] = True
        counts += [np.histogram(scores[chosen], BINS, (0, 1))[0] for chosen in (first, ~first)]
    if counts.sum():
        names = ("the teacher's first", "the others")
        yield _histogram("Teacher's normalised score of the documents in the training lists", 0, 1, names, counts)


def _student_scores(main: Result) -> Iterator[Histogram]:
    """Cosines of what either student retrieved: relevant documents against all others."""
    scores_of = {system: _cosines(main, system) for system in ("base", "tuned")}
    every = np.concatenate([scores for scores, _ in scores_of.values()] or [np.zeros(0)])
    if not len(every):
        return
    low, high = float(every.min()), float(every.max())
    for system, (scores, relevant) in scores_of.items():
        counts = np.array([np.histogram(scores[chosen], BINS, (low, high))[0] for chosen in (relevant, ~relevant)])
        title = f"Cosine of what the {system} model retrieved for {main.name} queries"
        yield _histogram(title, low, high, ("relevant", "not judged relevant"), counts)


def _cosines(main: Result, system: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [
        (score, main.judged.judgements[at].get(doc_id, 0) > 0)
        for at, answer in main.answers[system].items()
        for doc_id, score in zip(answer.doc_ids, answer.scores, strict=True)
    ]
    return np.array([score for score, _ in rows]), np.array([relevant for _, relevant in rows], dtype=bool)


def _histogram(title: str, low: float, high: float, names: tuple[str, str], counts: np.ndarray) -> Histogram:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return Histogram(title, low, high, {name: tuple(row.tolist()) for name, row in zip(names, shares, strict=True)})


def with_history(findings: Findings, ancestors: Mapping[str, Manifest]) -> Findings:
    """The findings with the manifests of the stages before, and the licences that those found in what they read."""
    owners = dict(findings.licences)
    for name, stage in (("generator", "generate"), ("corpus", "prepare")):
        if owners.get(name) == UNDECLARED and stage in ancestors:
            owners[name] = str(ancestors[stage].facts.get("licence", "")) or UNDECLARED
    return replace(findings, history=tuple(ancestors.values()), licences=owners)


def licences(job: Job, config: Mapping[str, Any]) -> dict[str, str]:
    """What the settings declare, else what the README of a model or corpus folder does; never a guess."""
    stated: dict[str, str] = config["licences"]
    models = {"model": config["student"]["model"], "teacher": config["teacher"]["model"]}
    declared = {name: declared_licence(job.source(reference)) for name, reference in models.items() if reference}
    return {name: stated[name] or declared.get(name) or UNDECLARED for name in stated}
