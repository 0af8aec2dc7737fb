"""`hone plan`: what a run will cost, before anything is spent."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hone import settings as settings_file
from hone.commands.options import DEFAULT_STORE, Settings, StoreOption, verbs
from hone.commands.output import console
from hone.engine.forecast import forecast
from hone.engine.scratch import scratch_folder
from hone.storage.base import open_store

app = verbs()


@app.command()
def plan(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    device: Annotated[
        str, typer.Option("--device", help="What would run it: cpu, l4, l40s, a100, h100 or h200.")
    ] = "h100",
    price: Annotated[float, typer.Option("--price", help="Price of one hour of it.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as JSON.")] = False,
) -> None:
    """Forecast tokens, pairs, steps, hours, storage and money of a run; runs and writes nothing."""
    with scratch_folder() as scratch:
        found = forecast(settings_file.load(settings), open_store(store), device, price, scratch)
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
