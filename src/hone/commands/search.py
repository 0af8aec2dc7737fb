"""`hone search`: the base and the tuned model's answers to one query, side by side."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hone.commands.options import DEFAULT_STORE, RunName, StoreOption, verbs
from hone.commands.output import console
from hone.errors import UserError
from hone.serving.search import Hit, top_tens
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def search(
    run_name: RunName,
    query: Annotated[str, typer.Argument(help="What to search for.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show the top ten of the base and the tuned model side by side."""
    if not query.strip():
        raise UserError("the query is empty; type what you would search for")
    base, tuned = top_tens(open_store(store), run_name, query)
    table = Table(title=escape(query), title_justify="left")
    for heading in ("", "base", "tuned", "moved"):
        table.add_column(heading, overflow="fold")
    for rank in range(max(len(base), len(tuned))):
        left, right = (hits[rank] if rank < len(hits) else None for hits in (base, tuned))
        table.add_row(str(rank + 1), _cell(left), _cell(right), _moved(rank + 1, right))
    console.print(table)


def _cell(hit: Hit | None) -> str:
    return f"{hit.score:.3f} {escape(hit.title)} [dim]{escape(hit.doc_id)}[/]" if hit else ""


def _moved(rank: int, hit: Hit | None) -> str:
    if hit is None or hit.other_rank == rank:
        return ""
    if not hit.other_rank:
        return "[green]new[/]"
    change = hit.other_rank - rank
    return f"[green]▲ {change}[/]" if change > 0 else f"[red]▼ {-change}[/]"
