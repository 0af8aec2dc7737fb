"""Peak memory of prepare, generate, mine and curate over corpora of growing size.

    python benchmarks/memory.py 10000 100000 1000000

Every stage runs through its one door in its own process, on synthetic short documents; the student of mine is a
tiny random model, whose vectors are small. Peak RSS counts the imports too: the column `start` is what they take.

    python benchmarks/memory.py --tokens 1000000

What the tokens of so many documents of 100 tokens take while distill reads batches of them: in memory, as lists, and in
a file. Here only what the process allocates counts (RssAnon): the system may take pages of the file back.

    OMP_NUM_THREADS=1 python benchmarks/memory.py --training FOLDER [--gb 0.5 1 2] [--token-budget 1024]

What training asks for (`distill.memory_gb`) against what its steps take: resident memory at its peak beyond what the
process holds at rest after a step that kept nothing, so that weights, optimiser and their gradients do not count. The
student has MiniLM's shape and random weights; lists are of documents of FOLDER, a collection in BEIR layout.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
DOCS_PER_QUERY = 20
ROWS = 8_192
TOKENS_PER_DOC, TEXTS_PER_BATCH, BATCHES = 100, 4_096, 10
ASKED = 2_000
LISTS, MIB = 6, 1 << 20
SMALL = 512
"""Tokens at once in the step after which the process is at rest."""
STAGES = ("prepare", "generate", "mine", "curate")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--stages", nargs="*", default=STAGES, choices=STAGES)
    parser.add_argument("--tokens", type=int, default=0, help="instead: documents whose tokens are held")
    parser.add_argument("--training", type=Path, help="instead: a collection, to train on its documents")
    parser.add_argument("--gb", type=float, nargs="*", default=[0.5, 1.0, 2.0], help="what is asked for in training")
    parser.add_argument("--token-budget", type=int, default=1_024, help="tokens of a micro-batch in training")
    options = parser.parse_args()
    if options.training:
        print(f"{'asked MB':>9} {'expected':>9} {'taken':>9} {'off':>6} {'kept':>6} {'s a step':>9}", flush=True)
        for gb in options.gb:
            print(measured(options.training, f"training-{options.token_budget}", round(gb * 1_024)), flush=True)
        return
    if options.tokens:
        print(f"{'docs':>10} {'tokens in':<10} {'MB':>9} {'write s':>9} {'read s':>9}", flush=True)
        for how in ("memory", "file"):
            print(f"{options.tokens:>10,} {how:<10} {measured(Path(), f'tokens-{how}', options.tokens)}", flush=True)
        return
    print(f"{'docs':>10} {'stage':<10} {'start MB':>9} {'peak MB':>9} {'seconds':>9}", flush=True)
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="hone-memory-") as folder:
            write_inputs(Path(folder), size)
            for stage in ("prepare", *(name for name in options.stages if name != "prepare")):
                print(f"{size:>10,} {stage:<10} {measured(Path(folder), stage, size)}", flush=True)


def write_inputs(folder: Path, size: int) -> None:
    with (folder / "corpus.jsonl").open("w") as file:
        file.writelines(f'{{"_id": "d{number}", "text": "{text_of(number)}"}}\n' for number in range(size))


WORDS = [f"word{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(600)]


def text_of(number: int) -> str:
    """Twelve words that depend on the number; no two numbers below 600 ** 12 give the same."""
    picks = np.random.default_rng(number).integers(0, len(WORDS), 12)
    return " ".join(WORDS[pick] for pick in picks)


def measured(folder: Path, stage: str, size: int) -> str:
    command = [sys.executable, __file__, "--child", str(folder), stage, str(size)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def hold_tokens(how: str, size: int) -> None:
    """Makes the tokens, reads some batches of them and prints what it took; seconds are processor time."""
    from search import Peak, allocated

    from hone.backends.encoders.tokens import IDS, Tokens

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, Peak() as peak:
        Tokens(Path(folder), [pa.array([[1]], IDS)])  # first calls
        before = peak.most = allocated()
        started = time.process_time()
        shapes = [(min(ROWS, size - start), TOKENS_PER_DOC) for start in range(0, size, ROWS)]
        pieces = (random.integers(0, 30_000, shape).tolist() for shape in shapes)
        inside = how == "memory"
        held = list(chain.from_iterable(pieces)) if inside else Tokens(Path(folder), (pa.array(p, IDS) for p in pieces))
        written = time.process_time()
        read = sum(len(held[place]) for _ in range(BATCHES) for place in random.integers(0, size, TEXTS_PER_BATCH))
        assert read == BATCHES * TEXTS_PER_BATCH * TOKENS_PER_DOC
        done = time.process_time()
    print(f"{peak.most - before:>9,.0f} {written - started:>9,.1f} {done - written:>9,.1f}")


def child(folder: Path, stage: str, size: int) -> None:
    """Runs one stage and prints what it took; what it reads is made by another process."""
    if stage.startswith("tokens-"):
        return hold_tokens(stage.removeprefix("tokens-"), size)
    if stage.startswith("training-"):
        return train_within(folder, size, int(stage.removeprefix("training-")))
    from hone.storage.local import LocalStore

    store = LocalStore(folder / "store")
    if stage == "curate" and not (folder / "scored").exists():
        (folder / "scored").touch()
        subprocess.run([sys.executable, __file__, "--child", str(folder), "scores", str(size)], check=True)
    if stage == "scores":
        write_scores(store, size)
        return
    from hone.engine.execute import execute
    from hone.engine.plan import plan
    from hone.scratch import scratch_folder
    from hone.stages import stage as module

    if stage == "mine":
        import tiny

        tiny.student(folder / "student", dim=16, layers=1, vocab_texts=WORDS)
        import hone.backends.encoders.encoder  # what it imports is not what it holds
        import hone.backends.search.exact  # noqa: F401
    before, started = peak(), time.monotonic()
    config = module(stage).Config.model_validate(settings_of(folder)[stage])
    with scratch_folder() as scratch:
        execute(plan(stage, config, inputs_of(store), scratch), store, scratch)
    print(f"{before:>9,.0f} {peak():>9,.0f} {time.monotonic() - started:>9,.1f}")


def train_within(folder: Path, megabytes: int, tokens: int) -> None:
    """Takes steps on lists of a collection's documents and prints what they take beside what was asked for."""
    import torch
    from distill import student

    from hone.backends.encoders.encoder import Encoder
    from hone.backends.encoders.families import Student, doc_text
    from hone.backends.training.batches import Example, make_batch
    from hone.backends.training.embedders import WholeModel
    from hone.backends.training.gradients import Gradients
    from hone.backends.training.loop import take_step
    from hone.backends.training.settings import TrainingSettings
    from hone.backends.training.state import State

    torch.set_num_threads(1)
    draw, settings = np.random.default_rng(17), TrainingSettings()
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open()]
    texts = [doc_text(row.get("title", ""), row["text"]) for row in rows]
    queries = [" ".join(text.split()[:12]) for text in texts[:LISTS]]
    with tempfile.TemporaryDirectory() as scratch:
        shape = argparse.Namespace(dim=384, layers=6, heads=12)
        made = student(Path(scratch), shape)
        encoder = Encoder(made, Student(model=str(made), max_doc_tokens=256))
    embedder = WholeModel(encoder, encoder.tokenize_docs(texts) + encoder.tokenize_queries(queries))
    scores = np.linspace(1, 0, DOCS_PER_QUERY, dtype=np.float32)
    lists = [draw.choice(len(texts), DOCS_PER_QUERY, replace=False) for _ in queries]
    examples = [Example(len(texts) + at, one, scores) for at, one in enumerate(lists)]
    few, all_of_them = (make_batch(some, encoder.device) for some in (examples[:1], examples))
    state = State(embedder.weights, settings)
    take_step(Gradients(embedder, settings.loss, SMALL, 0.0), few, state, settings, 0.0)
    rest = resident()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    gradients, started = Gradients(embedder, settings.loss, tokens, megabytes * MIB), time.process_time()
    take_step(gradients, all_of_them, state, settings, 0.0)
    seconds, taken = time.process_time() - started, peak() - rest
    kept, expected = gradients.kept / gradients.groups, gradients.expected / MIB
    off = f"{100 * (taken / megabytes - 1):+.0f}%"
    print(f"{megabytes:>9,} {expected:>9,.0f} {taken:>9,.0f} {off:>6} {kept:>6.0%} {seconds:>9.1f}")


