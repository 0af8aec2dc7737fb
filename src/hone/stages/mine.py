"""mine: finds, with the student about to be tuned, what each query must be distinguished from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from hone import launch, tables
from hone.backends import BACKENDS, distributed, encoders, load, search
from hone.backends.encoders.families import BiEncoder, Student, doc_text
from hone.backends.search.settings import Search
from hone.config import Resource, StageConfig
from hone.context import Job
from hone.core.duplicate_queries import Query, repeats
from hone.core.fusion import reciprocal_rank_fusion
from hone.core.rejection import Rejection, note_drop
from hone.progress import task
from hone.results.table_io import TableReader
from hone.spent import growing
from hone.tables import PEOPLE

IMAGE = "train"
READS = ("docs", "queries")
WRITES = ("candidates", "dropped_by_mine")
QUERIES_AT_ONCE = 2_048
HELD_OUT = "held-out document"
HELD_OUT_SOURCE = "made from a held-out document"
NOT_RETRIEVED = "source document not retrieved near the top"


class Retriever(BiEncoder):
    """A further retriever whose rankings are fused with the student's."""

    weight: float = Field(default=1.0, gt=0)
    """Its share beside the others' in reciprocal rank fusion."""


class Config(StageConfig):
    """Settings of mine."""

    together: ClassVar[bool] = True
    student: Student
    """The retriever that is specialised: it mines its own hard negatives."""
    top_k: int = Field(default=100, ge=1)
    """Documents retrieved for each query."""
    consistency_rank: int = Field(default=20, ge=0)
    """The round trip: a query is kept only if the student or BM25 retrieves its source document at this rank or better;
    0 keeps all."""
    consistency_bm25: bool = True
    """BM25 looks for the source document where the student does not find it; its index holds the words of all documents
    in memory."""
    fuse_bm25: bool = False
    """Fuse the student's ranking with BM25's by reciprocal rank."""
    retrievers: tuple[Retriever, ...] = ()
    """Further retrievers to fuse with: a weak student finds hard negatives with the help of strong ones."""
    rrf_k: int = Field(default=60, ge=0)
    """The constant of reciprocal rank fusion."""
    student_weight: float = Field(default=1.0, ge=0)
    """The student's share in reciprocal rank fusion."""
    bm25_weight: float = Field(default=1.0, gt=0)
    """BM25's share in reciprocal rank fusion."""
    first_rank: int = Field(default=1, ge=1)
    """Documents ranked before this are left out, the source excepted, and are not negatives in training either: the
    nearest may be unmarked answers."""
    positive_margin: float = Field(default=0.0, ge=0, le=1)
    """Documents whose cosine with the query is above this share of the source's are left out as likely answers (0.95
    is usual), and are not negatives in training either; 0 leaves out none. Queries without a source keep all."""
    near_duplicate: float = Field(default=0.8, ge=0, le=1)
    """A language model's query is dropped if it shares this much of its letter sequences (Jaccard) with another of
    its; 0 drops none. Of queries that read alike, whatever made them, one is kept in any case, people's first."""
    search: Search = Search()
    """How the nearest documents are found."""
    token_budget: Annotated[int, Resource()] = Field(default=8192, ge=1)
    """Tokens encoded at once, padding included."""


