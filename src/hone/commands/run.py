"""`hone run`: the whole chain on one machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from hone import backends
from hone import settings as settings_file
from hone.commands.domains import show
from hone.commands.options import DEFAULT_STORE, JUDGEMENTS, SetOption, Settings, StoreOption, verbs
from hone.commands.output import console, quiet, say, show_queries, show_result, where
from hone.engine import domains, general, record, runner
from hone.errors import UserError
from hone.inputs import readers
from hone.inputs.references import local_path
from hone.results.manifest import Manifest
from hone.scratch import scratch_folder
from hone.settings import RunSettings
from hone.stages import STAGES, known_stage
from hone.storage.addresses import open_store
from hone.storage.base import Store

app = verbs()
INTERRUPTED = 130


@app.command()
def run(
    settings: Settings,
    store: StoreOption = "",
    changes: SetOption = None,
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help="Start here; all before must be done.")] = "",
    last: Annotated[str, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = "",
    shards: Annotated[int, typer.Option(min=1, help="Cut sharded stages into this many shares.")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Only say why each stage would run or not.")] = False,
    at_once: Annotated[int, typer.Option(min=1, help="Of a folder of domains, this many at once.")] = 1,
) -> None:
    """Run the whole chain; stages whose result is there already are not run again. A folder is run domain by domain."""
    if settings.is_dir():
        _run_domains(settings, store, shards, at_once)
        return
    for name in filter(None, (first, last)):
        known_stage(name)
    checked = settings_file.load(settings, changes or [])
    place = open_store(store or checked.store or DEFAULT_STORE)
    before = record.results_if_any(place, checked.name)
    checked = _with_clicks(checked, settings, changes or [], before)
    if explain:
        for step in runner.explain_run(checked, place, last=last or STAGES[-1]):
            _tell(step)
        return
    backends.require("torch")
    say(f"run {checked.name}, store {where(place)}")
    _run(checked, place, first or STAGES[0], last or STAGES[-1], shards)


def _run(checked: RunSettings, place: Store, first: str, last: str, shards: int) -> None:
    ran: list[str] = []

    def tell(step: runner.Step) -> None:
        _tell(step)
        if step.reason:
            ran.append(step.stage)

    def made(name: str, done: Mapping[str, Manifest]) -> None:
        if name == "generate" and not quiet():
            show_queries(place, done)

    before = record.results_if_any(place, checked.name)
    expected = {name: manifest.seconds for name, manifest in before.items()}
    try:
        done = runner.run(
            checked, place, first=first, last=last, shards=shards, tell=tell, made=made, expected=expected
        )
    except KeyboardInterrupt:
        stage = ran[-1] if ran else first
        console.print(
            f"\nInterrupted in {stage}. Run the same command again: it goes on from what is finished, which lies in "
            f"{where(place)}.",
            soft_wrap=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    if not ran:
        say("Everything is up to date: nothing was run.")
    if "evaluate" in done:
        show_result(place, done, checked.name)


def _with_clicks(
    checked: RunSettings, path: Path, changes: Sequence[str], before: Mapping[str, Manifest]
) -> RunSettings:
    """The settings with the judgements that `hone serve` kept for this run, where the corpus has none of its own."""
    config: Any = checked.stages["prepare"]
    clicks = JUDGEMENTS / checked.name
    if config.judgements or not (clicks / "qrels" / "test.tsv").is_file() or _judged(config, before):
        return checked
    say(f"judgements: {clicks} (made with `hone serve`)")
    return settings_file.load(path, [*changes, f"prepare.judgements={clicks.resolve()}"])


def _judged(config: Any, before: Mapping[str, Manifest]) -> bool:
    """Whether a corpus has judgements of its own; of one that lies elsewhere the last run says so."""
    if "://" in config.corpus:
        done = before.get("prepare")
        return bool(done and not done.config["judgements"] and "judgements of test" in done.facts["inputs"])
    with scratch_folder() as scratch:
        return config.test_split in readers.layout(local_path(config.corpus, scratch), config.format).qrels


def _run_domains(folder: Path, store: str, shards: int, at_once: int) -> None:
    """Runs every domain, whatever becomes of the others. Raises UserError if any failed, after all have ended."""
    tell = lambda name, what: console.print(f"{name}: {what}", soft_wrap=True, markup=False)  # noqa: E731
    members = domains.load(folder)
    place = store or domains.store_of(members) or DEFAULT_STORE
    together = general.course(folder, members)
    faults = domains.run(members, place, shards, at_once, tell)
    if together:
        faults |= general.run(together, place, shards, at_once, tell)
    show(folder, place, faults)
    if faults:
        raise UserError(f"{', '.join(faults)} failed; the lines above say why, and all other domains have ended")


def _tell(step: runner.Step) -> None:
    number = f"{STAGES.index(step.stage) + 1}/{len(STAGES)}".rjust(len(f"{len(STAGES)}/{len(STAGES)}"))
    if step.reason:
        say(f"{number} [bold]{step.stage:<9}[/] runs: {escape(step.reason)}")
    else:
        state = f"left out: {escape(step.left_out)}" if step.left_out else "up to date"
        say(f"{number} [bold]{step.stage:<9}[/] [dim]{state}[/]")
