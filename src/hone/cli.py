"""The command line. Every command imports what it needs when it runs, so that `hone --help` answers at once."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="hone",
    help="Specialise a dense retriever to one corpus, and prove that it is better there.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # importing rich for the help text alone would double the time to answer
    pretty_exceptions_enable=False,
)
registry = typer.Typer(help="Published models: what serves a domain now, and what did before.", no_args_is_help=True)
app.add_typer(registry, name="registry")
storage = typer.Typer(help="The store: what it holds, whether it is whole, what may go.", no_args_is_help=True)
app.add_typer(storage, name="store")
RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's name in the store.")]
Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="The name that publish.domain gave.")]
Settings = Annotated[Path, typer.Argument(metavar="SETTINGS.yaml", help="The settings file; `hone init` writes one.")]
StoreOption = Annotated[str, typer.Option("--store", help="Where results live: a folder or s3://bucket/prefix.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="A name in pipelines/profiles/, or a file.")]
ImagesOption = Annotated[Path | None, typer.Option("--images", help="A file of image: address@sha256:… lines.")]
HostOption = Annotated[str, typer.Option("--host", help="The address of Kubeflow Pipelines; default this cluster's.")]
DEFAULT_STORE = "hone-store"


@app.command()
def init(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="The corpus: a folder or a file.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write; default FOLDER.yaml here.")] = None,
    student: Annotated[str, typer.Option("--student", help="The model to specialise: folder or package:NAME.")] = "",
    name: Annotated[str, typer.Option("--name", help="The run's name; default the folder's.")] = "",
) -> None:
    """Look at a corpus and write a commented settings file for it."""
    from hone.init import write_settings

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
    from hone import console

    console.run(settings, store, first, last, shards, explain=explain)


@app.command()
def plan(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    device: Annotated[str, typer.Option("--device", help="What would run it: cpu, l4, a100 or h100.")] = "h100",
    price: Annotated[float, typer.Option("--price", help="Price of one hour of it.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the forecast as JSON.")] = False,
) -> None:
    """Forecast tokens, pairs, steps, hours, storage and money of a run; runs and writes nothing."""
    from hone import console

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
    from hone import console

    console.stage(name, config, inputs or [], store, shard, merge)


@app.command()
def compile(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="A name in pipelines/, or the path of a file.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write, for Kubeflow to run.")],
    profile: ProfileOption = "dev-cpu",
    images: ImagesOption = None,
) -> None:
    """Turn a pipeline and a profile into what Kubeflow runs."""
    from hone.kubeflow.compile import compile
    from hone.kubeflow.profile import load

    compile(pipeline, load(profile, images), out)
    print(f"wrote {out}")


@app.command()
def register(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="A name in pipelines/, or the path of a file.")],
    profile: ProfileOption,
    images: ImagesOption = None,
    host: HostOption = "",
    namespace: Annotated[str, typer.Option(help="The namespace, on a platform of many users.")] = "",
) -> None:
    """Upload a pipeline to Kubeflow, unless the same is there already."""
    from hone.kubeflow import submit
    from hone.kubeflow.profile import load

    version = submit.register(submit.connect(host, namespace), pipeline, load(profile, images))
    print(f"{version.pipeline} {version.digest}: {'uploaded' if version.new else 'is there already'}")


@app.command()
def submit(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="A name in pipelines/, or the path of a file.")],
    settings: Settings,
    store: Annotated[str, typer.Option("--store", help="Where results live: s3://bucket/prefix.")],
    profile: ProfileOption,
    images: ImagesOption = None,
    host: HostOption = "",
    namespace: Annotated[str, typer.Option(help="The namespace, on a platform of many users.")] = "",
    service_account: Annotated[str, typer.Option(help="The service account of the tasks.")] = "",
    wait: Annotated[bool, typer.Option(help="Follow the run and exit with its verdict.")] = True,
) -> None:
    """Run a pipeline on Kubeflow, or adopt the same run; exit 0 promote, 3 hold, 4 reject, 1 failed."""
    from hone.kubeflow import submit
    from hone.kubeflow.profile import load

    sys.exit(
        submit.main(
            submit.connect(host, namespace),
            (pipeline, load(profile, images)),
            settings,
            store,
            submit.Place(namespace, service_account=service_account),
            wait=wait,
        )
    )


@app.command()
def reconcile(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="The pipelines and recurring runs there shall be.")],
    host: HostOption = "",
    namespace: Annotated[str, typer.Option(help="The namespace, on a platform of many users.")] = "",
) -> None:
    """Make Kubeflow hold the pipelines and the recurring runs of a plan; the chart's registrar does so."""
    from hone.kubeflow.reconcile import load_plan, reconcile
    from hone.kubeflow.submit import connect

    wanted = load_plan(plan)
    for sentence in reconcile(connect(host, namespace), wanted, namespace):
        print(sentence, flush=True)


