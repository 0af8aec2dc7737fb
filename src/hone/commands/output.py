"""What several commands print: the console, places in a store, and the result of a run."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from hone.engine.scratch import scratch_folder
from hone.report import before_after
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import fetch_folder
from hone.storage.base import LocalStore, Store

console = Console(highlight=False)


def show_result(store: Store, done: Mapping[str, Manifest]) -> None:
    """The before/after table, the verdict if there is one, and where the report and the model are."""
    evaluate, gate = done["evaluate"], done.get("gate")
    with scratch_folder() as scratch:
        found = fetch_folder(store, evaluate, "findings", scratch)
        metrics: dict[str, Any] = json.loads((found / "metrics.json").read_text("utf-8"))
    console.print(before_after(metrics))
    if gate:
        show_verdict(gate)
    if "report" in done:
        console.print(f"report: {where(store)}/{done['report'].place('report')}/report.html", soft_wrap=True)
    distilled = load_manifest(store, f"{evaluate.inputs['model']}/manifest.json")
    if distilled:
        console.print(f"model:  {where(store)}/{distilled.place('model')}", soft_wrap=True)


def show_verdict(manifest: Manifest) -> None:
    """The verdict, and what kept the model from being promoted."""
    console.print(f"verdict: [bold]{manifest.facts['verdict']}[/]")
    for reason in manifest.facts["reasons"]:
        console.print(f"  {escape(reason)}", soft_wrap=True)


def where(store: Store) -> str:
    """Where a store lies, as a person would open it."""
    return str(store.root.resolve()) if isinstance(store, LocalStore) else store.uri
