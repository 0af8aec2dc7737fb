"""evaluate: the student before and after, beside other systems, on every test set, query by query."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from hone import tables
from hone.backends import encoders, search, teachers
from hone.backends.encoders.families import Student
from hone.backends.teachers.settings import Mix, Teacher
from hone.config import Resource, Seed, Settings, StageConfig
from hone.context import Job
from hone.errors import UserError
from hone.evaluation.hybrid import best_weight, fused
from hone.evaluation.metrics import MEASURES, PRIMARY, effectiveness
from hone.evaluation.rankings import Answers, Ranking, Result, answer, by_set, extremes
from hone.evaluation.roles import JudgedBy
from hone.evaluation.summary import SIDES, Draws, Way, main_set, summarise
from hone.evaluation.test_collections import Judged, JudgedSet, SameIds, last_tests, read_judged
from hone.progress import task
from hone.report.collect import DROPPED, gather
from hone.report.files import write_report
from hone.report.findings import STUDENTS, Findings, headline
from hone.results import registry
from hone.results.registry import Start

IMAGE = "train"
READS = ("docs", "judged_queries", "qrels", "queries", "qualification", "lists", "model", "start", *DROPPED)
WRITES = ("runs", "measures", "findings")
LATENCY_ROUNDS = 12
MOST_LATENCY_ROUNDS = 120
ALIKE = 0.1
"""Two models whose times differ by no more than this share take about the same time."""
ENOUGH_DEV = 50
"""Dev queries that may choose how BM25 is weighed."""


Models = dict[str, "encoders.Encoder"]
"""base and tuned, and published where training started from a published model."""


class Licences(Settings):
    """What the owner of each part declares; empty takes what the README of a model folder says."""

    model: str = ""
    """Licence of the student."""
    teacher: str = ""
    """Licence of the teacher."""
    generator: str = ""
    """Licence of the model that wrote queries."""
    corpus: str = ""
    """Licence of the documents."""


class Config(StageConfig):
    """Settings of evaluate."""

    without_training: ClassVar[tuple[str, ...]] = ("queries", "qualification", "lists", *DROPPED[1:])

    seed: Seed = 17
    """Draws the permutations, the bootstrap samples, synthetic queries and the queries that the teacher is asked."""
    student: Student
    """The retriever before it was specialised."""
    teacher: Teacher = Teacher()
    """The teacher, which re-ranks what the base retrieves: the ceiling of what training can reach."""
    tests: tuple[JudgedSet, ...] = ()
    """More test sets, beside the judged queries of the corpus itself."""
    same_ids: SameIds = "same text"
    """What becomes of a document that has the id of the query. same text: it is left out of the rankings where its text
    is the query's too and no judgement says that it is relevant. leave out: it always is. keep: it never is."""
    ceiling_queries: int = Field(200, ge=0)
    """Most queries of the corpus itself that the teacher is asked; 0 leaves the ceiling out."""
    lexical: bool = True
    """Measure BM25 too, alone and fused with either student."""
    search_as: Way = "dense"
    """How users search: dense, by vectors alone, or hybrid, fused with BM25. The first line, the verdict, `hone search`
    and `hone serve` rest on it."""
    fusion: Literal["auto", "ranks", "weights"] = "auto"
    """How BM25 is fused: by reciprocal ranks (k = 60), or by a weighted sum of scaled scores, its weight chosen on the
    dev queries for each student. auto: weights where 50 dev queries or more can choose them for test queries."""
    judged_by: JudgedBy = "people"
    """Who judged the queries of the corpus itself: people, or a model, which is named so everywhere."""
    depth: int = Field(100, ge=100)
    """Documents retrieved for each query; Recall@100 needs 100."""
    permutations: int = Field(100_000, ge=1)
    """Random sign assignments of the paired randomisation test."""
    bootstrap: int = Field(10_000, ge=1)
    """Resamples for the 95% interval."""
    latency_queries: int = Field(16, ge=1)
    """Queries that both students encode one at a time, in turn, to compare their speed."""
    examples: int = Field(10, ge=0)
    """Queries shown in the report that gained most, and as many that lost most."""
    licences: Licences = Licences()
    """Licences to state in the report and the model card."""
    token_budget: Annotated[int, Resource()] = Field(8192, ge=1)
    """Tokens encoded at once, padding included."""

    @model_validator(mode="after")
    def _hybrid_needs_bm25(self) -> Self:
        if self.search_as == "hybrid" and not self.lexical:
            raise ValueError("search_as: hybrid measures BM25; set evaluate.lexical: true")
        return self


