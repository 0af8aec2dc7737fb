"""score: the teacher's opinion of every query and its candidates, after the teacher has been found better."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa

from hone import tables
from hone.core.families import Student, doc_text
from hone.core.metrics import PRIMARY, effectiveness, trec_order
from hone.core.qualification import Qualification, flaw_of, qualify
from hone.core.teachers import Teacher
from hone.core.waves import score_in_waves
from hone.errors import UserError
from hone.progress import task
from hone.stage import Job, Resource, StageConfig

IMAGE = "train"
READS = ("docs", "queries", "candidates", "judged_queries", "qrels")
WRITES = ("teacher_scores", "dropped_by_score")
OUTSCORED = "a candidate outscores the source document"


class Config(StageConfig):
    """Settings of score."""

    sharded: ClassVar[bool] = True
    seed: int = 17
    """Draws the queries that qualify the teacher."""
    student: Student
    """The retriever that is specialised; the teacher must beat it."""
    teacher: Teacher
    """The teacher."""
    depth: int = 100
    """Candidates of each query that are scored, best first."""
    early_exit: bool = True
    """Stop scoring a query as soon as a candidate outscores its source document; what is kept stays the same."""
    qualify_queries: int = 500
    """Judged dev queries, or own queries where there are none, on which the teacher is compared with the student."""
    token_budget: Annotated[int, Resource()] = 16384
    """Tokens scored at once, padding included."""


def run(config: Config, job: Job) -> None:
    """Qualifies the teacher, then scores bucket by bucket."""
    teacher = Scorer(config, job)
    found = qualification(teacher, config, job)
    if job.shard.index == 0:  # every shard finds the same
        job.facts["qualification"] = found.as_fact()
    if not found.qualified and not config.teacher.force:
        raise UserError(
            f"the teacher is not better than the student: {found.reason} ({found.judged} judgements, {found.queries} "
            "queries); choose another teacher or set teacher.force: true"
        )
    candidates = {row["query_id"]: row["doc_ids"] for row in job.table("candidates").read().to_pylist()}
    with task("score: teacher", len(candidates), "queries") as progress:
        for bucket in job.buckets("queries", by="query_id"):
            rows = [row for row in bucket.rows.to_pylist() if row["query_id"] in candidates]
            lists = [candidates[row["query_id"]][: config.depth] for row in rows]
            scores = teacher.score(rows, lists, early_exit=config.early_exit)
            _write(job, bucket.number, rows, lists, scores)
            progress.advance(len(rows))


class Scorer:
    """A teacher over the documents of this job, whichever kind it is."""

    def __init__(self, config: Config, job: Job) -> None:
        from hone.backends import load
        from hone.backends.encoder import Encoder, encode_docs

        self.config, self.job = config, job
        self.ids, self.vectors = encode_docs(job, config.student, config.student.model, "score: encode docs")
        self.encoder = Encoder(job.source(config.student.model), config.student)
        self.place = {doc_id: position for position, doc_id in enumerate(self.ids)}
        docs = job.table("docs").read(["title", "text"])
        pairs = zip(docs["title"].to_pylist(), docs["text"].to_pylist(), strict=True)
        self.texts = [doc_text(title, text) for title, text in pairs]
        backend = load("teacher", config.teacher.kind)
        if backend.pairwise:
            self.teacher = _cross_encoder(backend, config, job)
            identity = f"{job.digest(config.teacher.model)} {config.teacher.max_tokens}"
            self.memo = job.memo("scores", identity, pa.float32())
        else:
            self.teacher = backend(config.teacher, self.texts, self.vectors)

    def score(
        self, queries: Sequence[dict[str, Any]], lists: Sequence[Sequence[str]], *, early_exit: bool
    ) -> list[np.ndarray | None]:
        """The scores of every list, or None for a query whose source is outscored (only with early exit)."""
        texts = [str(query["text"]) for query in queries]
        self.job.cost["pairs_exhaustive"] += sum(map(len, lists))
        if not self.teacher.pairwise:
            places = [np.array([self.place[doc_id] for doc_id in ids], dtype=np.int64) for ids in lists]
            self.job.cost["pairs"] += sum(map(len, lists))
            return list(self.teacher.score_lists(texts, self.encoder.queries(texts), places)) if texts else []
        sources = [str(query.get("doc_id", "")) if early_exit else "" for query in queries]
        return score_in_waves(lists, sources, lambda pairs: self._pairs(texts, lists, pairs))

    def _pairs(
        self, texts: Sequence[str], lists: Sequence[Sequence[str]], pairs: Sequence[tuple[int, int]]
    ) -> np.ndarray:
        self.job.cost["pairs"] += len(pairs)
        queries = [texts[query] for query, _ in pairs]
        docs = [self.texts[self.place[lists[query][at]]] for query, at in pairs]

        def work(at: list[int]) -> pa.Array:
            return pa.array(self.teacher.score_pairs([queries[i] for i in at], [docs[i] for i in at]), pa.float32())

        keys = [f"{query}\0{doc}" for query, doc in zip(queries, docs, strict=True)]
        return self.memo.compute(keys, work, chunk=4096).to_numpy()


def qualification(teacher: Scorer, config: Config, job: Job) -> Qualification:
    """Teacher against student: re-ranking the student's top documents for dev queries, or for its own queries.

    Without judgements a query's source document is taken as its one relevant document.
    """
    queries, relevant, judged = _judged(job)
    if not queries:
        queries, relevant, judged = _own(job, config)
    order = np.random.default_rng(config.seed).permutation(len(queries))[: config.qualify_queries]
    chosen = [queries[at] for at in sorted(order)]
    lists = _student_lists(teacher, [str(query["text"]) for query in chosen], config.depth)
    scores = teacher.score(chosen, lists, early_exit=False)
    kept = [part for part in scores if part is not None]
    flaw = flaw_of(kept)
    if not chosen:
        return Qualification("none", PRIMARY, 0.0, 0.0, 0, False, "there are no queries to compare them on")
    gains = [relevant[str(query["query_id"])] for query in chosen]
    ranked = [trec_order(ids, values.tolist())[0] for ids, values in zip(lists, kept, strict=True)]
    before, after = (effectiveness(rankings, gains)[PRIMARY] for rankings in (lists, ranked))
    return qualify(judged, PRIMARY, before, after, flaw)


def _judged(job: Job) -> tuple[list[dict[str, Any]], dict[str, dict[str, int]], str]:
    queries = [row for row in job.table("judged_queries").read().to_pylist() if row["split"] == "dev"]
    relevant: dict[str, dict[str, int]] = {str(row["query_id"]): {} for row in queries}
    for row in job.table("qrels").read().to_pylist():
        if row["query_id"] in relevant:
            relevant[row["query_id"]][row["doc_id"]] = row["relevance"]
    return [{"query_id": row["query_id"], "text": row["text"]} for row in queries], relevant, "human"


def _own(job: Job, config: Config) -> tuple[list[dict[str, Any]], dict[str, dict[str, int]], str]:
    """Search-like own queries with their source documents; queries that copy a span would flatter word matching."""
    rows = [row for row in job.table("queries").read().to_pylist() if row["doc_id"]]
    return rows, {str(row["query_id"]): {row["doc_id"]: 1} for row in rows}, "synthetic"


def _student_lists(teacher: Scorer, texts: Sequence[str], depth: int) -> list[list[str]]:
    from hone.backends.search import top_k

    positions, _ = top_k(teacher.encoder.queries(texts), teacher.vectors, depth)
    return [[teacher.ids[position] for position in row] for row in positions]


def _cross_encoder(backend: Any, config: Config, job: Job) -> Any:
    if not config.teacher.model:
        raise UserError("teacher.model: name the folder of the cross-encoder")
    return backend(job.source(config.teacher.model), config.teacher.max_tokens, config.token_budget)


def _write(
    job: Job, bucket: int, rows: Sequence[dict[str, Any]], lists: Sequence[Sequence[str]],
    scores: Sequence[np.ndarray | None],
) -> None:  # fmt: skip
    kept: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    for row, ids, values in zip(rows, lists, scores, strict=True):
        if values is None:
            lost.append({"id": row["query_id"], "stage": "score", "reason": OUTSCORED, "detail": row["doc_id"]})
            continue
        order = np.lexsort((np.array(ids), -values))
        ordered = {"doc_ids": [ids[at] for at in order], "scores": values[order].tolist()}
        kept.append({"query_id": row["query_id"], **ordered})
    with job.writer("teacher_scores", bucket) as writer:
        writer.write(tables.TEACHER_SCORES.build(kept))
    with job.writer("dropped_by_score", bucket) as writer:
        writer.write(tables.DROPPED_BY_SCORE.build(lost))
