"""`hone plan`: what a run will cost, before anything is spent."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Column, Table

from hone import backends
from hone import settings as settings_file
from hone.commands.options import DEFAULT_STORE, SetOption, Settings, StoreOption, verbs
from hone.commands.output import console
from hone.core.forecast import Forecast
from hone.engine.forecast import forecast
from hone.scratch import scratch_folder
from hone.storage.addresses import open_store

app = verbs()
SINGULAR = {"queries": "query"}


@app.command()
def plan(
    settings: Settings,
    store: StoreOption = "",
    changes: SetOption = None,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            help="What would run it: cpu, l4, l40s, a100, h100 or h200; cpu under the preset cpu, else h100.",
        ),
    ] = "",
    price: Annotated[float, typer.Option("--price", help="Price of one hour of it.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as JSON.")] = False,
) -> None:
    """Forecast tokens, pairs, steps, hours, storage and money of a run; runs and writes nothing."""
    backends.require("transformers")
    checked = settings_file.load(settings, changes or [])
    device = device or ("cpu" if checked.preset.startswith("cpu") else "h100")
    with scratch_folder() as scratch:
        cost = forecast(checked, open_store(store or checked.store or DEFAULT_STORE), device, price, scratch)
    if as_json:
        print(json.dumps({**asdict(cost), "hours": cost.total("hours"), "price": cost.total("price")}, indent=1))
        return
    console.print(_grid(cost, with_price=price > 0))
    for note in cost.notes:
        console.print(f"- {escape(note)}", soft_wrap=True)


def _grid(cost: Forecast, *, with_price: bool) -> Table:
    """A row for each stage that takes time, and one for all."""
    columns = ["stage", "work", f"time, one {cost.device}", "storage", *(["price"] if with_price else []), "rests on"]
    grid = Table(
        *(Column(name, overflow="fold") for name in columns), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )

    def add(stage: str, work: str, spent: tuple[str, str, str], source: str) -> None:
        grid.add_row(stage, work, *(spent if with_price else spent[:2]), source)

    for row in cost.rows:
        if row.hours or any(row.amounts.values()):
            work = (_amount(name, amount) for name, amount in row.amounts.items() if amount)
            add(row.stage, "\n".join(work), _spent(row.hours, row.gigabytes, row.price), row.source)
    grid.add_section()
    add("all", "", _spent(*map(cost.total, ("hours", "gigabytes", "price"))), "")
    return grid


def _amount(name: str, amount: float) -> str:
    count, what = f"{amount:,.0f}", name.replace("_", " ")
    return f"{count} {SINGULAR.get(what, what.removesuffix('s'))}" if count == "1" else f"{count} {what}"


def _spent(hours: float, gigabytes: float, price: float) -> tuple[str, str, str]:
    minutes = 60 * hours
    time = f"{hours:,.1f} h" if hours >= 2 else f"{minutes:,.1f} min" if minutes >= 2 else f"{60 * minutes:,.1f} s"
    size = f"{gigabytes:,.2f} GB" if gigabytes >= 1 else f"{1e3 * gigabytes:,.2f} MB"
    return time, size, f"{price:,.2f}" if price else "–"
