"""prepare of a large corpus, against a bare read of the same file by pyarrow and by polars.

    OMP_NUM_THREADS=1 python benchmarks/prepare.py FOLDER [--docs 1000000] [--keep made.jsonl]

FOLDER is a collection in BEIR layout. The corpus is made of its texts: each document is a run of real sentences drawn
from it with a number of its own, and one in ten repeats an earlier one word by word. Every side is a process of its
own. Seconds are processor time, MB are the most that the process held (resident), both without its imports. The bare
reads parse the lines into columns and do nothing with them; prepare also checks ids, flattens, finds duplicates and
writes its tables with their digests. It must drop exactly the documents that were repeated.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

from rich.console import Console
from rich.table import Table

from hone.inputs import readers

SENTENCE = re.compile(r"(?<=[.?!])\s+")
WORDS = 60
REPEATED = 10
"""One in so many documents says what an earlier one says."""
KEPT = 1_000
"""Earlier documents, of which one is repeated."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="where the corpus that is made stays")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-prepare-") as folder:
        scratch = Path(folder)
        corpus = options.keep or scratch / "corpus.jsonl"
        repeated = make(options.folder, corpus, options.docs)
        sides = {"pyarrow, bare read": by_pyarrow, "polars, bare read": by_polars, "hone prepare": by_hone}
        figures = {name: measured(side, corpus, scratch / name.partition(",")[0]) for name, side in sides.items()}
    ours = figures["hone prepare"]
    found = Table("side", "rows", "seconds", "rows a second", "prepare takes", "MB", "prepare holds")
    for name, (rows, seconds, held) in figures.items():
        ratios = f"{ours[1] / seconds:.1f}x", f"{ours[2] / held:.1f}x"
        found.add_row(
            name, f"{rows:,}", f"{seconds:.1f}", f"{rows / seconds:,.0f}", ratios[0], f"{held:,.0f}", ratios[1]
        )
    Console(width=120).print(found)
    exact = ours[0] == options.docs - repeated
    print(f"{repeated:,} documents were repeated; prepare keeps {ours[0]:,} of {options.docs:,}")
    return int(not exact)


def make(folder: Path, path: Path, docs: int, seed: int = 17) -> int:
    """Writes a corpus of so many documents and says how many of them repeat another."""
    draw = random.Random(seed)
    source = (f"{row.get('text') or ''}" for _, row in readers.rows(folder / "corpus.jsonl"))
    sentences = [one for text in source for one in SENTENCE.split(" ".join(text.split())) if len(one.split()) > 3]
    earlier, repeated = list[str](), 0
    with path.open("w", encoding="utf-8") as file:
        for number in range(docs):
            if earlier and number % REPEATED == REPEATED - 1:
                text, repeated = draw.choice(earlier), repeated + 1
            else:
                text = f"{' '.join(_drawn(sentences, draw))} Reference {number}."
                earlier[number % KEPT : number % KEPT + 1] = [text]
            file.write(json.dumps({"_id": f"doc-{number}", "title": "", "text": text}, ensure_ascii=False) + "\n")
    return repeated


def _drawn(sentences: list[str], draw: random.Random) -> Iterator[str]:
    words = 0
    while words < WORDS:
        one = draw.choice(sentences)
        words += len(one.split())
        yield one


Side = Callable[[Path, Path], Callable[[], int]]
"""Imports what it needs for a corpus and a scratch folder, and returns what is measured, which says how many rows there
are."""


def by_pyarrow(corpus: Path, scratch: Path) -> Callable[[], int]:
    import pyarrow.json

    return lambda: pyarrow.json.read_json(corpus, pyarrow.json.ReadOptions(use_threads=False)).num_rows


def by_polars(corpus: Path, scratch: Path) -> Callable[[], int]:
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars

    return lambda: polars.read_ndjson(corpus).height


def by_hone(corpus: Path, scratch: Path) -> Callable[[], int]:
    from hone.context import Shard
    from hone.engine.execute import execute
    from hone.engine.plan import plan
    from hone.stages import stage
    from hone.storage.local import LocalStore

    config = stage("prepare").Config.model_validate({"corpus": str(corpus)})

    def run() -> int:
        for name in ("work", "store"):
            (scratch / name).mkdir(parents=True)
        todo = plan("prepare", config, {}, scratch / "work")
        manifest, _ = execute(todo, LocalStore(scratch / "store"), scratch / "work", Shard())
        return manifest.outputs["docs"].rows

    return run


def measured(side: Side, corpus: Path, scratch: Path) -> tuple[int, float, float]:
    """Rows, seconds and MB of a side in a process of its own."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measure, args=(side, corpus, scratch, theirs))
    process.start()
    theirs.close()
    rows, seconds, held = ours.recv()
    process.join()
    return rows, seconds, held


def _measure(side: Side, corpus: Path, scratch: Path, answer: Connection) -> None:
    work = side(corpus, scratch)
    before, started = getrusage(RUSAGE_SELF).ru_maxrss, time.process_time()
    rows = work()
    seconds = time.process_time() - started
    answer.send((rows, seconds, max(1.0, (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024)))


if __name__ == "__main__":
    raise SystemExit(main())
