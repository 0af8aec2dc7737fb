"""`hone registry`: published models, what serves a domain now and what did before."""

from typing import Annotated

import typer

from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console, where
from hone.errors import UserError
from hone.report.terminal_table import grid
from hone.results import registry
from hone.storage.addresses import open_store

app = verbs("Published models: what serves a domain now, and what did before.")
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The name that publish.domain gave.")]


@app.command("list")
def registry_list(store: StoreOption = DEFAULT_STORE) -> None:
    """List the domains that have been published to, each with its current version."""
    opened = open_store(store)
    rows: list[tuple[str, ...]] = []
    for domain in registry.domains(opened):
        last = registry.moves(opened, domain)[-1]
        count = sum(1 for _ in registry.releases(opened, domain))
        rows.append((domain, last.version, str(count), last.by, last.at))
    console.print(grid(("domain", "current", "versions", "moved by", "at"), rows, "versions"))


@app.command("show")
def registry_show(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Show every version of a domain, and every move of what is current."""
    opened = open_store(store)
    moves = registry.moves(opened, domain)
    if not moves:
        raise UserError(
            f"nothing has been published as {domain!r} in {opened.uri}; `hone registry list` shows what has"
        )
    versions = [
        (release.version + " (current)" * (release.version == moves[-1].version), release.finding)
        for release in registry.releases(opened, domain)
    ]
    console.print(grid(("version", "finding"), versions, title=f"{domain}: versions"))
    history = [(str(move.number), move.version, move.action, move.by, move.at) for move in moves]
    console.print(grid(("move", "version", "action", "by", "at"), history, "move", f"{domain}: what was current"))
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