def run(config: Config, job: Job) -> None:
    """Retrieves with every system, measures, compares and writes what was found."""
    if config.fusion == "weights" and config.lexical and not dev_queries(job):
        raise UserError("evaluate.fusion: weights are chosen on dev queries, and there are none; set fusion: ranks")
    start = Start.model_validate(job.read_json("start"))
    models = load_models(config, job, start)
    results: list[Result] = []
    weights: dict[str, float] = {}
    with job.writer("runs") as runs, job.writer("measures") as measures:
        tested = read_judged(job, config.tests, config.seed, config.same_ids, config.judged_by)
        for judged in (*tested, *last_tests(job, start.tests, config.same_ids)):
            answers, opinions = retrieve(judged, config, job, models, weights)
            for result in by_set(judged, answers, opinions):
                for system in result.answers:
                    runs.write(run_rows(result, system))
                    measures.write(measure_rows(result, system))
                results.append(result)
            if judged.itself:
                job.facts.setdefault("queries_that_are_documents", {}).update(count_itself(judged))
            job.cost.update({"queries": len(judged.ids), "docs": judged.docs.rows})
    sets = [result.measured() for result in results]
    shapes = {system: shape(models[system]) for system in STUDENTS}
    metrics = summarise(sets, shapes, Draws(config.permutations, config.bootstrap, config.seed), config.search_as)
    metrics["bm25_weights"] = weights
    metrics |= {"start": start.model_dump()} if start.version else {}
    main = next((result for result in results if result.name == main_set(sets)), None)
    timed = latency(models, main.judged.texts[: config.latency_queries]) if main else {}
    write_findings(gather(job, metrics, timed, main, config.examples), job.new_folder("findings"))
    shown = {key: value for key, value in metrics.items() if key not in ("sets", "models", "start")}
    job.facts.update(shown, finding=headline(metrics))


def count_itself(judged: Judged) -> dict[str, int]:
    """For each set, how many of its queries are documents themselves and left out of their own ranking."""
    counts = {name: sum(judged.ids[at] in judged.itself for at in judged.of(name)) for name in judged.roles}
    return {name: count for name, count in counts.items() if count}


def dev_queries(job: Job) -> bool:
    """Whether any query is judged in dev."""
    return "dev" in job.table("judged_queries").read(["split"])["split"].to_pylist()


def retrieve(
    judged: Judged, config: Config, job: Job, models: Models, weights: dict[str, float]
) -> tuple[Answers, dict[int, Ranking]]:
    """What every system retrieves for every query, and the teacher's opinion of the queries that it is asked about.

    `weights` become BM25's shares for each student, which the corpus's own dev queries choose for a weighted sum.
    The ceiling rests on a random sample; the teacher is also asked about the examples that the report shows.
    """
    rankings_of = {
        system: search.dense(job, model, judged, config.depth, f"evaluate: encode {{}} ({system})")
        for system, model in models.items()
    }
    if config.lexical:
        rankings_of["bm25"] = lexical(judged, config.depth)
        chooses = judged.own and by_weights(config.fusion, len(judged.of("dev")), len(judged.of("test")))
        for student in models:
            if chooses:
                weights[student] = weight_on_dev(judged, rankings_of[student], rankings_of["bm25"], config.depth)
            pairs = zip(rankings_of[student], rankings_of["bm25"], strict=True)
            rankings_of[f"{student}+bm25"] = [fused(*pair, config.depth, weights.get(student)) for pair in pairs]
    answers = {system: dict(enumerate(rankings)) for system, rankings in rankings_of.items()}
    if judged.own and has_teacher(config.teacher) and config.ceiling_queries:
        draw = np.random.default_rng(config.seed)
        sample = [at for name in judged.roles for at in draw.permutation(judged.of(name))[: config.ceiling_queries]]
        before, after = SIDES[config.search_as]
        shown = shown_queries(judged, rankings_of[before], rankings_of[after], config.examples)
        opinions = reranked(judged, sorted({*map(int, sample), *shown}), rankings_of["base"], config, job)
        answers["teacher"] = {int(at): opinions[at] for at in sample}
        return answers, opinions
    return answers, {}