def settings_of(folder: Path) -> Mapping[str, Mapping[str, object]]:
    return {
        "prepare": {"corpus": str(folder / "corpus.jsonl")},
        "generate": {"extractive": {"styles": {"search": 1}}, "max_docs": ASKED},
        "mine": {"student": {"model": str(folder / "student"), "max_doc_tokens": 16}, "consistency_rank": 0},
        "curate": {"outscored": "relabel"},
    }


def inputs_of(store: object) -> dict[str, object]:
    """Every table of every finished result in the store, the latest of each stage."""
    from hone.results.manifest import Manifest, load_manifest
    from hone.storage.local import LocalStore

    assert isinstance(store, LocalStore)
    paths = sorted(store.root.glob("*/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    found = [load_manifest(store, path.relative_to(store.root).as_posix()) for path in paths]
    return {name: manifest for manifest in found if isinstance(manifest, Manifest) for name in manifest.outputs}


def write_scores(store: object, size: int) -> None:
    """As many queries as documents with the scores of twenty documents each: what curate reads."""
    from hone.config import StageConfig
    from hone.context import Job, Plan, Shard
    from hone.engine.commit import commit, manifest_of
    from hone.scratch import scratch_folder
    from hone.storage.local import LocalStore

    assert isinstance(store, LocalStore)
    config = StageConfig()
    for name, table, batches in (
        ("generate", "queries", query_rows(size)),
        ("mine", "candidates", candidate_rows(size)),
        ("score", "teacher_scores", score_rows(size)),
    ):
        todo = Plan(name, config, {}, {}, "f" * 16)
        with scratch_folder() as scratch:
            job = Job(todo, store, scratch, Shard())
            with job.writer(table) as writer:
                for batch in batches:
                    writer.write(batch)
            outputs = {table: job.publish(table)}
            if name == "score":
                job.write_json("qualification", {"early_exit": False})
                outputs["qualification"] = job.publish("qualification")
        commit(store, f"{todo.prefix}/manifest.json", manifest_of(todo, outputs, {}, {}, 0.0))


def query_rows(size: int) -> Iterator[pa.Table]:
    from hone import tables

    for start in range(0, size, 8_192):
        numbers = range(start, min(start + 8_192, size))
        texts = [text_of(number)[:40] for number in numbers]
        ids, sources = [f"q{number}" for number in numbers], [f"d{number}" for number in numbers]
        yield tables.QUERIES.of(ids, texts, sources, ["x"] * len(ids), [f"style{number % 3}" for number in numbers])


def candidate_rows(size: int) -> Iterator[pa.Table]:
    from hone import tables

    for rows in score_rows(size):
        yield tables.CANDIDATES.of(*rows.columns, [["d0"]] * rows.num_rows)


def score_rows(size: int) -> Iterator[pa.Table]:
    from hone import tables

    for start in range(0, size, 8_192):
        numbers = range(start, min(start + 8_192, size))
        lists = [[f"d{(number + at * 7) % size}" for at in range(DOCS_PER_QUERY)] for number in numbers]
        draws = np.random.default_rng(start).normal(size=(len(lists), DOCS_PER_QUERY))
        scores = (-np.sort(-draws, axis=1)).astype(np.float32)
        yield tables.TEACHER_SCORES.of([f"q{number}" for number in numbers], lists, list(scores))


def peak() -> float:
    """Megabytes of memory this process has had at most. Unlike getrusage, this knows nothing of its parent."""
    return _status("VmHWM")


def resident() -> float:
    """Megabytes of memory this process has now."""
    return _status("VmRSS")


def _status(field: str) -> float:
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0]) / 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    else:
        main()
