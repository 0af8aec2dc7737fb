"""`hone show`: the rows of any table of a run, for reading or as CSV or JSON."""

import csv
import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import pyarrow as pa
import typer
from rich.markup import escape
from rich.table import Column, Table

from hone.commands.options import DEFAULT_STORE, RunName, StoreOption, verbs
from hone.commands.output import console
from hone.engine import record
from hone.scratch import scratch_folder
from hone.serving.tables import Tables
from hone.storage.addresses import open_store

app = verbs()
SHOWN = 20


class Form(StrEnum):
    text = "text"
    csv = "csv"
    json = "json"


@app.command()
def show(
    run_name: RunName,
    name: Annotated[str, typer.Argument(metavar="TABLE", help="queries, lists, dropped or any other table.")],
    sample: Annotated[
        int | None, typer.Option(min=1, help=f"So many rows, drawn at random; {SHOWN} as text, else all.")
    ] = None,
    style: Annotated[str, typer.Option(help="Only queries or lists of this style.")] = "",
    reason: Annotated[str, typer.Option(help="Only what was dropped for this reason.")] = "",
    form: Annotated[Form, typer.Option("--format", help="How to print them.")] = Form.text,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json: an object a line.")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show rows of a table of a run: queries, lists, dropped, docs, candidates, measures and so on."""
    place = open_store(store)
    done = record.results(place, run_name)
    wanted = {column: value for column, value in (("style", style), ("reason", reason)) if value}
    form = Form.json if as_json else form
    with scratch_folder() as scratch:
        tables = Tables(place, done, scratch)
        if form is Form.text:
            _show(tables, name, tables.sample(name, wanted, sample or SHOWN))
            return
        batches = tables.rows(name, wanted) if sample is None else tables.sample(name, wanted, sample).to_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        _print_json(rows) if form is Form.json else _print_csv(rows)


def _show(tables: Tables, name: str, rows: pa.Table) -> None:
    if not rows.num_rows:
        console.print(f"No row of {escape(name)} is like that.")
        return
    titles = tables.titles(rows)
    hidden = {"query_id", "id", "stage"} if {"text", "reason"} & {*rows.column_names} else set[str]()
    columns = [column for column in rows.column_names if column not in hidden and column not in ("scores", "likely")]
    grid = Table(*(Column(name, overflow="fold") for name in columns), box=None, pad_edge=False, header_style="bold")
    for row in rows.to_pylist():
        grid.add_row(*(escape(_cell(row[column], titles)) for column in columns))
    console.print(grid)


def _cell(value: Any, titles: dict[str, str]) -> str:
    """A value for reading: documents by their title, long lists by their beginning."""
    if isinstance(value, list):
        first, *rest = [str(one) for one in value] or [""]
        return titles.get(first, first) + (f" and {len(rest)} more" if rest else "")
    return titles.get(str(value), str(value))


def _print_json(rows: Iterator[dict[str, Any]]) -> None:
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


def _print_csv(rows: Iterator[dict[str, Any]]) -> None:
    writer = None
    for row in rows:
        flat = {key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(flat), lineterminator="\n")
            writer.writeheader()
        writer.writerow(flat)
