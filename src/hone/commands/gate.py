"""`hone gate`: the verdict on a run's model, criterion by criterion."""

from typing import Annotated

import typer

from hone.commands.options import DEFAULT_STORE, RunName, StoreOption, verbs
from hone.commands.output import console
from hone.engine import record
from hone.errors import UserError
from hone.evaluation.policy import EXIT_CODES, read_verdict
from hone.report.terminal_table import grid
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def gate(
    run_name: RunName,
    store: StoreOption = DEFAULT_STORE,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if the model is rejected, 4 if held.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdict.json as it is.")] = False,
) -> None:
    """Show the verdict on a run's model: every criterion with value, threshold and outcome."""
    place = open_store(store)
    manifest = record.results(place, run_name).get("gate")
    if manifest is None:
        raise UserError(f"run {run_name!r} has no verdict yet; `hone run` its settings first")
    with scratch_folder() as scratch:
        text = (fetch_folder(place, manifest, "verdict", scratch) / "verdict.json").read_text("utf-8")
    verdict, criteria = read_verdict(text)
    if as_json:
        print(text)
        raise typer.Exit(EXIT_CODES[verdict["verdict"]] if strict else 0)
    rows = [(row.name, row.outcome, row.found, f"{row.wanted}\n{row.note}".rstrip()) for row in criteria]
    console.print(grid(("criterion", "outcome", "value", "wanted"), rows, "value", f"verdict: {verdict['verdict']}"))
    raise typer.Exit(EXIT_CODES[verdict["verdict"]] if strict else 0)