@app.command()
def selftest(
    host: Annotated[str, typer.Option(help="Kubeflow Pipelines must let this account in.")] = "",
    namespace: Annotated[str, typer.Option(help="The namespace of runs and queue.")] = "",
    store: Annotated[str, typer.Option(help="Must give back what is written to it.")] = "",
    queue: Annotated[str, typer.Option(help="The Kueue LocalQueue that must be active.")] = "",
    gpus: Annotated[int, typer.Option(help="GPUs that must be visible.")] = 0,
    gpu_gib: Annotated[int, typer.Option(help="GiB of memory that each must have.")] = 0,
) -> None:
    """Try, inside a cluster, what runs will need of it; `helm test` does so."""
    from hone.kubeflow.preflight import Needs, tell
    from hone.kubeflow.selftest import checks

    tell("selftest", checks(host, namespace, store, queue, Needs(gpus=gpus, gpu_gib=gpu_gib)))


@app.command()
def fetch(
    models: Annotated[
        list[str], typer.Argument(metavar="NAME=SOURCE[@SHA256]", help="SOURCE: s3://…, path, package:…")
    ],
    into: Annotated[Path, typer.Option("--into", help="The folder in which NAME is made.")],
) -> None:
    """Put models where runs find them, each whole or not at all; prints their digests."""
    from hone.sources import fetch_all

    for name, digest in fetch_all(models, into):
        print(f"{name}: sha256 {digest}", flush=True)


@app.command()
def preflight(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    gpus: Annotated[int, typer.Option(help="GPUs that must be visible.")] = 0,
    gpu_gib: Annotated[int, typer.Option(help="GiB of memory that each must have.")] = 0,
    scratch_gib: Annotated[int, typer.Option(help="GiB that must be free for temporary files.")] = 0,
) -> None:
    """Check in a minute what would otherwise fail after hours: store, data, models, GPU, space, endpoints."""
    from hone.kubeflow.preflight import Needs, check
    from hone.settings import load
    from hone.store import open_store

    check(load(settings), open_store(store), Needs(gpus=gpus, gpu_gib=gpu_gib, scratch_gib=scratch_gib))


@app.command()
def launch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A stage, preflight or notify.")],
    executor_input: Annotated[str, typer.Argument(metavar="EXECUTOR_INPUT", help="The JSON that Kubeflow passes.")],
) -> None:
    """Run one task of a Kubeflow pipeline, inside its container."""
    from hone.kubeflow.launcher import launch

    launch(name, executor_input)