def shown_queries(judged: Judged, base: Sequence[Ranking], tuned: Sequence[Ranking], most: int) -> list[int]:
    """The queries of each set that gained most and lost most: the examples of the report."""
    values = [
        effectiveness([ranking.doc_ids for ranking in answers], judged.judgements)[PRIMARY] for answers in (base, tuned)
    ]
    shown: list[int] = []
    for name in judged.roles:
        places = judged.of(name)
        won, lost = extremes(values[0][places], values[1][places], most)
        shown += [places[at] for at in (*won, *lost)]
    return shown


def load_models(config: Config, job: Job, start: Start) -> Models:
    """The student before and after, and the published model that training started from."""
    folders = {"base": job.source(config.student.model), "tuned": job.folder("model")}
    if start.version:
        folders["published"] = registry.fetch(job.store, start.domain, start.version, job.scratch)
    return {
        system: encoders.Encoder(folder, config.student, token_budget=config.token_budget)
        for system, folder in folders.items()
    }


def latency(models: Models, texts: Sequence[str]) -> dict[str, float]:
    """Mean milliseconds to encode one query, tokens to vector, with the student before and after.

    Both encode each query in turn, now the one and now the other first, round after round, and the least time of a
    query counts: whatever else the machine does only ever adds to it. The base's figure is the mean over the queries,
    the tuned model's that times the median of how many times as long a query took. Where that is not about once, rounds
    go on: other work on a machine, unlike a slower model, is gone in some of them.
    """
    least = np.full((len(texts), len(STUDENTS)), np.inf)
    times = 1.0
    for number in range(MOST_LATENCY_ROUNDS):
        order = list(enumerate(STUDENTS))[:: -1 if number % 2 else 1]
        for at, text in enumerate(texts):
            for place, system in order:
                least[at, place] = min(least[at, place], _milliseconds(models[system], text))
        times = float(np.median(least[:, 1] / least[:, 0]))
        if number + 1 >= LATENCY_ROUNDS and abs(times - 1) <= ALIKE:
            break
    base = float(least[:, 0].mean())
    return {"base": base, "tuned": base * times}


def _milliseconds(encoder: "encoders.Encoder", text: str) -> float:
    started = time.perf_counter()
    encoder.queries([text])
    return 1000 * (time.perf_counter() - started)


def shape(encoder: "encoders.Encoder") -> dict[str, int]:
    """What an index, a memory budget and a latency depend on."""
    head = 0 if encoder.head is None else encoder.head.size
    return {
        "dimension": encoder.dimension,
        "parameters": head + sum(weight.numel() for weight in encoder.model.parameters()),
        "layers": int(encoder.model.config.num_hidden_layers),
        "max_doc_tokens": encoder.doc_limit(),
    }


def lexical(judged: Judged, depth: int) -> list[Ranking]:
    """What BM25 retrieves."""
    ids, index = search.index_of(judged.docs)
    rankings: list[Ranking] = []
    with task("evaluate: BM25", len(judged.ids), "queries") as progress:
        for at, text in enumerate(judged.texts):
            places = index.top_k(text, depth + 1)
            scores = index.scores(text)[places].tolist()
            rankings.append(answer(judged, at, [ids[place] for place in places], scores, depth))
            progress.advance()
    return rankings


