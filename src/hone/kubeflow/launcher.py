"""What runs inside the container of a Kubeflow task: `python -m hone launch NAME EXECUTOR_INPUT`.

The executor input is one JSON text in which the platform says what the inputs are and where outputs are to be left.
See `ExecutorInput` in kfp's pipeline_spec.proto.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hone import settings
from hone.config import StageConfig
from hone.context import Shard
from hone.engine import record, runner
from hone.engine.ablation import Study
from hone.engine.commit import finished
from hone.engine.plan import plan
from hone.errors import TransientError, UserError
from hone.kubeflow import settings_text, study, trainjob
from hone.kubeflow.attempts import Note, noting
from hone.kubeflow.components import component, lackable, parents
from hone.kubeflow.notify import message, notify, summary
from hone.kubeflow.preflight import Needs, check, retries_told
from hone.kubeflow.trainjob import Machines
from hone.results.manifest import Manifest, lineage, load_manifest
from hone.results.table_io import fetch_folder
from hone.retry import Backoff, retried
from hone.scratch import scratch_folder
from hone.secrets import without_secrets
from hone.settings import RunSettings
from hone.storage.addresses import open_store
from hone.storage.base import Store

MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Where the platform expects the local file of an artifact."""
PATIENCE = Backoff(attempts=4, first=90.0, longest=480.0, jitter=False)
"""How a task is tried again here after a fault outside that outlasted its own retries: the platform itself may start
again only what Kubernetes lost (Argo's retryPolicy OnError, the stock setting since KFP 2.17)."""


