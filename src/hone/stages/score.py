"""score: the teacher's opinion of every query and its candidates, after the teacher has been found better."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, cast

import numpy as np
from pydantic import Field

from hone import tables
from hone.backends import encoders, search, teachers
from hone.backends.encoders.families import Student
from hone.backends.teachers.settings import Teacher
from hone.config import Resource, Seed, StageConfig
from hone.context import Job
from hone.core.early_exit import best_first, score_in_waves
from hone.errors import UserError
from hone.evaluation.metrics import PRIMARY
from hone.evaluation.own_queries import own_queries
from hone.evaluation.qualification import Qualification, best_choice, cross_fitted, qualify, reached
from hone.progress import task
from hone.spent import growing

IMAGE = "train"
READS = ("docs", "queries", "candidates", "judged_queries", "qrels")
WRITES = ("teacher_scores", "qualification", "dropped_by_score")
OUTSCORED = "a candidate outscores the source document"
NOT_LISTED = "source document is not among the scored candidates"
NOT_FINITE = "the teacher gave a score that is not a number"
UNJUDGED = "nobody judged these queries, so it may still be worse for people's: judge some (a dev split) to be sure"
QUALIFY = "score: qualify the teacher"
COPIED = "they are words of their documents, which flatters a teacher that matches words"


class Config(StageConfig):
    """Settings of score."""

    sharded: ClassVar[bool] = True
    seed: Seed = 17
    """Draws the queries that qualify the teacher."""
    student: Student
    """The retriever that is specialised; the teacher must beat it."""
    teacher: Teacher
    """The teacher."""
    depth: int = Field(100, ge=1)
    """Candidates of each query that are scored, best first."""
    early_exit: bool = True
    """Stop scoring a query as soon as a candidate outscores its source document; the lists that curate keeps stay the
    same, if it drops those whose source is not the teacher's first (curate.outscored)."""
    qualify_queries: int = Field(500, ge=0)
    """Judged dev queries on which the teacher is compared with the student; where none are judged, so many of the
    run's own, or cut from documents in a style that is not trained on."""
    token_budget: Annotated[int, Resource()] = Field(16384, ge=1)
    """Tokens scored at once, padding included."""

    @property
    def exits_early(self) -> bool:
        """Whether queries are left half scored."""
        return self.early_exit and self.teacher.pairwise


Rows = list[dict[str, Any]]