@app.command()
def search(
    run_name: RunName,
    query: Annotated[str, typer.Argument(help="What to search for.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Show the top ten of the base and the tuned model side by side."""
    from hone.search import show

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
    from hone.serve import serve

    serve(run_name, store, host, port, out)


@app.command()
def compare(
    one: Annotated[str, typer.Argument(metavar="RUN", help="The run to compare with.")],
    other: Annotated[str, typer.Argument(metavar="RUN", help="The run that is compared.")],
    store: StoreOption = DEFAULT_STORE,
    out: Annotated[Path | None, typer.Option(help="The folder of the report; default OTHER-against-ONE here.")] = None,
) -> None:
    """Compare the tuned models of two runs on every test set that both measured, and write a report."""
    from hone.versus import show

    show(one, other, store, out or Path(f"{other}-against-{one}"))


@app.command()
def gate(
    run_name: RunName,
    store: StoreOption = DEFAULT_STORE,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if the model is rejected.")] = False,
) -> None:
    """Show the verdict on a run's model: every criterion with value, threshold and outcome."""
    from hone import console

    raise typer.Exit(console.gate(run_name, store, strict=strict))


@registry.command("list")
def registry_list(store: StoreOption = DEFAULT_STORE) -> None:
    """List the domains that have been published to, each with its current version."""
    from hone import console

    console.registry_list(store)


@registry.command("show")
def registry_show(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Show every version of a domain, and every move of what is current."""
    from hone import console

    console.registry_show(domain, store)


@registry.command("promote")
def registry_promote(
    domain: Domain,
    version: Annotated[str, typer.Argument(help="The version to make current.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make a published version current."""
    from hone import console

    console.registry_move(domain, version, store)


@registry.command("rollback")
def registry_rollback(domain: Domain, store: StoreOption = DEFAULT_STORE) -> None:
    """Make the version before the current one current again."""
    from hone import console

    console.registry_move(domain, "", store)


@app.command()
def repair(
    name: Annotated[str, typer.Argument(metavar="RUN|PREFIX", help="A run's name, or one result: stage/fingerprint.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Make damaged or missing parts of a run again."""
    from hone.upkeep import show_repair

    show_repair(store, name)


@storage.command("ls")
def store_ls(store: StoreOption = DEFAULT_STORE) -> None:
    """List the runs with their size, and whether their parts are there."""
    from hone.upkeep import show_runs

    show_runs(store)


@storage.command("verify")
def store_verify(
    name: Annotated[str, typer.Argument(metavar="[RUN]", help="Only this run.")] = "",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read every part and compare it with its checksum; exit code 2 if any is damaged."""
    from hone.upkeep import show_verified

    show_verified(store, name)


@storage.command("diff")
def store_diff(
    first: Annotated[str, typer.Argument(help="A run.")],
    second: Annotated[str, typer.Argument(help="Another run.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Say what differs between two runs: settings, sources, code, results."""
    from hone.upkeep import show_difference

    show_difference(store, first, second)


@storage.command("gc")
def store_gc(
    store: StoreOption = DEFAULT_STORE,
    older_than: Annotated[float, typer.Option(min=0, help="Hours: what is younger may still be in use.")] = 24.0,
    results: Annotated[bool, typer.Option("--results", help="Also whole results that no run refers to.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only listed.")] = False,
) -> None:
    """List what killed runs left behind: parts without a manifest, uploads that never ended."""
    from hone.upkeep import show_garbage

    show_garbage(store, older_than, results=results, delete=delete)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(metavar="[STAGE]", help="Only this stage.")] = "",
    json_schema: Annotated[bool, typer.Option("--json-schema", help="Print the schema of a settings file.")] = False,
) -> None:
    """List stages, tables with columns and types, and settings with defaults and meaning."""
    from hone.describe import describe, schema_json

    if json_schema:
        print(schema_json())
    else:
        describe(name)


def main() -> None:
    """The `hone` command: mistakes of the user end with one sentence and exit code 2, lasting faults with 75."""
    from hone.errors import TransientError, UserError
    from hone.launch import is_helper

    if is_helper():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    # Hone loads models from folders only; nothing may be fetched while it runs.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except (UserError, TransientError) as error:
        from hone.log import without_secrets

        print(f"hone: {without_secrets(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
