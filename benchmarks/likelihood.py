"""What it saves a language model that judges to take the pairs of one document together.

    OMP_NUM_THREADS=1 python benchmarks/likelihood.py COLLECTION JUDGE [--queries 8] [--docs 64]

Every query with every document, as when a teacher is qualified, in the portions in which scores are kept: query by
query, where no two pairs of a portion share a document if there are as many documents as it has pairs, and document by
document. Seconds are of the processor. The scores must be the same bits.
"""

import argparse
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hone.backends.encoders.families import doc_text
from hone.backends.teachers.query_likelihood import QueryLikelihood
from hone.backends.teachers.settings import OneTeacher
from hone.inputs import readers

TOKEN_BUDGET = 16_384


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("judge", type=Path)
    parser.add_argument("--queries", type=int, default=8)
    parser.add_argument("--docs", type=int, default=64)
    given = parser.parse_args()
    docs = [doc_text(row.get("title", ""), row["text"]) for row in rows(given.collection / "corpus.jsonl", given.docs)]
    queries = [row["text"] for row in rows(given.collection / "queries.jsonl", given.queries)]
    pairs = [(query, doc) for query in queries for doc in docs]
    judge = QueryLikelihood(
        OneTeacher(kind="query_likelihood", model=str(given.judge), precision="auto"), given.judge, TOKEN_BUDGET
    )
    by_query = list(range(len(pairs)))
    by_document = sorted(by_query, key=lambda at: at % len(docs))
    slow, took = scored(judge, pairs, by_query)
    fast, took_less = scored(judge, pairs, by_document)
    words = sum(len(doc.split()) for doc in docs) / len(docs)
    print(f"{len(pairs):,} pairs of {len(queries)} queries and {len(docs)} documents of {words:.0f} words")
    print(f"query by query {took:.0f} s, document by document {took_less:.0f} s: {took / took_less:.1f} times as fast")
    print("the same scores" if np.array_equal(slow, fast) else "OTHER SCORES")
    return 0


def rows(file: Path, most: int) -> list[dict[str, Any]]:
    return [row for _, row in itertools.islice(readers.rows(file), most)]


def scored(judge: QueryLikelihood, pairs: Sequence[tuple[str, str]], order: Sequence[int]) -> tuple[np.ndarray, float]:
    """[n] scores of the pairs taken in an order, and the seconds."""
    scores = np.zeros(len(pairs), dtype=np.float32)
    started = time.process_time()
    for start in range(0, len(order), judge.pairs_at_once):
        part = list(order[start : start + judge.pairs_at_once])
        scores[part] = judge.score_pairs([pairs[at][0] for at in part], [pairs[at][1] for at in part])
    return scores, time.process_time() - started


if __name__ == "__main__":
    sys.exit(main())
