"""A query log through generate: rows per second, against every row looked at by itself.

    OMP_NUM_THREADS=1 python benchmarks/query_log.py FOLDER [--rows 1000000] [--each 5000] [--only Zipf]

FOLDER is a collection in BEIR layout; its test queries must not be trained with. Three logs are drawn from its other
queries: one asked a million times, all of them as often as in a Zipf distribution, and a million different ones (each
with numbers after it). The left side is the whole stage, reading and writing included; the right side reads the first
`--each` rows of the same log and compares each with all test queries that MinHash proposes and with all it kept. Both
must keep the same queries of these rows. Seconds are processor time of this process.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from hone.context import Shard
from hone.core.near_duplicates import NearDuplicates
from hone.core.query_text import comparable
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.inputs import readers
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_part
from hone.stages import stage
from hone.storage.local import LocalStore

NEAR = 0.8
FEWEST_WORDS, MOST_WORDS = 2, 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=5_000)
    parser.add_argument("--only", help="the log of this name")
    options = parser.parse_args()
    found = Table("log", "rows", "kept", "rows a second", "row by row", "ratio", "same queries kept")
    all_equal = True
    with tempfile.TemporaryDirectory(prefix="hone-log-") as folder:
        scratch = Path(folder)
        prepared, tests = prepare(options.folder, scratch)
        for name, rows in logs(options.folder, tests, options.rows):
            if options.only not in (None, name):
                continue
            log, start = scratch / f"{name}.txt", scratch / f"{name}-start.txt"
            log.write_text("\n".join(rows) + "\n", "utf-8")
            start.write_text("\n".join(rows[: options.each]) + "\n", "utf-8")
            kept, seconds = timed(scratch, log, prepared)
            ours, _ = timed(scratch, start, prepared)
            theirs, slow = one_by_one(start, tests)
            equal = set(ours) == set(theirs)
            all_equal &= equal
            fast, each = len(rows) / seconds, min(options.each, len(rows)) / slow
            figures = f"{len(rows):,}", f"{len(kept):,}", f"{fast:,.0f}", f"{each:,.0f}", f"{fast / each:.1f}"
            found.add_row(name, *figures, "yes" if equal else "NO")
    Console(width=120).print(found)
    return int(not all_equal)


def prepare(folder: Path, scratch: Path) -> tuple[dict[str, Manifest], set[str]]:
    """The prepared collection as inputs of generate, and its test queries as they are compared."""
    config = stage("prepare").Config.model_validate({"corpus": str(folder)})
    store = LocalStore(scratch / "store")
    todo = plan("prepare", config, {}, new(scratch))
    manifest, _ = execute(todo, store, new(scratch), Shard())
    judged = manifest.outputs["judged_queries"]
    parts = (fetch_part(store, manifest.prefix, part, new(scratch)) for part in judged.parts)
    rows = (row for part in parts for row in pq.read_table(part).to_pylist())
    tests = {comparable(row["text"]) for row in rows if row["split"] == "test"}
    return dict.fromkeys(manifest.outputs, manifest), tests


def logs(folder: Path, tests: set[str], rows: int) -> Iterator[tuple[str, list[str]]]:
    """Name and rows of each log."""
    texts = [" ".join(row["text"].split()) for _, row in readers.rows(folder / "queries.jsonl")]
    asked = [text for text in texts if comparable(text) not in tests]
    draw = random.Random(17)
    yield "one query", [asked[0]] * rows
    yield "Zipf", draw.choices(asked, [1 / (rank + 1) for rank in range(len(asked))], k=rows)
    yield "all different", [f"{asked[at % len(asked)]} {at // len(asked)} {at % 97}" for at in range(rows)]


def timed(scratch: Path, log: Path, prepared: dict[str, Manifest]) -> tuple[list[str], float]:
    """The queries that generate keeps of a log, and the seconds of the stage."""
    config = stage("generate").Config.model_validate(
        {"sources": ["log"], "query_log": str(log), "clean": {"near_test_query": NEAR}}
    )
    store = LocalStore(scratch / "store")
    todo = plan("generate", config, prepared, new(scratch))
    started = time.process_time()
    manifest, _ = execute(todo, store, new(scratch), Shard())
    seconds = time.process_time() - started
    parts = (fetch_part(store, manifest.prefix, part, new(scratch)) for part in manifest.outputs["queries"].parts)
    return [text for part in parts for text in pq.read_table(part)["text"].to_pylist()], seconds


def one_by_one(log: Path, tests: Iterable[str]) -> tuple[list[str], float]:
    """The same by looking at every row by itself."""
    near = NearDuplicates(NEAR)
    for test in sorted(tests):
        near.add(test)
    started = time.process_time()
    kept, seen = list[str](), set[str]()
    for _, line in readers.lines(log):
        text = " ".join(line.split())
        plain = comparable(text)
        if FEWEST_WORDS <= len(text.split()) <= MOST_WORDS and not near.find(plain) and plain not in seen:
            seen.add(plain)
            kept.append(text)
    return kept, time.process_time() - started


def new(scratch: Path) -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp(dir=scratch))


if __name__ == "__main__":
    raise SystemExit(main())
