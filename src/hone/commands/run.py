"""`hone run`: the whole chain on one machine."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hone import settings as settings_file
from hone.commands.domains import show
from hone.commands.options import DEFAULT_STORE, Settings, StoreOption, verbs
from hone.commands.output import console, show_result
from hone.engine import domains, runner
from hone.errors import UserError
from hone.stages import STAGES, known_stage
from hone.storage.base import open_store

app = verbs()


@app.command()
def run(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
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
    checked = settings_file.load(settings)
    place = open_store(store)
    if explain:
        for step in runner.explain_run(checked, place, last=last or STAGES[-1]):
            _tell(step)
        return
    ran: list[str] = []

    def tell(step: runner.Step) -> None:
        _tell(step)
        if step.reason:
            ran.append(step.stage)

    done = runner.run(checked, place, first=first or STAGES[0], last=last or STAGES[-1], shards=shards, tell=tell)
    if not ran:
        console.print("Everything is up to date: nothing was run.")
    if "evaluate" in done:
        show_result(place, done)


def _run_domains(folder: Path, store: str, shards: int, at_once: int) -> None:
    """Runs every domain, whatever becomes of the others. Raises UserError if any failed, after all have ended."""
    tell = lambda name, what: console.print(f"{name}: {what}", soft_wrap=True, markup=False)  # noqa: E731
    faults = domains.run(domains.load(folder), store, shards, at_once, tell)
    show(folder, store, faults)
    if faults:
        raise UserError(f"{', '.join(faults)} failed; the lines above say why, and all other domains have ended")


def _tell(step: runner.Step) -> None:
    if step.reason:
        console.print(f"[bold]{step.stage:<9}[/] runs: {escape(step.reason)}", soft_wrap=True)
    else:
        state = f"left out: {escape(step.left_out)}" if step.left_out else "up to date"
        console.print(f"[bold]{step.stage:<9}[/] [dim]{state}[/]", soft_wrap=True)