def run(config: Config, job: Job) -> None:
    """Qualifies the teacher, then scores bucket by bucket."""
    corpus = encoders.Corpus(job, config.student, "score: encode docs", config.token_budget)
    encoder = encoders.Encoder(job.source(config.student.model), config.student, token_budget=config.token_budget)
    encode = encoders.QueryEncoder(job, encoder)
    scorer = teachers.scorer_of(config.teacher, job, corpus, encode, config.token_budget)
    asked = qualifying_queries(corpus, encode, config, job)
    scorer, qualification, facts = mixed(scorer, asked, config)
    stops = config.exits_early
    about_teacher = {"qualification": qualification.as_fact(), "early_exit": stops, **facts}
    job.write_json("qualification", about_teacher)
    if job.shard.index == 0:  # every shard finds the same
        job.facts.update(about_teacher)
    if not qualification.qualified and not config.teacher.force:
        raise UserError(
            f"the teacher is not better than the student: {qualification.reason} ({qualification.judged} judgements, "
            f"{qualification.queries} queries); choose another teacher or set teacher.force: true"
        )
    with task("score: teacher", job.table("candidates").rows // job.shard.count, "queries") as progress:
        buckets = job.buckets("candidates", by="query_id", like="queries")
        for queries, candidates in zip(job.buckets("queries", by="query_id"), buckets, strict=True):
            lists = {row["query_id"]: row["doc_ids"][: config.depth] for row in candidates.rows.to_pylist()}
            rows = [row for row in queries.rows.to_pylist() if row["query_id"] in lists]
            doc_ids = [lists[row["query_id"]] for row in rows]
            with growing("pairs"):
                scores = _score(scorer, corpus, rows, doc_ids, job, early_exit=stops)
            _write(job, queries.number, rows, doc_ids, scores)
            progress.advance(len(rows))


def _score(
    scorer: "teachers.Scorer",
    corpus: "encoders.Corpus",
    rows: Rows,
    doc_ids: list[list[str]],
    job: Job,
    *,
    early_exit: bool,
) -> list[np.ndarray | None]:
    """The scores of every list, or None for a query whose source is outscored (only with early exit)."""
    texts = [str(row["text"]) for row in rows]
    places = [corpus.places(ids) for ids in doc_ids]
    total = sum(map(len, doc_ids))
    job.cost["pairs_exhaustive"] += total
    if not early_exit:
        job.cost["pairs"] += total
        return list(scorer.lists(texts, places))

    def pairs(chosen: Sequence[tuple[int, int]]) -> np.ndarray:
        job.cost["pairs"] += len(chosen)
        asked = np.array([places[query][at] for query, at in chosen])
        return scorer.pairs([texts[query] for query, _ in chosen], asked)

    return score_in_waves(doc_ids, [str(row["doc_id"]) for row in rows], pairs)


@dataclass(frozen=True)
class Asked:
    """The queries on which teacher and student are compared, with the student's top documents as places and ids."""

    judged: str
    """human: dev judgements. synthetic: the document that a query was made from is its one relevant document."""
    kind: str
    texts: list[str]
    places: list[np.ndarray]
    doc_ids: list[list[str]]
    relevant: list[dict[str, int]]
    caution: str


def qualifying_queries(corpus: "encoders.Corpus", encode: "encoders.QueryEncoder", config: Config, job: Job) -> Asked:
    """A sample of the judged dev queries, or of the own queries where none are judged."""
    queries, relevant = judged_of(job, "dev")
    order = np.random.default_rng(config.seed).permutation(len(queries))[: config.qualify_queries]
    chosen = [queries[at] for at in sorted(order)]
    judged, kind, caution = "human", "judged dev queries", ""
    texts, answers = [str(row["text"]) for row in chosen], [relevant[str(row["query_id"])] for row in chosen]
    if not queries:
        own = own_queries(job, config.seed, config.qualify_queries)
        judged, kind, texts, answers = "synthetic", own.kind, own.texts, [{doc_id: 1} for doc_id in own.doc_ids]
        flattered = own.copied and config.teacher.matches_words
        caution = f"{COPIED}; {UNJUDGED}" if flattered else UNJUDGED
    places, _ = search.top_k(encode(texts), corpus.vectors, config.depth)
    doc_ids = [[corpus.ids[place] for place in row] for row in places]
    return Asked(judged, kind, texts, list(places), doc_ids, answers, caution)


def mixed(
    scorer: "teachers.Scorer", asked: Asked, config: Config
) -> tuple["teachers.Scorer", Qualification, dict[str, Any]]:
    """The fusion with that one of its mixes that ranks the judged dev queries best, ties by the order given; how such a
    choice compares with the student; and what each mix reached. Of mixes that these queries cannot tell from the best,
    further encoders count most, since from its own opinion a student learns nothing. Own queries choose nothing: those
    that copy words would choose the most lexical."""
    if config.teacher.kind == "ensemble" and config.teacher.choose_weights and asked.judged == "human":
        return weighed(cast("teachers.Ensemble", scorer), asked, config.teacher)
    mixes = config.teacher.choices
    if config.teacher.kind != "fusion" or not mixes or asked.judged != "human":
        return scorer, qualification(scorer, asked), {}
    fusion = cast("teachers.ListScorer", scorer)
    scores = list(fusion.by_mix(asked.texts, asked.places, mixes))
    choices = np.array([reached(asked.doc_ids, one, asked.relevant) for one in scores])
    further = np.array([mix.encoder_weight for mix in mixes]) if config.teacher.encoders else None
    means, best = choices.mean(axis=1), best_choice(choices, further)
    named = [config.teacher.figures(mix) for mix in mixes]
    figures = [{**mix, PRIMARY: round(float(mean), 6)} for mix, mean in zip(named, means, strict=True)]
    compared_on_dev = compared(asked, scores[best], cross_fitted(choices, further))
    return fusion.mixed(mixes[best]), compared_on_dev, {"mix": named[best], "mixes": figures}


def weighed(
    ensemble: "teachers.Ensemble", asked: Asked, teacher: Teacher
) -> tuple["teachers.Scorer", Qualification, dict[str, Any]]:
    """The ensemble with those weights that rank the judged dev queries best, ties by fewer members; how such a choice
    compares with the student; what each choice reached; and which member adds nothing: without it, what the others
    reach on queries that had no part in the choice is as good."""
    ensemble.calibrate(asked.texts, asked.places, QUALIFY)
    given = tuple(float(weight) for weight in ensemble.weights)
    weights = list(dict.fromkeys([*teachers.divisions(len(given)), given]))
    scores = ensemble.by_weights(asked.texts, asked.places, weights)
    choices = np.array([reached(asked.doc_ids, one, asked.relevant) for one in scores])
    means, unseen = choices.mean(axis=1), cross_fitted(choices)
    best = int(means.argmax())
    names = teacher.member_names
    idle: list[str] = []
    for at, name in enumerate(names if len(names) > 1 else ()):
        without = choices[[way[at] == 0 for way in weights]]
        if cross_fitted(without).mean() >= unseen.mean():
            idle.append(name)
    figures = [{"weights": list(way), PRIMARY: round(float(mean), 6)} for way, mean in zip(weights, means, strict=True)]
    said = f"on queries that had no part in the choice these members add nothing to the others: {', '.join(idle)}"
    cautioned = replace(asked, caution="; ".join(filter(None, (asked.caution, said if idle else ""))))
    facts = {"weights": dict(zip(names, weights[best], strict=True)), "weighings": figures, "adds_nothing": idle}
    return ensemble.weighted(weights[best]), compared(cautioned, scores[best], unseen), facts


def qualification(scorer: "teachers.Scorer", asked: Asked) -> Qualification:
    """Teacher against student: re-ranking the student's top documents."""
    scorer.calibrate(asked.texts, asked.places, QUALIFY)
    return compared(asked, scorer.lists(asked.texts, asked.places, QUALIFY))


def compared(asked: Asked, scores: Sequence[np.ndarray], unseen: np.ndarray | None = None) -> Qualification:
    """What the teacher's scores of the student's top documents come to; `unseen` as in `qualify`."""
    return qualify(asked.judged, asked.doc_ids, scores, asked.relevant, asked.caution, unseen, asked.kind)


def judged_of(job: Job, split: str) -> tuple[Rows, dict[str, dict[str, int]]]:
    """The judged queries of a split, and query_id to the documents that are judged for it with their relevance."""
    queries = [row for row in job.table("judged_queries").read().to_pylist() if row["split"] == split]
    relevant: dict[str, dict[str, int]] = {str(row["query_id"]): {} for row in queries}
    for row in job.table("qrels").read().to_pylist():
        if row["query_id"] in relevant:
            relevant[row["query_id"]][row["doc_id"]] = row["relevance"]
    return queries, relevant


def _write(
    job: Job, bucket: int, rows: Rows, doc_ids: Sequence[Sequence[str]], scores: Sequence[np.ndarray | None]
) -> None:
    kept: Rows = []
    lost: list[tuple[str, str, str]] = []
    for row, ids, values in zip(rows, doc_ids, scores, strict=True):
        reason = _fault(row, ids, values)
        if reason or values is None:
            lost.append((row["query_id"], reason, row["doc_id"]))
            continue
        order = best_first(values, ids)
        ordered = {"doc_ids": [ids[at] for at in order], "scores": values[order].tolist()}
        kept.append({"query_id": row["query_id"], **ordered})
    with job.writer("teacher_scores", bucket) as writer:
        writer.write(tables.TEACHER_SCORES.build(kept))
    with job.writer("dropped_by_score", bucket) as writer:
        writer.write(tables.dropped("score", lost))


def _fault(row: dict[str, Any], doc_ids: Sequence[str], scores: np.ndarray | None) -> str:
    """Why a query has no list, or an empty string."""
    if scores is None:
        return OUTSCORED if row["doc_id"] in doc_ids else NOT_LISTED
    return "" if np.isfinite(scores).all() else NOT_FINITE
