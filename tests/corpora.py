"""Small corpora as people keep them, written on the spot, and what a stage makes of them."""

import csv
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from hone import tables
from hone.job import Job, Plan, Shard
from hone.manifest import Manifest
from hone.parts import TableReader
from hone.stage import execute, plan, scratch_folder
from hone.stages import stage
from hone.store import LocalStore
from hone.tables import Table

Doc = Mapping[str, Any]


def docs(*texts: str) -> list[dict[str, str]]:
    """Documents d0, d1, ... with these texts and no title."""
    return [{"_id": f"d{number}", "title": "", "text": text} for number, text in enumerate(texts)]


def jsonl(path: Path, rows: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def delimited(path: Path, rows: Sequence[Doc], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def parquet(path: Path, rows: Sequence[Doc]) -> Path:
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def table_file(path: Path, rows: Sequence[Doc]) -> Path:
    """Rows as a file of the kind that its name ends in: jsonl, csv, tsv or parquet."""
    if path.suffix == ".jsonl":
        return jsonl(path, rows)
    if path.suffix == ".parquet":
        return parquet(path, rows)
    return delimited(path, rows, "\t" if path.suffix == ".tsv" else ",")


def beir(
    folder: Path,
    rows: Iterable[Doc],
    queries: Mapping[str, str] | None = None,
    **qrels: Sequence[tuple[str, str, int]],
) -> Path:
    """A BEIR folder; `qrels` are (query, doc, relevance) by split."""
    jsonl(folder / "corpus.jsonl", rows)
    if queries is not None:
        jsonl(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in queries.items()))
        (folder / "qrels").mkdir()
    for split, judgements in qrels.items():
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in judgements)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


def executed(store: LocalStore, name: str, inputs: Mapping[str, Manifest], **settings: object) -> Manifest:
    """The result of a stage, made by its one door."""
    config = stage(name).Config.model_validate(settings)
    with scratch_folder() as scratch:
        return execute(plan(name, config, inputs, scratch), store, scratch)[0]


def prepared(store: LocalStore, corpus: Path, **settings: object) -> Manifest:
    return executed(store, "prepare", {}, corpus=str(corpus), **settings)


def rows_of(store: LocalStore, manifest: Manifest, name: str) -> list[dict[str, Any]]:
    """The rows of one table of a result."""
    table = cast(Table, tables.OUTPUTS[name])
    with scratch_folder() as scratch:
        return TableReader(table, manifest.outputs[name], manifest.prefix, store, scratch).read().to_pylist()


def finished(store: LocalStore, name: str, **outputs: pa.Table) -> dict[str, Manifest]:
    """A finished result of a stage that holds these tables, by table, as what reads them takes it."""
    with scratch_folder() as scratch:
        todo = Plan(name, stage(name).Config.model_construct(), {}, {}, uuid.uuid4().hex[:16])
        job = Job(todo, store, scratch, Shard())
        for table, rows in outputs.items():
            with job.writer(table) as writer:
                writer.write(rows)
        made = {table: job.publish(table) for table in outputs}
    manifest = Manifest(
        stage=name, fingerprint=todo.fingerprint, code="", version="", config={}, sources={}, inputs={},
        input_digests={}, outputs=made, facts={}, cost={}, seconds=0.0,
    )  # fmt: skip
    return dict.fromkeys(outputs, manifest)
