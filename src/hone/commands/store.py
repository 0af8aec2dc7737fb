"""The commands about what the store keeps: results, and published models."""

from typing import Annotated

import typer

from hone.commands.options import DEFAULT_STORE, StoreOption

app = typer.Typer()
registry = typer.Typer(help="Published models: what serves a domain now, and what did before.", no_args_is_help=True)
app.add_typer(registry, name="registry")
storage = typer.Typer(help="The store: what it holds, whether it is whole, what may go.", no_args_is_help=True)
app.add_typer(storage, name="store")
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The name that publish.domain gave.")]


@registry.command("list")
def registry_list(store: StoreOption = DEFAULT_STORE) -> None:
    """List the domains that have been published to, each with its current version."""
    from hone.commands import console

    console.registry_list(store)


@registry.command("show")
def registry_show(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Show every version of a domain, and every move of what is current."""
    from hone.commands import console

    console.registry_show(domain, store)


@registry.command("promote")
def registry_promote(
    domain: Domain,
    version: Annotated[str, typer.Argument(help="The version to make current.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a published version current."""
    from hone.commands import console

    console.registry_move(domain, version, store)


@registry.command("rollback")
def registry_rollback(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Make the version before the current one current again."""
    from hone.commands import console

    console.registry_move(domain, "", store)


@app.command()
def repair(
    name: Annotated[str, typer.Argument(metavar="RUN|PREFIX", help="A run's name, or one result: stage/fingerprint.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make damaged or missing parts of a run again."""
    from hone.engine.maintenance import show_repair

    show_repair(store, name)


@storage.command("ls")
def store_ls(store: StoreOption = DEFAULT_STORE) -> None:
    """List the runs with their size, and whether their parts are there."""
    from hone.engine.maintenance import show_runs

    show_runs(store)


@storage.command("verify")
def store_verify(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="Only this run.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read every part and compare it with its checksum; exit code 2 if any is damaged."""
    from hone.engine.maintenance import show_verified

    show_verified(store, name)


@storage.command("diff")
def store_diff(
    first: Annotated[str, typer.Argument(help="A run.")],
    second: Annotated[str, typer.Argument(help="Another run.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say what differs between two runs: settings, sources, code, results."""
    from hone.engine.maintenance import show_difference

    show_difference(store, first, second)


@storage.command("gc")
def store_gc(
    store: StoreOption = DEFAULT_STORE,
    older_than: Annotated[float, typer.Option(min=0, help="Hours: what is younger may still be in use.")] = 24.0,
    results: Annotated[bool, typer.Option("--results", help="Also whole results that no run refers to.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only listed.")] = False,
) -> None:
    """List what killed runs left behind: parts without a manifest, uploads that never ended."""
    from hone.engine.maintenance import show_garbage

    show_garbage(store, older_than, results=results, delete=delete)