@dataclass(frozen=True)
class Call:
    """One call of a component: its parameters, where its outputs go, and what it has put there."""

    name: str
    given: Mapping[str, Any]
    outputs: Mapping[str, Any]
    parameters: dict[str, str] = field(default_factory=dict[str, str])
    artifacts: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def parse(cls, name: str, text: str) -> "Call":
        """From the executor input. Inputs that are not given take their defaults. Raises UserError."""
        try:
            data: dict[str, Any] = json.loads(text)
            given, outputs = data["inputs"].get("parameterValues", {}), data["outputs"]
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(f"{name}: the executor input is not one of Kubeflow ({error!r}); pass {{{{$}}}}") from error
        defaults = {port.name: port.default for port in component(name).inputs}
        missing = [key for key, default in defaults.items() if default is None and key not in given]
        if missing:
            raise UserError(f"{name}: no value for the input {missing[0]}")
        if unknown := sorted(given.keys() - defaults.keys()):
            known = ", ".join(defaults)
            raise UserError(f"{name}: unknown input {unknown[0]!r}; the inputs are {known}: compile the pipeline again")
        return cls(name, {**defaults, **given}, outputs)

    def set(self, name: str, value: str) -> None:
        """Gives an output parameter its value."""
        self.parameters[name] = value
        path = Path(self.outputs["parameters"][name]["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value, "utf-8")

    def show(self, name: str, content: str, metadata: Mapping[str, Any]) -> None:
        """Fills an output artifact: a small file and metadata that the platform shows and keeps. The uri stays."""
        artifact = self.outputs["artifacts"][name]["artifacts"][0]
        path = local_file(artifact["uri"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        self.artifacts[name] = {"artifacts": [{**artifact, "metadata": dict(metadata)}]}

    def finish(self) -> None:
        """Writes the executor output where the platform asks for it."""
        path = Path(self.outputs["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"parameterValues": self.parameters, "artifacts": self.artifacts}), "utf-8")


def launch(name: str, text: str) -> None:
    """Runs a component as a task, and again after each pause while a fault outside lasts; notes in the store what it
    came to. Raises UserError and TransientError as the stage does."""
    call = Call.parse(name, text)
    store = open_store(call.given["store"])
    attempt, about = (str(call.given.get(key) or "") for key in ("attempt", "settings"))
    with noting(store, attempt, name, _share(call), about) as note:

        def failed(error: Exception, attempt: int) -> None:
            if attempt < PATIENCE.attempts:
                pause = PATIENCE.wait(attempt)
                print(f"{name}: {without_secrets(str(error))}; tried again in {pause:.0f} s", flush=True)

        retried(lambda: _run(call, store, note), PATIENCE, TransientError, failed=failed)


def _run(call: Call, store: Store, note: Note) -> None:
    if domains := _listed(call.given.get("domains")):
        notify(summary(domains, store, call.given), call.given)
        return call.finish()
    settings_text.renew(store, call.given["settings"])
    run_settings = read_settings(call.given["settings"])
    if call.name == "preflight":
        print(f"preflight: retries by the platform: {retries_told()}", flush=True)
        check(run_settings, store, Needs.model_validate({key: call.given[key] for key in Needs.model_fields}))
    elif call.name == "notify":
        notify(message(run_settings, store, call.given), call.given)
    elif call.name in STUDIES:
        STUDIES[call.name](call, study.study_of(call.given["settings"], store))
    else:
        note.prefix = _stage(call, run_settings, store)
    call.finish()


def _variant(call: Call, study_: Study) -> None:
    ran, others = study.run_variant(study_, call.given)
    call.set("found", ran.to_json())
    call.set("variants", json.dumps(others))


def _ablation(call: Call, study_: Study) -> None:
    finding, html, markdown = study.summarise(study_, str(call.given["recipe"]), _listed(call.given["variants"]))
    print(f"ablation: {finding}", flush=True)
    call.show("report", html, {})
    call.show("summary", markdown, {"finding": finding})


STUDIES: dict[str, Callable[[Call, Study], None]] = {"variant": _variant, "ablation": _ablation}


def _share(call: Call) -> str:
    """Which share of a sharded stage, or which variant, a task does; empty for a whole one."""
    if call.name == "variant":
        return str(call.given["variant"])
    if len(_listed(call.given.get("shares"))):
        return "join"
    shard = str(call.given.get("shard") or "0/1")
    return "" if shard == "0/1" else shard


def _listed(shares: Any) -> list[Any]:
    return cast(list[Any], shares if isinstance(shares, list) else json.loads(shares or "[]"))


def read_settings(text: str) -> RunSettings:
    """The checked settings file, from its text or its address. Raises UserError."""
    return settings_text.check(settings_text.fetch(text))


def _stage(call: Call, run_settings: RunSettings, store: Store) -> str:
    """Runs a stage and reports its result; returns the prefix of it, empty if the stage is not part of this run."""
    if reason := runner.left_out(call.name, run_settings, {}):
        if call.name in runner.TRAINING:
            raise UserError(f"{reason}, and this pipeline trains one; run the pipeline evaluate with it as `model`")
        print(f"{call.name}: left out: {reason}", flush=True)
        _report_left_out(call, reason)
        return ""
    inputs = _inputs(call, store)
    config = runner.settled(call.name, run_settings, inputs, store)
    if adopt := call.given.get("adopt"):
        config = settings.stage_config(call.name, {**config.model_dump(), "adopt": adopt}, "inputs", Path("/"))
    if machines := str(call.given.get("machines") or ""):
        _train_together(call.name, config, inputs, store, Machines.model_validate_json(machines))
    shard, count = Shard.parse(call.given.get("shard", "0/1")), len(_listed(call.given.get("shares")))
    manifest, ran = runner.run_stage(call.name, config, inputs, store, shard, count)
    done = "ran" if ran else "was finished already, nothing is computed again"
    print(f"{call.name}: {done}: {store.uri}/{manifest.prefix}", flush=True)
    if shard.count == 1:
        record.record(store, run_settings.name, lineage(store, {call.name: manifest}), run_settings.stages)
    _report(call, store, manifest)
    return manifest.prefix


def _train_together(
    name: str, config: StageConfig, inputs: Mapping[str, Manifest], store: Store, machines: Machines
) -> None:
    """Has the result made on several machines, unless it is there. Raises UserError and TransientError."""
    with scratch_folder() as scratch:
        todo = plan(name, config, inputs, scratch)
    if finished(store, todo):
        return
    given = [part for table, one in todo.inputs.items() for part in ("--input", f"{table}={one.prefix}")]
    job = f"hone-{name}-{todo.fingerprint}"
    command = ["stage", name, "--config", config.model_dump_json(), "--store", store.uri, "--note", job, *given]
    trainjob.train(trainjob.in_cluster(), job, command, machines, store)
    if not finished(store, todo):
        raise TransientError(
            f"the TrainJob ended and left no {todo.prefix} in {store.uri}; its image may be another one"
        )


def _inputs(call: Call, store: Store) -> dict[str, Manifest]:
    """Table to the manifest of the result it is read from."""
    inputs: dict[str, Manifest] = {}
    for parent, read in parents(call.name).items():
        if not call.given[parent] and lackable(call.name, read):
            continue
        manifest = load_manifest(store, f"{call.given[parent]}/manifest.json")
        if manifest is None:
            raise UserError(f"{call.name}: there is no finished {parent} at {call.given[parent]!r} in {store.uri}")
        inputs.update(dict.fromkeys(read, manifest))
    return inputs


def _report(call: Call, store: Store, manifest: Manifest) -> None:
    metadata = {"data_uri": f"{store.uri}/{manifest.prefix}", **_identity(manifest)}
    call.set("prefix", manifest.prefix)
    call.show("manifest", manifest.model_dump_json(indent=1), metadata)
    call.show("metrics", "", dict(_figures(manifest)))
    for output in manifest.outputs:
        if output in SHOW:
            with scratch_folder() as scratch:
                SHOW[output](call, store, manifest, scratch)


def _report_left_out(call: Call, reason: str) -> None:
    """The platform's launcher fails a task that leaves a declared output unwritten."""
    for name in call.outputs.get("parameters", {}):
        call.set(name, "")
    for name in call.outputs.get("artifacts", {}):
        call.show(name, "", {"left_out": reason})


def _identity(manifest: Manifest) -> dict[str, Any]:
    digests = {f"{name}_digest": output.digest for name, output in manifest.outputs.items()}
    return {"stage": manifest.stage, "fingerprint": manifest.fingerprint, "version": manifest.version, **digests}


def _figures(manifest: Manifest) -> Iterator[tuple[str, float]]:
    """Everything in a manifest that is a number."""
    yield "seconds", round(manifest.seconds, 1)
    yield from ((f"rows.{name}", float(output.rows)) for name, output in manifest.outputs.items() if output.rows)
    yield from ((f"cost.{name}", float(value)) for name, value in manifest.cost.items())
    yield from _numbers("", manifest.facts)


def _numbers(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, item in cast(Mapping[str, Any], value).items():
            yield from _numbers(f"{path}.{key}" if path else key, item)
    elif isinstance(value, (int, float)):
        yield path, float(value)


def _show_model(call: Call, store: Store, manifest: Manifest, scratch: Path) -> None:
    uri = f"{store.uri}/{manifest.prefix}/model"
    lineage = {f"from_{name}": prefix for name, prefix in manifest.inputs.items()}
    metadata = {"data_uri": uri, "framework": "sentence-transformers", **_identity(manifest), **lineage}
    call.show("model", json.dumps(metadata, indent=1), metadata)


def _show_report(call: Call, store: Store, manifest: Manifest, scratch: Path) -> None:
    folder = fetch_folder(store, manifest, "report", scratch)
    for port, file in (("report", "report.html"), ("summary", "report.md")):
        call.show(
            port, (folder / file).read_text("utf-8"), {"data_uri": f"{store.uri}/{manifest.prefix}/report/{file}"}
        )


def _show_verdict(call: Call, store: Store, manifest: Manifest, scratch: Path) -> None:
    call.set("verdict", str(manifest.facts["verdict"]))


def _show_published(call: Call, store: Store, manifest: Manifest, scratch: Path) -> None:
    call.set("vectors", "wanted" if runner.vectors_out(read_settings(call.given["settings"])) else "")


SHOW: dict[str, Callable[[Call, Store, Manifest, Path], None]] = {
    "model": _show_model,
    "report": _show_report,
    "verdict": _show_verdict,
    "published": _show_published,
}


def local_file(uri: str) -> Path:
    """The local file that stands for an artifact's uri, as kfp's `Artifact.path`."""
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme))
    return Path(uri)
