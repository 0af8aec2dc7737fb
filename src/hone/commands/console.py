"""`hone run` and `hone stage` as a person sees them."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hone import settings
from hone.context import Shard
from hone.engine import runner
from hone.engine.execute import scratch_folder
from hone.errors import UserError
from hone.evaluation.policy import REJECT, shown
from hone.results import registry
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import fetch_folder
from hone.stages import STAGES
from hone.stages.gate import read_verdict
from hone.storage.base import LocalStore, Store, open_store

console = Console(highlight=False)
REJECTED = 3
"""Exit code of `hone gate --strict` for a rejected model."""


def run(path: Path, store_uri: str, first: str, last: str, shards: int, *, explain: bool) -> None:
    """Runs or explains the chain of a settings file and ends with the before/after table. Raises UserError."""
    for name in filter(None, (first, last)):
        _known_stage(name)
    checked = settings.load(path)
    store = open_store(store_uri)
    if explain:
        for step in runner.explain_run(checked, store, last=last or STAGES[-1]):
            _tell(step)
        return
    ran: list[str] = []

    def tell(step: runner.Step) -> None:
        _tell(step)
        if step.reason:
            ran.append(step.stage)

    done = runner.run(checked, store, first=first or STAGES[0], last=last or STAGES[-1], shards=shards, tell=tell)
    if not ran:
        console.print("Everything is up to date: nothing was run.")
    if "evaluate" in done:
        show_result(store, done)


def plan(path: Path, store_uri: str, device: str, price: float, *, as_json: bool) -> None:
    """Forecasts what a run will cost, stage by stage. Raises UserError."""
    from hone.engine.forecast import forecast

    with scratch_folder() as scratch:
        found = forecast(settings.load(path), open_store(store_uri), device, price, scratch)
    if as_json:
        print(json.dumps({**asdict(found), "hours": found.total("hours"), "price": found.total("price")}, indent=1))
        return
    grid = Table("stage", "work", f"time on one {found.device}", "storage", "price", "time rests on")
    for row in found.rows:
        work = "\n".join(f"{amount:,.0f} {name.replace('_', ' ')}" for name, amount in row.amounts.items() if amount)
        grid.add_row(row.stage, work, *_spent(row.hours, row.gigabytes, row.price), row.source)
    grid.add_section()
    grid.add_row("all", "", *_spent(*map(found.total, ("hours", "gigabytes", "price"))), "")
    console.print(grid)
    for note in found.notes:
        console.print(f"- {escape(note)}", soft_wrap=True)


def _spent(hours: float, gigabytes: float, price: float) -> tuple[str, str, str]:
    minutes = 60 * hours
    time = f"{hours:,.1f} h" if hours >= 2 else f"{minutes:,.1f} min" if minutes >= 2 else f"{60 * minutes:,.1f} s"
    size = f"{gigabytes:,.2f} GB" if gigabytes >= 1 else f"{1e3 * gigabytes:,.2f} MB"
    return time, size, f"{price:,.2f}" if price else "–"


def show_result(store: Store, done: Mapping[str, Manifest]) -> None:
    """The before/after table, the verdict if there is one, and where the report and the model are."""
    from hone.report import before_after

    evaluate, gate = done["evaluate"], done.get("gate")
    with scratch_folder() as scratch:
        report = fetch_folder(store, evaluate, "report", scratch)
        metrics: dict[str, Any] = json.loads((report / "metrics.json").read_text("utf-8"))
    console.print(before_after(metrics))
    if gate:
        show_verdict(gate)
    place = gate.place("full_report") if gate else evaluate.place("report")
    console.print(f"report: {_place(store)}/{place}/report.html", soft_wrap=True)
    distilled = load_manifest(store, f"{evaluate.inputs['model']}/manifest.json")
    if distilled:
        console.print(f"model:  {_place(store)}/{distilled.place('model')}", soft_wrap=True)


def show_verdict(manifest: Manifest) -> None:
    """The verdict, and what kept the model from being promoted."""
    console.print(f"verdict: [bold]{manifest.facts['verdict']}[/]")
    for reason in manifest.facts["reasons"]:
        console.print(f"  {escape(reason)}", soft_wrap=True)


def gate(run_name: str, store_uri: str, *, strict: bool) -> int:
    """Shows every criterion of a verdict; the exit code is 3 for a rejected model if `strict`. Raises UserError."""
    store = open_store(store_uri)
    manifest = runner.results(store, run_name).get("gate")
    if manifest is None:
        raise UserError(f"run {run_name!r} has no verdict yet; `hone run` its settings first")
    with scratch_folder() as scratch:
        text = (fetch_folder(store, manifest, "verdict", scratch) / "verdict.json").read_text("utf-8")
    found, criteria = read_verdict(text)
    grid = Table("criterion", "value", "wanted", "outcome", "note", title=f"verdict: {found['verdict']}")
    for row in criteria:
        grid.add_row(*map(escape, (row.name, shown(row.value), row.wanted, row.outcome, row.note)))
    console.print(grid)
    return REJECTED if strict and found["verdict"] == REJECT else 0


def registry_list(store_uri: str) -> None:
    """Every domain with its current version."""
    store = open_store(store_uri)
    grid = Table("domain", "current", "versions", "moved by", "at")
    for domain in registry.domains(store):
        last = registry.moves(store, domain)[-1]
        count = sum(1 for _ in registry.releases(store, domain))
        grid.add_row(domain, last.version, str(count), escape(last.by), last.at)
    console.print(grid)


def registry_show(domain: str, store_uri: str) -> None:
    """Every version of a domain and every move of its pointer. Raises UserError."""
    store = open_store(store_uri)
    moves = registry.moves(store, domain)
    if not moves:
        raise UserError(f"nothing has been published as {domain!r} in {store.uri}; `hone registry list` shows what has")
    versions = Table("version", "finding", title=f"{domain}: versions", title_justify="left")
    for found in registry.releases(store, domain):
        mark = " (current)" if found.version == moves[-1].version else ""
        versions.add_row(f"{found.version}{mark}", escape(found.finding))
    history = Table("move", "version", "action", "by", "at", title=f"{domain}: what was current", title_justify="left")
    for move in moves:
        history.add_row(str(move.number), move.version, move.action, escape(move.by), move.at)
    console.print(versions, history)
    console.print(f"model: {_place(store)}/models/{domain}/{moves[-1].version}", soft_wrap=True)


def registry_move(domain: str, version: str, store_uri: str) -> None:
    """Makes a version current, or without one the version before. Raises UserError."""
    store = open_store(store_uri)
    if version:
        move = registry.move(store, domain, version, "promote", registry.moves(store, domain))
    else:
        move = registry.rollback(store, domain)
    console.print(f"{domain}: version {move.version} is current (move {move.number})")


def stage(name: str, config: str, inputs: list[str], store_uri: str, shard: str, merge: int) -> None:
    """Runs one stage, one shard of it, or joins its shards, and prints the prefix of the result. Raises UserError."""
    _known_stage(name)
    store = open_store(store_uri)
    manifest, _ = runner.run_stage(
        name, _config(name, config), _inputs(store, inputs), store, Shard.parse(shard), merge
    )
    print(manifest.prefix)


def _config(name: str, text: str) -> Any:
    if not text.lstrip().startswith("{"):
        return settings.load(Path(text)).stages[name]
    try:
        section = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"--config is not valid JSON ({error}); write an object or name a settings file") from error
    return settings.stage_config(name, cast(dict[str, Any], section), "--config", Path.cwd())


def _inputs(store: Store, given: list[str]) -> Mapping[str, Manifest]:
    found: dict[str, Manifest] = {}
    for text in given:
        table, _, prefix = text.partition("=")
        manifest = load_manifest(store, f"{prefix.strip('/')}/manifest.json")
        if manifest is None or table not in manifest.outputs:
            missing = f"there is no finished {table or 'table'} at {prefix} in {store.uri}"
            raise UserError(f"--input {text}: {missing}; run its stage first")
        found[table] = manifest
    return found


def _place(store: Store) -> str:
    return str(store.root.resolve()) if isinstance(store, LocalStore) else store.uri


def _known_stage(name: str) -> None:
    if name not in STAGES:
        raise UserError(f"{name!r} is not a stage; the stages are {', '.join(STAGES)}")


def _tell(step: runner.Step) -> None:
    if step.reason:
        console.print(f"[bold]{step.stage:<9}[/] runs: {escape(step.reason)}", soft_wrap=True)
    else:
        state = f"left out: {escape(step.left_out)}" if step.left_out else "up to date"
        console.print(f"[bold]{step.stage:<9}[/] [dim]{state}[/]", soft_wrap=True)
