"""`hone saturate`: what more queries or documents would bring."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hone import backends
from hone.commands.options import (
    DEFAULT_STORE,
    BudgetOption,
    SeedsOption,
    Settings,
    StoreOption,
    duration_hours,
    verbs,
)
from hone.commands.output import console, write_study
from hone.engine import ablation
from hone.report.ablation import saturation_markdown, saturation_page, sentence
from hone.report.findings import points
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def saturate(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    seeds: SeedsOption = 3,
    price: Annotated[float, typer.Option("--price", help="Price of one hour of this machine.")] = 0.0,
    budget: BudgetOption = "24h",
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default NAME-saturation here.")] = None,
) -> None:
    """Train with ever fewer queries and documents, fit the curve, and say what twice as many would bring."""
    backends.require("torch")
    study = ablation.load(settings, open_store(store))
    folder = out or Path(f"{study.data['name']}-saturation")
    say = lambda line: console.print(f"[dim]{escape(line)}[/]")  # noqa: E731
    result = ablation.saturate(study, study.seeds(seeds), price, duration_hours(budget), say)
    for curve in result.curves:
        console.print(f"[bold]{escape(sentence(curve))}[/]", soft_wrap=True)
        measured = ", ".join(f"{x:,.0f}: {points(gain)}" for x, gain in curve.measured)
        console.print(f"  measured, {curve.axis} to points: {measured}", soft_wrap=True)
    write_study(folder, saturation_page(result), saturation_markdown(result), "saturation", asdict(result))
