"""The command line. Every command imports what it needs when it runs, so that `hone --help` answers at once."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from hone.commands import kubeflow as kubeflow
from hone.commands import store
from hone.commands.options import DEFAULT_STORE, RunName, Settings, StoreOption

app = typer.Typer(
    name="hone",
    help="Specialise a dense retriever to one corpus, and prove that it is better there.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # importing rich for the help text alone would double the time to answer
    pretty_exceptions_enable=False,
)


@app.command()
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The corpus: a folder or a file.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; default FOLDER.yaml here.")] = None,
    student: Annotated[str, typer.Option("--student", help="The model to specialise: folder or package:NAME.")] = "",
    name: Annotated[str, typer.Option("--name", help="The run's name; default the folder's.")] = "",
) -> None:
    """Look at a corpus and write a commented settings file for it."""
    from hone.commands.init import write_settings

    path = write_settings(folder, out, student, name)
    print(f"wrote {path}; next: hone run {path}")


@app.command()
def run(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    first: Annotated[str, typer.Option("--from", metavar="STAGE", help="Start here; all before must be done.")] = "",
    last: Annotated[str, typer.Option("--until", metavar="STAGE", help="Stop after this stage.")] = "",
    shards: Annotated[int, typer.Option(min=1, help="Cut sharded stages into this many shares.")] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Only say why each stage would run or not.")] = False,
) -> None:
    """Run the whole chain; stages whose result is there already are not run again."""
    from hone.commands import console

    console.run(settings, store, first, last, shards, explain=explain)


@app.command()
def plan(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    device: Annotated[
        str, typer.Option("--device", help="What would run it: cpu, l4, l40s, a100, h100 or h200.")
    ] = "h100",
    price: Annotated[float, typer.Option("--price", help="Price of one hour of it.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as JSON.")] = False,
) -> None:
    """Forecast tokens, pairs, steps, hours, storage and money of a run; runs and writes nothing."""
    from hone.commands import console

    console.plan(settings, store, device, price, as_json=as_json)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The stage to run.")],
    config: Annotated[str, typer.Option("--config", help="Its settings as JSON, or the path of a settings file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="TABLE=PREFIX", help="A result to read, such as docs=prepare/1f0c…"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    shard: Annotated[str, typer.Option("--shard", metavar="i/n", help="Do one share of a sharded stage.")] = "0/1",
    merge: Annotated[int, typer.Option("--merge", metavar="n", min=0, help="Join n finished shards instead.")] = 0,
) -> None:
    """Run one stage, exactly as its container does; prints the prefix of its result."""
    from hone.commands import console

    console.stage(name, config, inputs or [], store, shard, merge)


@app.command()
def search(
    run_name: RunName,
    query: Annotated[str, typer.Argument(help="What to search for.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show the top ten of the base and the tuned model side by side."""
    from hone.serving.search import show

    show(run_name, query, store)


@app.command()
def serve(
    run_name: RunName,
    store: StoreOption = DEFAULT_STORE,
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen on; another than loopback is open to others.")] = (
        "127.0.0.1"
    ),
    out: Annotated[Path, typer.Option(help="Where judgements go, as queries.jsonl and qrels/test.tsv.")] = Path(
        "judgements"
    ),
) -> None:
    """Serve a page to search with base and tuned side by side, and to judge results with a click."""
    from hone.serving.serve import serve

    serve(run_name, store, host, port, out)


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with.")],
    other: Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared.")],
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default OTHER-against-ONE here.")] = None,
) -> None:
    """Compare the tuned models of two runs on every test set that both measured, and write a report."""
    from hone.serving.compare import show

    show(one, other, store, out or Path(f"{other}-against-{one}"))


@app.command()
def gate(
    run_name: RunName,
    store: StoreOption = DEFAULT_STORE,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if the model is rejected.")] = False,
) -> None:
    """Show the verdict on a run's model: every criterion with value, threshold and outcome."""
    from hone.commands import console

    raise typer.Exit(console.gate(run_name, store, strict=strict))


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = "",
    json_schema: Annotated[bool, typer.Option("--json-schema", help="Print the schema of a settings file.")] = False,
) -> None:
    """List stages, tables with columns and types, and settings with defaults and meaning."""
    from hone.engine.schema import describe, schema_json

    if json_schema:
        print(schema_json())
    else:
        describe(name)


app.add_typer(kubeflow.app)
app.add_typer(store.app)


def main() -> None:
    """The `hone` command: mistakes of the user end with one sentence and exit code 2, lasting faults with 75."""
    from hone.errors import TransientError, UserError
    from hone.launch import is_helper

    if is_helper():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # Hone loads models from folders only; nothing may be fetched while it runs.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Hone shows its own progress; a bar for every loaded weight would hide it.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except (UserError, TransientError) as error:
        from hone.log import without_secrets

        print(f"hone: {without_secrets(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
