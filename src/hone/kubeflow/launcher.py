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
from hone.context import Shard
from hone.engine import record, runner
from hone.engine.scratch import scratch_folder
from hone.errors import UserError
from hone.inputs.references import local_path
from hone.kubeflow.components import component, lackable, parents
from hone.kubeflow.notify import notify
from hone.kubeflow.preflight import Needs, check
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import fetch_folder
from hone.settings import RunSettings
from hone.storage.base import Store, open_store

MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Where the platform expects the local file of an artifact."""


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
    """Runs a component as a task. Raises UserError and TransientError as the stage does."""
    call = Call.parse(name, text)
    with scratch_folder() as scratch:
        run_settings = read_settings(call.given["settings"], scratch)
    store = open_store(call.given["store"])
    if name == "preflight":
        check(run_settings, store, Needs.model_validate({key: call.given[key] for key in Needs.model_fields}))
    elif name == "notify":
        notify(run_settings, store, call.given)
    else:
        _stage(call, run_settings, store)
    call.finish()


def read_settings(text: str, scratch: Path) -> RunSettings:
    """The checked settings file, from its text or its s3:// address. Raises UserError."""
    if text.startswith("s3://"):
        return settings.load(local_path(text, scratch))
    return settings.check(settings.parse_yaml(text, "settings"), "settings", Path("/"))


def _stage(call: Call, run_settings: RunSettings, store: Store) -> None:
    if reason := runner.left_out(call.name, run_settings, {}):
        if call.name in runner.TRAINING:
            raise UserError(f"{reason}, and this pipeline trains one; run the pipeline evaluate with it as `model`")
        print(f"{call.name}: left out: {reason}", flush=True)
        return
    config = run_settings.stages[call.name]
    if adopt := call.given.get("adopt"):
        config = settings.stage_config(call.name, {**config.model_dump(), "adopt": adopt}, "inputs", Path("/"))
    shard, shares = Shard.parse(call.given.get("shard", "0/1")), call.given.get("shares") or "[]"
    count = len(shares if isinstance(shares, list) else json.loads(shares))
    manifest, ran = runner.run_stage(call.name, config, _inputs(call, store), store, shard, count)
    done = "ran" if ran else "was finished already, nothing is computed again"
    print(f"{call.name}: {done}: {store.uri}/{manifest.prefix}", flush=True)
    if shard.count == 1:
        record.record(store, run_settings.name, {call.name: manifest})
    _report(call, store, manifest)


def _inputs(call: Call, store: Store) -> dict[str, Manifest]:
    """Table to the manifest of the result it is read from."""
    found: dict[str, Manifest] = {}
    for parent, read in parents(call.name).items():
        if not call.given[parent] and lackable(call.name, read):
            continue
        manifest = load_manifest(store, f"{call.given[parent]}/manifest.json")
        if manifest is None:
            raise UserError(f"{call.name}: there is no finished {parent} at {call.given[parent]!r} in {store.uri}")
        found.update(dict.fromkeys(read, manifest))
    return found


def _report(call: Call, store: Store, manifest: Manifest) -> None:
    metadata = {"data_uri": f"{store.uri}/{manifest.prefix}", **_identity(manifest)}
    call.set("prefix", manifest.prefix)
    call.show("manifest", manifest.model_dump_json(indent=1), metadata)
    call.show("metrics", "", dict(_figures(manifest)))
    for output in manifest.outputs:
        if output in SHOW:
            with scratch_folder() as scratch:
                SHOW[output](call, store, manifest, scratch)


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


SHOW: dict[str, Callable[[Call, Store, Manifest, Path], None]] = {
    "model": _show_model,
    "report": _show_report,
    "verdict": _show_verdict,
}


def local_file(uri: str) -> Path:
    """The local file that stands for an artifact's uri, as kfp's `Artifact.path`."""
    for scheme, mount in MOUNTS.items():
        if uri.startswith(scheme):
            return Path(mount + uri.removeprefix(scheme))
    return Path(uri)
