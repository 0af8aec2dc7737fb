"""What several commands print: the console, places in a store, and the result of a run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hone.report.files import write_pages
from hone.report.next_step import next_step
from hone.report.terminal_table import before_after
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.serving.tables import Tables
from hone.storage.base import Store

console = Console(highlight=False)
SAMPLED = 10


def quiet() -> bool:
    """Whether the user asked for the result and warnings only."""
    return os.environ.get("HONE_PROGRESS") == "off"


def say(text: str) -> None:
    """A line on the way to the result."""
    if not quiet():
        console.print(text, soft_wrap=True)


def show_queries(store: Store, done: Mapping[str, Manifest]) -> None:
    """Ten of the queries that were made, each on one line: what the model is about to learn from."""
    with scratch_folder() as scratch:
        tables = Tables(store, done, scratch)
        rows = tables.sample("queries", {}, SAMPLED)
        titles = tables.titles(rows)
    grid = Table("style", "query", "made from", box=None, pad_edge=False, header_style="dim", expand=True)
    for column, ratio in zip(grid.columns, (0, 3, 2), strict=True):
        column.no_wrap, column.overflow, column.ratio = True, "ellipsis", ratio or None
    for row in rows.to_pylist():
        grid.add_row(*map(escape, (row["style"], row["text"], str(titles.get(row["doc_id"], row["doc_id"])))))
    console.print(grid)


def show_result(store: Store, done: Mapping[str, Manifest], run_name: str) -> None:
    """The before/after table, the verdict if there is one, what to do next, and where report and model are."""
    evaluate, gate, publish = done["evaluate"], done.get("gate"), done.get("publish")
    with scratch_folder() as scratch:
        findings = fetch_folder(store, evaluate, "findings", scratch)
        metrics: dict[str, Any] = json.loads((findings / "metrics.json").read_text("utf-8"))
    console.print(before_after(metrics))
    if gate:
        show_verdict(gate)
        if step := next_step(metrics, str(gate.facts["verdict"]), run_name):
            console.print(escape(step))
    if "report" in done:
        console.print(f"report: {where(store)}/{done['report'].place('report')}/report.html", soft_wrap=True)
    distilled = load_manifest(store, f"{evaluate.inputs['model']}/manifest.json")
    if distilled:
        console.print(f"model:  {where(store)}/{distilled.place('model')}", soft_wrap=True)
    if publish:
        facts = publish.facts
        console.print(
            f"published: {facts['domain']} version {facts['version']}, {where(store)}/{facts['prefix']}", soft_wrap=True
        )
    if "encode" in done:
        facts = done["encode"].facts
        console.print(f"vectors: {facts['vectors']} ({facts['new']:,} new, {facts['known']:,} known)", soft_wrap=True)


def show_verdict(manifest: Manifest) -> None:
    """The verdict, and what kept the model from being promoted."""
    console.print(f"verdict: [bold]{manifest.facts['verdict']}[/]")
    for reason in manifest.facts["reasons"]:
        console.print(f"  {escape(reason)}", soft_wrap=True)


def where(store: Store) -> str:
    """Where a store lies, as a person would open it."""
    return store.place


def write_study(folder: Path, html: str, text: str, name: str, result: Mapping[str, Any]) -> None:
    """The report of several runs as HTML and Markdown, what it rests on as NAME.json, and a line that says where."""
    write_pages(folder, html, text)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1), "utf-8")
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
