"""mine: finds, with the student about to be tuned, what each query must be told apart from."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa

from hone import tables
from hone.core.families import Student, doc_text
from hone.core.fusion import reciprocal_rank_fusion
from hone.progress import task
from hone.stage import Job, Resource, StageConfig

if TYPE_CHECKING:
    from hone.backends.bm25 import BM25

IMAGE = "train"
READS = ("docs", "queries")
WRITES = ("candidates", "dropped_by_mine")
QUERIES_AT_ONCE = 2_048


class Config(StageConfig):
    """Settings of mine."""

    student: Student
    """The retriever that is specialised: it mines its own hard negatives."""
    top_k: int = 100
    """Documents retrieved for each query."""
    consistency_rank: int = 20
    """A query is kept only if its source document is retrieved at this rank or better; 0 keeps all."""
    fuse_bm25: bool = False
    """Fuse the student's ranking with BM25's by reciprocal rank."""
    rrf_k: int = 60
    """The constant of reciprocal rank fusion."""
    token_budget: Annotated[int, Resource()] = 8192
    """Tokens encoded at once, padding included."""


def run(config: Config, job: Job) -> None:
    """Mines every query, block by block: only ids and vectors are held."""
    from hone.backends.encoder import Encoder, encode_docs
    from hone.backends.search import top_k

    ids, vectors = encode_docs(job, config.student, config.student.model, "mine: encode docs", config.token_budget)
    encoder = Encoder(job.source(config.student.model), config.student, token_budget=config.token_budget)
    miner = Miner(config, job, ids)
    queries = job.table("queries")
    with (
        task("mine: search", queries.rows, "queries") as progress,
        job.writer("candidates") as candidates,
        job.writer("dropped_by_mine") as dropped,
    ):
        for rows in _blocks(queries.batches()):
            texts = rows["text"].to_pylist()
            positions, scores = top_k(encoder.queries(texts), vectors, config.top_k, miner.allowed)
            kept, lost = miner.mine(rows, positions, scores)
            candidates.write(kept)
            dropped.write(lost)
            progress.advance(len(texts))
    job.cost["queries"] += queries.rows


class Miner:
    """The lists of a block of queries, from what the student retrieved."""

    def __init__(self, config: Config, job: Job, ids: list[str]) -> None:
        self.config, self.ids = config, ids
        self.place = {doc_id: position for position, doc_id in enumerate(ids)}
        self.allowed = ~np.array(job.table("docs").read(["held_out"])["held_out"].to_pylist(), dtype=bool)
        self.bm25 = _bm25(job) if config.fuse_bm25 else None

    def mine(self, rows: pa.Table, positions: np.ndarray, scores: np.ndarray) -> tuple[pa.Table, pa.Table]:
        """Queries [q] with retrieved positions and scores [q, k] to rows of candidates and of dropped_by_mine."""
        kept: list[dict[str, object]] = []
        lost: list[dict[str, object]] = []
        columns = (rows[name].to_pylist() for name in ("query_id", "text", "doc_id"))
        for at, (query_id, text, doc_id) in enumerate(zip(*columns, strict=True)):
            found, values = self._ranking(text, positions[at].tolist(), scores[at].tolist())
            rank = rank_of(self.place.get(doc_id, -1), found)
            if is_consistent(doc_id, rank, self.config.consistency_rank):
                names = [self.ids[position] for position in found]
                kept.append({"query_id": query_id, "doc_ids": names, "scores": values})
            else:
                lost.append(_drop(query_id, rank, self.config))
        return tables.CANDIDATES.build(kept), tables.DROPPED_BY_MINE.build(lost)

    def _ranking(self, text: str, positions: list[int], scores: list[float]) -> tuple[list[int], list[float]]:
        if self.bm25 is None:
            return positions, scores
        lexical = self.bm25.top_k(text, self.config.top_k, self.allowed).tolist()
        fused = reciprocal_rank_fusion([positions, lexical], self.config.rrf_k)[: self.config.top_k]
        return [position for position, _ in fused], [score for _, score in fused]


def is_consistent(source: str, rank: int, limit: int) -> bool:
    """Whether a query finds its source document at `limit` or better (rank 0: not at all).

    Queries from a log have no source and are kept; a limit of 0 keeps all.
    """
    return not source or not limit or 1 <= rank <= limit


def rank_of(position: int, ranking: Sequence[int]) -> int:
    """1-based rank, 0 if it is not there."""
    return ranking.index(position) + 1 if position in ranking else 0


def _drop(query_id: str, rank: int, config: Config) -> dict[str, object]:
    detail = f"rank {rank}" if rank else f"not in the top {config.top_k}"
    return {"id": query_id, "stage": "mine", "reason": "source document not retrieved near the top", "detail": detail}


def _bm25(job: Job) -> "BM25":
    from hone.backends.bm25 import BM25

    docs = job.table("docs").read(["title", "text"])
    return BM25([doc_text(*pair) for pair in zip(docs["title"].to_pylist(), docs["text"].to_pylist(), strict=True)])


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    for batch in batches:
        for start in range(0, batch.num_rows, QUERIES_AT_ONCE):
            yield pa.Table.from_batches([batch.slice(start, QUERIES_AT_ONCE)])