def run(config: Config, job: Job) -> None:
    """Mines every query, block by block: only ids and vectors are held. Helpers encode their share of the documents."""
    retrievers = (config.student, *config.retrievers)
    with distributed.joined():
        views = [encoders.View(job, one, "mine: encode docs", config.token_budget) for one in retrievers]
    if launch.is_helper():
        return
    job.facts["reading"] = encoders.reading(views[0].encoder, job.table("docs"))._asdict()
    miner = Miner(config, job, views[0].ids)
    index = load("search", config.search.kind)
    with growing("docs"):
        indexes = [index(view.vectors, miner.allowed, config.search) for view in views]
    queries = job.table("queries")
    with growing("queries"):
        repeated = repeats(partial(_as_asked, queries), config.near_duplicate)
    with (
        task("mine: search", queries.rows, "queries") as progress,
        job.writer("candidates") as candidates,
        job.writer("dropped_by_mine") as dropped,
    ):
        with growing("docs"):
            dropped.write(miner.held_out())
        for block in _blocks(queries.batches()):
            rows, gone = _without(block, repeated, job)
            dropped.write(gone)
            texts = rows["text"].to_pylist()
            embedded = [view.queries(texts) for view in views]
            nearest = [index.top_k(vectors, config.top_k) for vectors, index in zip(embedded, indexes, strict=True)]
            kept, lost = miner.mine(rows, nearest, partial(_cosines, views[0].vectors, embedded[0]))
            _note_lost(rows, lost, job)
            candidates.write(kept)
            dropped.write(lost)
            progress.advance(block.num_rows)
    job.cost["queries"] += queries.rows


def _as_asked(queries: TableReader) -> Iterator[Query]:
    for batch in queries.batches(["query_id", "text", "source"]):
        for query_id, text, source in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            by_model = source in BACKENDS["generator"]
            yield Query(query_id, text, 0 if source in PEOPLE else 1 if by_model else 2, by_model)


def _without(rows: pa.Table, repeated: Mapping[str, Rejection], job: Job) -> tuple[pa.Table, pa.Table]:
    """Queries that repeat none, and rows of dropped_by_mine for the others, which the facts count by style."""
    ids = rows["query_id"].to_pylist()
    chosen = np.array([query_id not in repeated for query_id in ids], dtype=bool)
    gone = rows.filter(pa.array(~chosen)).select(["query_id", "source", "style"]).to_pylist()
    for row in gone:
        note_drop(job.facts, row["source"], row["style"], repeated[row["query_id"]])
    lost = ((query_id, repeated[query_id]) for query_id in (row["query_id"] for row in gone))
    drops = tables.dropped("mine", ((query_id, fault.reason, fault.detail) for query_id, fault in lost))
    return rows.filter(pa.array(chosen)), drops


def _note_lost(rows: pa.Table, lost: pa.Table, job: Job) -> None:
    """Counts by style what the round trip lost, with examples."""
    details = {row["id"]: row["detail"] for row in lost.to_pylist() if row["reason"] == NOT_RETRIEVED}
    for row in rows.select(["query_id", "text", "source", "style"]).to_pylist() if details else ():
        if row["query_id"] in details:
            said = f"{details[row['query_id']]}: {row['text']}"
            note_drop(job.facts, row["source"], row["style"], Rejection(NOT_RETRIEVED, said))


Found = tuple[np.ndarray, np.ndarray]
"""What one retriever found for a block of queries: positions and scores, both [q, k], best first."""
Cosines = Callable[[int, list[int]], np.ndarray]
"""A query's place in its block and positions of documents to the student's cosines of those."""


