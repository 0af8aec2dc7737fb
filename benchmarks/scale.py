"""How cost grows with the corpus: every stage of a run over corpora of growing size, and a search over each.

    OMP_NUM_THREADS=1 python benchmarks/scale.py FOLDER [--sizes 10000 100000 1000000] [--shards 1 2 4 8]

FOLDER is a collection in BEIR layout, whose sentences the corpora are made of: runs of real sentences, one document in
ten saying what an earlier one says, drawn anew for each size, so that the store knows no text of a larger corpus.
Queries are cut from documents; each has that document as its answer. The preset is `cpu`, so that as many documents are
asked about at any size; the student has random weights and 16 dimensions unless `--student` names one, so that what is
measured is everything but the model. Every stage is a process of its own: seconds are processor time, MB the most it
held (resident), imports included; requests and bytes are those of its store, a request being what one is to S3 (a
listing: one for each thousand names).

What `hone plan` says before a run rests on the run of the size before; its processor seconds are compared with those
that the manifest says afterwards, which begin when the stage does. Searches are timed with queries cut from documents,
repeated as a log repeats them (Zipf, exponent 1), and the collection's own, the shortest and the longest quarter. With
`--shards` score's work of the smallest size is shared out, and must give the same bytes.
"""

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from memory import peak
from prepare import SENTENCE, make
from rich.console import Console
from rich.table import Table

