"""`hone domains`: how every domain of a folder stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console
from hone.engine import domains as engine
from hone.engine import general
from hone.report import domains as report
from hone.report import general as general_report
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def domains(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="base.yaml and one YAML file for each domain.")],
    store: StoreOption = "",
    out: Annotated[Path | None, typer.Option("--out", help="A folder for domains.html and domains.md.")] = None,
) -> None:
    """Show documents, gain, interval, p, verdict, cost and age of every domain; --out writes it as a page too."""
    show(folder, store, {}, out)


def show(folder: Path, store: str, faults: Mapping[str, str], out: Path | None = None) -> None:
    """Prints the table, and what failed; writes it as page and Markdown where asked to."""
    members = engine.load(folder)
    place = store or engine.store_of(members) or DEFAULT_STORE
    rows = engine.status(members, open_store(place), dict(faults))
    course = general.course(folder, members)
    standings = general.status(course, open_store(place), faults) if course else []
    console.print(report.terminal(rows))
    if standings:
        console.print(general_report.terminal(standings))
        console.print(general_report.finding(standings), soft_wrap=True, markup=False)
    for name, fault in faults.items():
        console.print(f"{name}: {fault}", soft_wrap=True, markup=False)
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "domains.html").write_text(report.page(rows, standings), "utf-8")
        (out / "domains.md").write_text(report.markdown(rows, standings), "utf-8")