class Miner:
    """The lists of a block of queries, from what the retrievers found."""

    @growing("docs")
    def __init__(self, config: Config, job: Job, ids: list[str]) -> None:
        self.config, self.ids = config, ids
        self.place = {doc_id: position for position, doc_id in enumerate(ids)}
        self.allowed = ~np.array(job.table("docs").read(["held_out"])["held_out"].to_pylist(), dtype=bool)
        self.job = job

    @cached_property
    def bm25(self) -> "search.BM25":
        """The index over all documents, made when it is first needed."""
        return _bm25(self.job)

    def held_out(self) -> pa.Table:
        """Rows of dropped_by_mine: the documents that no list may hold."""
        ids = [self.ids[place] for place in np.flatnonzero(~self.allowed)]
        return tables.dropped("mine", ((doc_id, HELD_OUT, "in no list") for doc_id in ids))

    def mine(self, rows: pa.Table, nearest: Sequence[Found], cosines: Cosines) -> tuple[pa.Table, pa.Table]:
        """Queries [q] with what each retriever found, the student first, to rows of candidates and dropped_by_mine."""
        kept: list[dict[str, object]] = []
        lost: list[tuple[str, str, str]] = []
        columns = (rows[name].to_pylist() for name in ("query_id", "text", "doc_id"))
        for at, (query_id, text, doc_id) in enumerate(zip(*columns, strict=True)):
            ranking, values = self._ranking(text, at, nearest)
            source = self.place.get(doc_id, -1)
            if source >= 0 and not self.allowed[source]:
                lost.append((query_id, HELD_OUT_SOURCE, doc_id))
            elif self._comes_back(text, doc_id, source, [positions[at].tolist() for positions, _ in nearest]):
                chosen = self._chosen(ranking, source, partial(cosines, at))
                within = set(chosen)
                names = [self.ids[position] for position in ranking]
                row = {"doc_ids": [names[place] for place in chosen], "scores": [values[place] for place in chosen]}
                likely = [names[place] for place in range(len(names)) if place not in within]
                kept.append({"query_id": query_id, **row, "likely": likely})
            else:
                lost.append((query_id, NOT_RETRIEVED, _said(rank_of(source, ranking), self.config.top_k)))
        return tables.CANDIDATES.build(kept), tables.dropped("mine", lost)

    def _comes_back(self, text: str, doc_id: str, source: int, rankings: Sequence[list[int]]) -> bool:
        """Whether a retriever, or BM25, finds the source near the top. A query without a source has no such test."""
        limit = self.config.consistency_rank
        if not doc_id or not limit or any(source in ranking[:limit] for ranking in rankings):
            return True
        return self.config.consistency_bm25 and source in self.bm25.top_k(text, limit, self.allowed)

    def _ranking(self, text: str, at: int, nearest: Sequence[Found]) -> tuple[list[int], list[float]]:
        rankings = [positions[at].tolist() for positions, _ in nearest]
        weights = [self.config.student_weight, *(retriever.weight for retriever in self.config.retrievers)]
        if self.config.fuse_bm25:
            rankings.append(self.bm25.top_k(text, self.config.top_k, self.allowed).tolist())
            weights.append(self.config.bm25_weight)
        if len(rankings) == 1:
            return rankings[0], nearest[0][1][at].tolist()
        fused = reciprocal_rank_fusion(rankings, self.config.rrf_k, weights)[: self.config.top_k]
        return [position for position, _ in fused], [score for _, score in fused]

    def _chosen(self, ranking: list[int], source: int, cosines: Callable[[list[int]], np.ndarray]) -> list[int]:
        """Places in a ranking that are in the rank window and not likely answers; the source's always is."""
        margin = self.config.positive_margin
        window = range(self.config.first_rank - 1, len(ranking))
        if not margin or source < 0:
            return [at for at in range(len(ranking)) if at in window or ranking[at] == source]
        values, limit = cosines(ranking), margin * cosines([source])[0]
        likely = (values > limit) & (np.array(ranking) != source)
        return [at for at in range(len(ranking)) if (at in window and not likely[at]) or ranking[at] == source]


def _cosines(docs: np.ndarray, queries: np.ndarray, at: int, places: list[int]) -> np.ndarray:
    return docs[places] @ queries[at]


def rank_of(position: int, ranking: Sequence[int]) -> int:
    """1-based rank, 0 if it is not there."""
    return ranking.index(position) + 1 if position in ranking else 0


def _said(rank: int, top: int) -> str:
    return f"rank {rank}" if rank else f"not in the top {top}"


def _bm25(job: Job) -> "search.BM25":
    kind = search.BM25
    with growing("docs"):
        docs = job.table("docs").read(["title", "text"])
        return kind([doc_text(*pair) for pair in zip(docs["title"].to_pylist(), docs["text"].to_pylist(), strict=True)])


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in batches:
        for start in range(0, batch.num_rows, QUERIES_AT_ONCE):
            yield pa.Table.from_batches([batch.slice(start, QUERIES_AT_ONCE)])