from hone.inputs import readers

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
ASKED, WORDS_ASKED = 200, 8
SEARCHES = 300
LISTED = 1_000
"""Names in one answer of S3."""
CARRIED = (10_000_000, 100_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Row:
    """What a stage took at a size: processor seconds of its process, those of its work and what was forecast of them,
    seconds of the clock for its work, MB, requests, MB read and written."""

    stage: str
    docs: int
    seconds: float
    work: float
    clock: float
    peak: float
    requests: int
    read: float
    written: float
    planned: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--student", help="a model folder, instead of random weights of 16 dimensions")
    parser.add_argument("--shards", type=int, nargs="*", default=[])
    parser.add_argument("--keep", type=Path, help="where corpora and store stay")
    parser.add_argument("--child", nargs=2, metavar=("SETTINGS", "STAGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Path(options.child[0]), options.child[1], options.folder)
        return 0
    with tempfile.TemporaryDirectory(prefix="hone-scale-") as folder:
        home = options.keep or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        rows, searches = list[Row](), list[tuple[int, str, float, float]]()
        for docs in options.sizes:
            settings = written(home, options.folder, docs, options.student)
            planned = forecast(settings) if rows else {}
            for name in stages():
                row = Row(name, docs, **measured(options.folder, settings, name), planned=planned.get(name, 0.0))
                print(f"{docs:,} {name}: {row.seconds:.1f} s, {row.peak:,.0f} MB", file=sys.stderr, flush=True)
                rows.append(row)
            searches += [(docs, kind, *times) for kind, times in measured(options.folder, settings, "search").items()]
        console = Console(width=140)
        console.print(growth(rows), latency(searches), carried(rows))
        same = not options.shards or shared(home, options.sizes[0], options.shards, console)
    return int(not same)


def stages() -> tuple[str, ...]:
    from hone.stages import STAGES

    return tuple(name for name in STAGES if name not in ("publish", "report", "encode"))


def written(home: Path, folder: Path, docs: int, student: str | None) -> Path:
    """The settings of a run over a corpus of that size, with the corpus, its test collection and the student."""
    corpus = home / f"corpus-{docs}"
    corpus.mkdir(exist_ok=True)
    make(folder, corpus / "corpus.jsonl", docs, seed=docs)
    (corpus / "qrels").mkdir(exist_ok=True)
    every = max(1, docs // (2 * ASKED))
    with (corpus / "queries.jsonl").open("w", encoding="utf-8") as queries:
        qrels = {split: (corpus / "qrels" / f"{split}.tsv").open("w", encoding="utf-8") for split in ("dev", "test")}
        for file in qrels.values():
            file.write("query-id\tcorpus-id\tscore\n")
        for number, doc_id, text in picked(corpus / "corpus.jsonl", every):
            queries.write(json.dumps({"_id": f"q{number}", "text": cut(text, number)}) + "\n")
            qrels[("dev", "test")[number % 2]].write(f"q{number}\t{doc_id}\t1\n")
        for file in qrels.values():
            file.close()
    if not student:
        import tiny

        words = (f"{row.get('text') or ''}" for _, row in readers.rows(folder / "corpus.jsonl"))
        common = Counter(word for text in words for word in text.lower().split() if word.isalpha()).most_common(4_000)
        student = str(tiny.student(home / "student", dim=16, layers=1, vocab_texts=[word for word, _ in common]))
    path = home / f"scale-{docs}.yaml"
    given = {
        "name": f"scale-{docs}", "preset": "cpu", "store": str(home / "store"), "student": {"model": student},
        "prepare": {"corpus": str(corpus)}, "evaluate": {"permutations": 1_000},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(given), "utf-8")
    return path


def picked(corpus: Path, every: int) -> Iterator[tuple[int, str, str]]:
    """Documents at even distances, without those that repeat another: number, id and text."""
    rows = (row for number, (_, row) in enumerate(readers.rows(corpus)) if number % every == 0 and number % 10 < 9)
    for number, row in zip(range(2 * ASKED), rows, strict=False):
        yield number, str(row["_id"]), str(row["text"])


def cut(text: str, seed: int) -> str:
    """Some words in a row of a text's longest sentence."""
    words = max(SENTENCE.split(text), key=len).split()
    start = random.Random(seed).randrange(max(1, len(words) - WORDS_ASKED))
    return " ".join(words[start : start + WORDS_ASKED])


def forecast(settings: Path) -> dict[str, float]:
    """Processor seconds of each stage, as `hone plan` says before the run."""
    command = [sys.executable, "-m", "hone", "plan", str(settings), "--json"]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {row["stage"]: 3600 * row["processor_hours"] for row in said["rows"]}


def measured(folder: Path, settings: Path, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, str(folder), "--child", str(settings), name]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def child(path: Path, name: str, folder: Path) -> None:
    """Runs one stage, or searches, and prints what it took as JSON."""
    from hone import settings
    from hone.engine import runner

    config = settings.load(path)
    store = counting(config.store)
    if name == "search":
        print(json.dumps(timed_searches(config, store, folder)))
        return
    manifest = runner.run(config, store, first=name, last=name)[name]
    work = sum(used for _, used in manifest.spent.values())
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    row = {"seconds": seconds, "work": work, "clock": manifest.seconds, "peak": peak(), **store.counted}
    print(json.dumps(row))


def counting(root: str) -> Any:
    """A folder as a store that counts what it is asked for."""
    from hone.storage.base import Fetched, Object
    from hone.storage.local import LocalStore

    class Counting(LocalStore):
        counted: Counter[str]

        def read(self, key: str) -> bytes | None:
            found = super().read(key)
            self.counted.update(requests=1, read=len(found or b"") / 1e6)
            return found

        def fetch(self, key: str, folder: Path, *, anew: bool = False) -> Fetched:
            found = super().fetch(key, folder, anew=anew)
            self.counted.update(requests=1, read=found.path.stat().st_size / 1e6)
            return found

        def put(self, key: str, path: Path) -> None:
            self.counted.update(requests=2, written=path.stat().st_size / 1e6)  # and a look at what arrived
            super().put(key, path)

        def create(self, key: str, data: bytes) -> bool:
            self.counted.update(requests=1, written=len(data) / 1e6)
            return super().create(key, data)

        def replace(self, key: str, data: bytes) -> None:
            self.counted.update(requests=1, written=len(data) / 1e6)
            super().replace(key, data)

        def objects(self, prefix: str = "") -> Iterator[Object]:
            found = list(super().objects(prefix))
            self.counted.update(requests=max(1, math.ceil(len(found) / LISTED)))
            return iter(found)

    store = Counting(Path(root))
    store.counted = Counter(requests=0, read=0.0, written=0.0)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return store


def timed_searches(config: Any, store: Any, folder: Path) -> dict[str, tuple[float, float]]:
    """Milliseconds, median and 99th percentile, from a query's text to its ten documents, by kind of query."""
    from hone.context import Job, Shard
    from hone.engine.record import results
    from hone.engine.runner import outputs_of
    from hone.results.table_io import fetch_folder
    from hone.scratch import scratch_folder
    from hone.serving import finished
    from hone.serving.retriever import retriever

    done = results(store, config.name)
    queries = [row["text"] for row in readers_of(done["generate"], store, "queries")]
    own = sorted((str(row["text"]) for _, row in readers.rows(folder / "queries.jsonl")), key=len)
    draw = np.random.default_rng(17)
    zipf = 1 / np.arange(1, len(own) + 1)
    log = draw.choice(len(own), SEARCHES, p=zipf / zipf.sum())
    kinds = {
        "cut from documents": [queries[place] for place in draw.integers(0, len(queries), SEARCHES)],
        "a log, Zipf": [own[place] for place in log],
        "own, shortest quarter": [own[place] for place in draw.integers(0, len(own) // 4, SEARCHES)],
        "own, longest quarter": [own[-1 - place] for place in draw.integers(0, len(own) // 4, SEARCHES)],
    }
    with scratch_folder() as scratch:
        _, todo = finished.finished(store, config.name)
        job = Job(todo, store, scratch, Shard())
        model = fetch_folder(store, outputs_of(done)["model"], "model", scratch)
        found = retriever(job, config.stages["evaluate"].student, model, done["distill"].outputs["model"].digest)
        found.best(own[0], 10)
        return {name: percentiles(found, texts) for name, texts in kinds.items()}


def readers_of(manifest: Any, store: Any, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    parts = manifest.outputs[name].parts
    return [row for part in parts for row in pq.read_table(store.root / manifest.prefix / part.path).to_pylist()]


def percentiles(found: Any, texts: Sequence[str]) -> tuple[float, float]:
    spent = list[float]()
    for text in texts:
        started = time.process_time()
        found.best(text, 10)
        spent.append(1e3 * (time.process_time() - started))
    return float(np.percentile(spent, 50)), float(np.percentile(spent, 99))


def growth(rows: Sequence[Row]) -> Table:
    """Every stage at every size."""
    table = Table(
        "stage",
        "documents",
        "seconds",
        "µs a document",
        "work",
        "planned",
        "off",
        "by the clock",
        "MB",
        "requests",
        "read MB",
        "written MB",
    )
    for name in dict.fromkeys(row.stage for row in rows):
        for row in (one for one in rows if one.stage == name):
            each = f"{1e6 * row.seconds / row.docs:,.0f}"
            planned = f"{row.planned:,.1f}" if row.planned else "–"
            off = f"{100 * (row.planned / row.work - 1):+.0f}%" if row.planned else "–"
            table.add_row(
                name, f"{row.docs:,}", f"{row.seconds:,.1f}", each,
                f"{row.work:,.1f}", planned, off, f"{row.clock:,.1f}", f"{row.peak:,.0f}", f"{row.requests:,}",
                f"{row.read:,.1f}", f"{row.written:,.1f}",
            )  # fmt: skip
    return table


def latency(searches: Sequence[tuple[int, str, float, float]]) -> Table:
    table = Table("documents", "queries", "median, ms", "99th percentile, ms")
    for docs, kind, middle, slow in searches:
        table.add_row(f"{docs:,}", kind, f"{middle:.2f}", f"{slow:.2f}")
    return table


def carried(rows: Sequence[Row]) -> Table:
    """Seconds and MB as a fixed part and one for each document, fitted to the two largest sizes, at larger ones."""
    table = Table("stage", "s, fixed", "µs a document", "B a document", *(f"{docs:,}" for docs in CARRIED))
    for name in dict.fromkeys(row.stage for row in rows):
        last = [row for row in rows if row.stage == name][-2:]
        if len(last) < 2:
            continue
        (small, large), step = last, last[1].docs - last[0].docs
        each, held = (large.seconds - small.seconds) / step, max(0.0, (large.peak - small.peak) / step)
        fixed = large.seconds - each * large.docs
        sizes = [(fixed + each * docs, large.peak + held * (docs - large.docs)) for docs in CARRIED]
        cells = [f"{seconds / 3600:,.1f} h, {peak / 1024:,.1f} GB" for seconds, peak in sizes]
        table.add_row(name, f"{fixed:,.1f}", f"{1e6 * each:,.0f}", f"{1e6 * held:,.0f}", *cells)
    return table


def shared(home: Path, docs: int, counts: Sequence[int], console: Console) -> bool:
    """Shares score's work of a size out in several ways; says whether all gave the same bytes."""
    from hone import settings
    from hone.context import Shard
    from hone.engine import runner
    from hone.engine.record import results
    from hone.storage.local import LocalStore

    table, digests = Table("shards", "seconds, all together", "joining", "share"), set[str]()
    config = settings.load(home / f"scale-{docs}.yaml")
    for count in counts:
        store = LocalStore(home / f"store-{count}")
        for name in ("prepare", "generate", "mine"):
            runner.run(config, store, first=name, last=name)
        inputs = runner.outputs_of(results(store, config.name))
        made = [
            runner.run_stage("score", config.stages["score"], inputs, store, Shard(at, count)) for at in range(count)
        ]
        started = time.process_time()
        whole = runner.run_stage("score", config.stages["score"], inputs, store, Shard(), count if count > 1 else 0)[0]
        joining, work = time.process_time() - started, sum(one.seconds for one, _ in made)
        table.add_row(f"{count}", f"{work:,.2f}", f"{joining:.3f}", f"{100 * joining / work:.1f}%")
        digests.add(whole.outputs["teacher_scores"].digest)
    console.print(table)
    console.print("the same bytes" if len(digests) == 1 else "OTHER BYTES")
    return len(digests) == 1


if __name__ == "__main__":
    sys.exit(main())
