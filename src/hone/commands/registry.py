"""`hone registry`: published models, what serves a domain now and what did before."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console, where
from hone.errors import UserError
from hone.results import registry
from hone.storage.addresses import open_store

app = verbs("Published models: what serves a domain now, and what did before.")
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The name that publish.domain gave.")]


@app.command("list")
def registry_list(store: StoreOption = DEFAULT_STORE) -> None:
    """List the domains that have been published to, each with its current version."""
    opened = open_store(store)
    grid = Table("domain", "current", "versions", "moved by", "at")
    for domain in registry.domains(opened):
        last = registry.moves(opened, domain)[-1]
        count = sum(1 for _ in registry.releases(opened, domain))
        grid.add_row(domain, last.version, str(count), escape(last.by), last.at)
    console.print(grid)


@app.command("show")
def registry_show(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Show every version of a domain, and every move of what is current."""
    opened = open_store(store)
    moves = registry.moves(opened, domain)
    if not moves:
        raise UserError(
            f"nothing has been published as {domain!r} in {opened.uri}; `hone registry list` shows what has"
        )
    versions = Table("version", "finding", title=f"{domain}: versions", title_justify="left")
    for release in registry.releases(opened, domain):
        mark = " (current)" if release.version == moves[-1].version else ""
        versions.add_row(f"{release.version}{mark}", escape(release.finding))
    history = Table("move", "version", "action", "by", "at", title=f"{domain}: what was current", title_justify="left")
    for move in moves:
        history.add_row(str(move.number), move.version, move.action, escape(move.by), move.at)
    console.print(versions, history)
    console.print(f"model: {where(opened)}/models/{domain}/{moves[-1].version}", soft_wrap=True)


@app.command("promote")
def registry_promote(
    domain: Domain,
    version: Annotated[str, typer.Argument(help="The version to make current.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a published version current."""
    opened = open_store(store)
    _moved(domain, registry.move(opened, domain, version, "promote", registry.moves(opened, domain)))


@app.command("rollback")
def registry_rollback(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Make the version before the current one current again."""
    _moved(domain, registry.rollback(open_store(store), domain))


def _moved(domain: str, move: registry.Move) -> None:
    console.print(f"{domain}: version {move.version} is current (move {move.number})")
