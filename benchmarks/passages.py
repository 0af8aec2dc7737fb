"""What is lost of documents that are longer than what the student reads: beginnings beside passages of them all.

    python benchmarks/passages.py COLLECTION... [--words 150] [--overlap 40] [--store DIR]

The untrained student, alone and fused with BM25 over whole documents by the weight that dev (or train) queries
choose. Once a document is what the student reads of it; once it is cut into passages of so many words, each under the
document's title, and the one nearest to the query counts. Prints nDCG@10 on test queries. Vectors are kept in the
store.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import quality

from hone import settings
from hone.backends import encoders, search
from hone.context import Job, Plan, Shard
from hone.core.text import Chunking, windows, words_of
from hone.evaluation.hybrid import best_weight, fused
from hone.evaluation.metrics import PRIMARY, effectiveness
from hone.evaluation.rankings import Ranking, answer
from hone.evaluation.test_collections import Judged, answered, themselves, with_documents
from hone.inputs import readers
from hone.results.table_io import Docs
from hone.scratch import scratch_folder
from hone.stages import evaluate
from hone.storage.addresses import open_store

DEPTH = 100


@dataclass
class Passages:
    """The passages of documents, each by its document's id, as rows of the table docs."""

    docs: Docs
    chunking: Chunking

    def __post_init__(self) -> None:
        self.rows = sum(batch.num_rows for batch in self.batches())

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        for batch in self.docs.batches(["doc_id", "title", "text"]):
            cut = [
                {**row, "text": text}
                for row in batch.to_pylist()
                for text in [*windows(words_of([row["text"]], self.chunking.chars), self.chunking)] or [""]
            ]
            yield pa.RecordBatch.from_pylist(cut, batch.schema)


def main() -> int:
    parser = quality.options(__doc__, seeds="17", store="build/passages")
    parser.add_argument("--words", type=int, default=150)
    parser.add_argument("--overlap", type=int, default=40)
    given = parser.parse_args()
    given.log, store = False, open_store(given.store)
    chunking = Chunking(given.words, given.overlap, chars=100_000)
    print("| collection | searched | rows | alone | + BM25 | BM25's weight |\n|---|---|--:|--:|--:|--:|")
    for folder in given.collections:
        checked = settings.check(quality.run_settings("passages", folder, 17, given), "passages", Path.cwd())
        config = checked.stages["evaluate"]
        assert isinstance(config, evaluate.Config)
        with scratch_folder() as scratch:
            job = Job(Plan("evaluate", config, {}, {}, ""), store, scratch, Shard())
            layout = readers.layout(folder)
            dev = next(split for split in ("dev", "train") if split in layout.qrels)
            judged = {
                split: themselves(with_documents(answered(layout, split), split, "domain", scratch / split))
                for split in (dev, "test")
            }
            docs = judged["test"].docs  # the same for both
            encoder = encoders.Encoder(job.source(config.student.model), config.student)
            told = encoders.reading(encoder, docs)
            lengths = f"{told.longer:.0%} longer than {told.limit} tokens, {told.unread:.0%} of the text beyond"
            lexical = by_bm25(judged, docs)
            for way, rows in (("their beginnings", docs), ("the best passage", Passages(docs, chunking))):
                dense = by_student(judged, rows, encoder, job)
                weight = best_weight(dense[dev], lexical[dev], judged[dev].judgements, DEPTH)
                both = [fused(*pair, DEPTH, weight) for pair in zip(dense["test"], lexical["test"], strict=True)]
                alone, together = (ndcg(found, judged["test"]) for found in (dense["test"], both))
                print(
                    f"| {folder.name}: {lengths} | {way} | {rows.rows:,} | {alone:.3f} | {together:.3f} | {weight} |",
                    flush=True,
                )
    return 0


def by_student(
    judged: Mapping[str, Judged], rows: Docs, encoder: encoders.Encoder, job: Job
) -> dict[str, list[Ranking]]:
    """What every query of each split finds: a document by the nearest of its rows, which stand together."""
    row_ids, vectors = encoders.encode_by(job, encoder, "encode docs", rows)
    starts = [at for at, doc_id in enumerate(row_ids) if at == 0 or doc_id != row_ids[at - 1]]
    ids = [row_ids[at] for at in starts]
    found: dict[str, list[Ranking]] = {}
    for split, one in judged.items():
        queries = encoders.encode_queries(job, encoder, "encode queries", one.texts)
        nearest = (np.maximum.reduceat(vectors @ query, starts) for query in queries)
        found[split] = [best(one, at, ids, scores) for at, scores in enumerate(nearest)]
    return found


def by_bm25(judged: Mapping[str, Judged], docs: Docs) -> dict[str, list[Ranking]]:
    """What every query of each split finds by its words."""
    ids, index = search.index_of(docs)
    return {
        split: [best(one, at, ids, index.scores(text)) for at, text in enumerate(one.texts)]
        for split, one in judged.items()
    }


def best(judged: Judged, at: int, ids: list[str], scores: np.ndarray) -> Ranking:
    """The first documents by their scores [n]."""
    places = np.argsort(-scores, kind="stable")[: DEPTH + 1]
    return answer(judged, at, [ids[place] for place in places], scores[places].tolist(), DEPTH)


def ndcg(found: list[Ranking], judged: Judged) -> float:
    return float(effectiveness([one.doc_ids for one in found], judged.judgements)[PRIMARY].mean())


if __name__ == "__main__":
    sys.exit(main())
