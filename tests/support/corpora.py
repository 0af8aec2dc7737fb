"""Small corpora as people keep them, as files written on the spot."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import given
from hone.results.manifest import Manifest
from hone.storage.base import Store

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


def prepared(store: Store, corpus: Path, **settings: object) -> Manifest:
    """What prepare makes of a corpus."""
    return given.run(store, "prepare", {}, corpus=str(corpus), **settings)