def by_weights(fusion: str, dev: int, test: int) -> bool:
    """Whether BM25 is fused by a weighted sum, given how many queries there are. A weight that few chose may be chance,
    and those that chose it are flattered by it."""
    return fusion == "weights" or (fusion == "auto" and dev >= ENOUGH_DEV and test > 0)


def weight_on_dev(judged: Judged, dense: Sequence[Ranking], lexical: Sequence[Ranking], depth: int) -> float:
    """BM25's share that dev queries choose."""
    dev = judged.of("dev")
    return best_weight(
        [dense[at] for at in dev], [lexical[at] for at in dev], [judged.judgements[at] for at in dev], depth
    )


def has_teacher(teacher: Teacher) -> bool:
    """Whether the settings name a teacher that can be asked."""
    return bool(teacher.kind == "fusion" or teacher.model or teacher.server.url or teacher.members)


def as_it_taught(teacher: Teacher, job: Job) -> Teacher:
    """The teacher with the mix or the weights that score chose for it, if it chose any."""
    qualification = job.read_json("qualification")
    if weights := qualification.get("weights"):
        return teacher.weighed(weights)
    return teacher.mixed(Mix.model_validate(qualification["mix"])) if qualification.get("mix") else teacher


def reranked(
    judged: Judged, chosen: Sequence[int], base: Sequence[Ranking], config: Config, job: Job
) -> dict[int, Ranking]:
    """The base's documents in the teacher's order, for the chosen queries: position to ranking."""
    corpus = encoders.Corpus(job, config.student, "evaluate: encode docs (teacher)", config.token_budget)
    encoder = encoders.Encoder(job.source(config.student.model), config.student, token_budget=config.token_budget)
    encode = encoders.QueryEncoder(job, encoder)
    scorer = teachers.scorer_of(as_it_taught(config.teacher, job), job, corpus, encode, config.token_budget)
    texts = [judged.texts[at] for at in chosen]
    places = [corpus.places(base[at].doc_ids) for at in chosen]
    scorer.calibrate(texts, places, "evaluate: teacher's scale")
    job.cost["pairs"] += sum(map(len, places))
    scores = scorer.lists(texts, places, "evaluate: teacher")
    return {
        at: answer(judged, at, base[at].doc_ids, values.tolist(), config.depth)
        for at, values in zip(chosen, scores, strict=True)
    }


def run_rows(result: Result, system: str) -> pa.Table:
    """Rows of the table runs, query by query."""
    answers = sorted(result.answers[system].items())
    ids = [result.judged.ids[at] for at, _ in answers]
    rankings = [answer for _, answer in answers]
    columns = [r.doc_ids for r in rankings], [r.scores for r in rankings]
    return tables.RUNS.of([result.name] * len(ids), [system] * len(ids), ids, *columns)


def measure_rows(result: Result, system: str) -> pa.Table:
    """Rows of the table measures, query by query."""
    asked = sorted(result.answers[system])
    queries = [result.judged.ids[at] for at in asked for _ in MEASURES]
    stacked = np.stack([result.values[system][name][asked] for name in MEASURES], axis=1)
    same = [[result.name] * len(queries), [system] * len(queries)]
    return tables.MEASURES.of(*same, queries, list(MEASURES) * len(asked), pa.array(stacked.ravel()))


def write_findings(findings: Findings, folder: Path) -> None:
    """metrics.json for programs, findings.json, from which the report is drawn, and the report as it is before the
    verdict and without the history of earlier stages, for a run that ends here."""
    (folder / "metrics.json").write_text(findings.metrics_json(), "utf-8")
    (folder / "findings.json").write_bytes(findings.to_json())
    write_report(findings, folder)
