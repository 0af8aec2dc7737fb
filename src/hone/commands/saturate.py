"""`hone saturate`: what more queries or documents would bring."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hone import backends
from hone.commands.options import DEFAULT_STORE, Settings, StoreOption, duration_hours, verbs
from hone.commands.output import console
from hone.engine import ablation
from hone.report.ablation import saturation_markdown, saturation_page, sentence
from hone.report.files import write_pages
from hone.report.findings import points
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def saturate(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    seeds: Annotated[int, typer.Option(min=1, help="Whole runs of each point, each with its own seed.")] = 3,
    price: Annotated[float, typer.Option("--price", help="Price of one hour of this machine.")] = 0.0,
    budget: Annotated[str, typer.Option(help="Start nothing new after this long, such as 2h or 30m.")] = "24h",
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default NAME-saturation here.")] = None,
) -> None:
    """Train with ever fewer queries and documents, fit the curve, and say what twice as many would bring."""
    backends.require("torch")
    study = ablation.load(settings, open_store(store))
    folder = out or Path(f"{study.data['name']}-saturation")
    first = int(study.data.get("seed", 17))
    say = lambda line: console.print(f"[dim]{escape(line)}[/]")  # noqa: E731
    result = ablation.saturate(study, range(first, first + seeds), price, duration_hours(budget), say)
    for curve in result.curves:
        console.print(f"[bold]{escape(sentence(curve))}[/]", soft_wrap=True)
        measured = ", ".join(f"{x:,.0f}: {points(gain)}" for x, gain in curve.measured)
        console.print(f"  measured, {curve.axis} to points: {measured}", soft_wrap=True)
    write_pages(folder, saturation_page(result), saturation_markdown(result))
    (folder / "saturation.json").write_text(json.dumps(asdict(result), indent=1), "utf-8")
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
