"""`hone store`: what a store holds, whether it is whole, what differs, and what may go."""

import json
from typing import Annotated, Any

import typer
from rich.markup import escape

from hone.commands.options import DEFAULT_STORE, StoreOption, verbs
from hone.commands.output import console, where
from hone.engine import record
from hone.engine.garbage import collect, garbage, runs
from hone.engine.maintenance import differences, flaws, parts_of, prefixes_of
from hone.errors import UserError
from hone.report.terminal_table import grid
from hone.results import registry
from hone.results.manifest import missing_parts
from hone.stages import STAGES
from hone.storage.addresses import open_store
from hone.storage.base import Store
from hone.storage.policy import document

app = verbs("The store: what it holds, whether it is whole, what may go.")


@app.command("ls")
def store_ls(
    store: StoreOption = DEFAULT_STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """List the runs with their size, and whether their parts are there."""
    opened = _existing(store)
    rows: list[dict[str, Any]] = []
    sizes = {one.key: one.size for one in opened.objects()}
    for name in runs(opened):
        results = record.results(opened, name)
        size = sum(part.bytes for manifest in results.values() for _, part in parts_of(manifest))
        whole = not any(missing_parts(manifest, sizes) for manifest in results.values())
        rows.append({"run": name, "stages": sorted(results, key=STAGES.index), "bytes": size, "whole": whole})
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    shown = [
        (
            row["run"],
            f"{len(row['stages'])} of {len(STAGES)}",
            f"{row['bytes'] / 1e6:,.1f}",
            "whole" if row["whole"] else f"damaged: hone repair {row['run']}",
        )
        for row in rows
    ]
    console.print(grid(("run", "stages", "MB", "state"), shown, "MB"))


@app.command("verify")
def store_verify(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="Only this run.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read every part and compare it with its checksum; exit code 2 if any is damaged."""
    opened = _existing(store)
    chosen = [name] if name else runs(opened)
    prefixes = dict.fromkeys(prefix for one in chosen for prefix in prefixes_of(opened, one))
    damaged = [line for prefix in prefixes for line in flaws(opened, prefix)]
    damaged += [] if name else registry.flaws(opened)
    for line in damaged:
        console.print(escape(line), soft_wrap=True)
    if damaged:
        raise UserError(f"{len(damaged)} of the above in {opened.uri} are damaged; each line says what to do")
    published = "" if name else ", and so is all that is published"
    console.print(f"{len(prefixes)} results of {len(chosen)} runs are whole{published}.")


def _existing(uri: str) -> Store:
    """A store that holds something. Raises UserError: nothing can be said of one that is not there."""
    opened = open_store(uri)
    if next(iter(opened.objects()), None) is None:
        raise UserError(f"there is nothing in the store {where(opened)}; give its place with --store or HONE_STORE")
    return opened


@app.command("diff")
def store_diff(
    first: Annotated[str, typer.Argument(help="A run.")],
    second: Annotated[str, typer.Argument(help="Another run.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say what differs between two runs: settings, sources, code, results."""
    opened = open_store(store)
    lines = list(differences(record.results(opened, first), record.results(opened, second)))
    for name, line in lines:
        console.print(f"[bold]{name:<9}[/] {escape(line)}", soft_wrap=True)
    if not lines:
        console.print("Both runs stand for the same results.")


@app.command("gc")
def store_gc(
    store: StoreOption = DEFAULT_STORE,
    older_than: Annotated[float, typer.Option(min=0, help="Hours: what is younger may still be in use.")] = 24.0,
    results: Annotated[
        bool, typer.Option("--results", help="Also whole results that no run refers to, and vectors unused for long.")
    ] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only listed.")] = False,
) -> None:
    """List what killed runs left behind: parts without a manifest, uploads that never ended."""
    opened = _existing(store)
    count, size = 0, 0
    for one in (collect if delete else garbage)(opened, older_than, results=results):
        console.print(f"{escape(one.stored.key)}  [dim]{one.reason}, {one.stored.size:,} bytes[/]", soft_wrap=True)
        count, size = count + 1, size + one.stored.size
    done = "removed" if delete else "may go; --delete removes them"
    console.print(f"{count} objects, {size / 1e6:,.1f} MB {done}." if count else "Nothing to remove.")


@app.command("policy")
def store_policy(
    domains: Annotated[
        list[str], typer.Argument(metavar="DOMAIN[=PRINCIPAL]...", help="One domain; or each with who runs it.")
    ],
    store: Annotated[str, typer.Option("--store", help="The store of all; a domain's own is STORE/DOMAIN.")],
    reads: Annotated[
        list[str] | None, typer.Option("--reads", metavar="s3://…", help="What it reads beside: corpus, models.")
    ] = None,
) -> None:
    """Print the S3 policy with which a domain's runner reads and writes its own store and no other domain's."""
    named = {domain: principal for domain, _, principal in (one.partition("=") for one in domains)}
    print(json.dumps(document(store, named, reads or []), indent=1))
