"""`hone run` and `hone stage` as a person sees them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape

from hone import local, settings
from hone.errors import UserError
from hone.stage import Manifest, Shard, execute, fetch_folder, load_manifest, plan, scratch_folder
from hone.stage import merge as merge_shards
from hone.stages import STAGES
from hone.store import LocalStore, Store, open_store

console = Console(highlight=False)


def run(path: Path, store_uri: str, first: str, last: str, shards: int, *, explain: bool) -> None:
    """Runs or explains the chain of a settings file and ends with the before/after table. Raises UserError."""
    for name in filter(None, (first, last)):
        _known_stage(name)
    checked = settings.load(path)
    store = open_store(store_uri)
    if explain:
        for step in local.explain_run(checked, store, last=last or STAGES[-1]):
            _tell(step)
        return
    ran: list[str] = []

    def tell(step: local.Step) -> None:
        _tell(step)
        if step.reason:
            ran.append(step.stage)

    done = local.run(checked, store, first=first or STAGES[0], last=last or STAGES[-1], shards=shards, tell=tell)
    if not ran:
        console.print("Everything is up to date: nothing was run.")
    if "evaluate" in done:
        show_result(store, done["evaluate"])


def show_result(store: Store, manifest: Manifest) -> None:
    """The before/after table and where the report and the model are."""
    from hone.report import before_after

    with scratch_folder() as scratch:
        report = fetch_folder(store, manifest, "report", scratch)
        metrics: dict[str, Any] = json.loads((report / "metrics.json").read_text("utf-8"))
    console.print(before_after(metrics))
    root = str(store.root.resolve()) if isinstance(store, LocalStore) else store.uri
    console.print(f"report: {root}/{manifest.prefix}/report/report.html", soft_wrap=True)
    console.print(f"model:  {root}/{manifest.inputs['model']}/model", soft_wrap=True)


def stage(name: str, config: str, inputs: list[str], store_uri: str, shard: str, merge: int) -> None:
    """Runs one stage, one shard of it, or joins its shards, and prints the prefix of the result. Raises UserError."""
    _known_stage(name)
    store = open_store(store_uri)
    with scratch_folder() as scratch:
        todo = plan(name, _config(name, config), _inputs(store, inputs), scratch)
        if merge:
            manifest = merge_shards(todo, store, merge)
        else:
            manifest, _ = execute(todo, store, scratch, Shard.parse(shard))
    print(manifest.prefix)


def _config(name: str, text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return settings.load(Path(text)).stages[name]
    try:
        section = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--config is not valid JSON: {error}") from error
    return settings.stage_config(name, cast(dict[str, Any], section), "--config", Path.cwd())


def _inputs(store: Store, given: list[str]) -> Mapping[str, Manifest]:
    found: dict[str, Manifest] = {}
    for text in given:
        table, _, prefix = text.partition("=")
        manifest = load_manifest(store, f"{prefix.strip('/')}/manifest.json")
        if manifest is None or table not in manifest.outputs:
            raise UserError(f"--input {text}: there is no finished {table or 'table'} at {prefix} in {store.uri}")
        found[table] = manifest
    return found


def _known_stage(name: str) -> None:
    if name not in STAGES:
        raise UserError(f"{name!r} is not a stage; the stages are {', '.join(STAGES)}")


def _tell(step: local.Step) -> None:
    if step.reason:
        console.print(f"[bold]{step.stage:<9}[/] runs: {escape(step.reason)}", soft_wrap=True)
    else:
        console.print(f"[bold]{step.stage:<9}[/] [dim]up to date[/]")
