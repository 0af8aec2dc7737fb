"""`hone repair`: damaged or missing parts of a run, made again."""

from typing import Annotated

import typer
from rich.markup import escape

from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console
from hone.engine import maintenance
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def repair(
    name: Annotated[str, typer.Argument(metavar="RUN|PREFIX", help="A run's name, or one result: stage/fingerprint.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make damaged or missing parts of a run again."""
    for prefix, outcome in maintenance.repair(open_store(store), name):
        console.print(f"{escape(prefix)}: {outcome}", soft_wrap=True)
