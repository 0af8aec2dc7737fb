"""`hone ablate`: what each part of the recipe is worth."""

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
from hone.report.ablation import NUMERIC, ablation_markdown, ablation_page, cells, columns, finding
from hone.report.terminal_table import grid
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def ablate(
    settings: Settings,
    over: Annotated[str, typer.Option("--over", help="loss, queries, negatives, teacher, curation, several, or all.")],
    store: StoreOption = DEFAULT_STORE,
    seeds: SeedsOption = 3,
    budget: BudgetOption = "24h",
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default NAME-ablation here.")] = None,
) -> None:
    """Run the recipe with one thing changed at a time, and say what each is worth; nothing is run twice."""
    backends.require("torch")
    study = ablation.load(settings, open_store(store))
    folder = out or Path(f"{study.data['name']}-ablation")
    chosen = [name.strip() for name in over.split(",")]
    result = ablation.ablate(
        study, chosen, study.seeds(seeds), duration_hours(budget), folder,
        lambda line: console.print(f"[dim]{escape(line)}[/]"),
    )  # fmt: skip
    shown = columns(result)
    rows = [(row.group, *cells(row, shown)) for row in result.rows]
    console.print(grid(("", *shown), rows, NUMERIC, finding(result)))
    write_study(folder, ablation_page(result), ablation_markdown(result), "ablation", asdict(result))
