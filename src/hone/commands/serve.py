"""`hone serve`: a local page to search with both models and judge results with a click."""

from pathlib import Path
from typing import Annotated

import typer

from hone.commands.options import DEFAULT_STORE, JUDGEMENTS, RunName, StoreOption, verbs
from hone.serving import page

app = verbs()


@app.command()
def serve(
    run_name: RunName,
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen on; another than loopback is open to others.")] = (
        "127.0.0.1"
    ),
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where judgements go, as queries.jsonl and qrels/test.tsv; default judgements/RUN, which the "
            "next `hone run` uses."
        ),
    ] = None,
) -> None:
    """Serve a page to search with base and tuned side by side, and to judge results with a click."""
    page.serve(run_name, store, host, port, out or JUDGEMENTS / run_name)
