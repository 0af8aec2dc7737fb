"""`hone register` and `hone submit`: a compiled pipeline to Kubeflow, and a run of it followed to its verdict.

The platform has no idempotency key: a version is named by its content, a run by its inputs, and both are looked for
before they are made. Inside the cluster the client signs in with the projected token of its service account
(KF_PIPELINES_SA_TOKEN_PATH), elsewhere with what kfp.Client finds; no cookie is read.
"""

import hashlib
import json
import os
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hone import __version__, settings
from hone.engine import record
from hone.errors import TransientError, UserError
from hone.kubeflow.compile import compile
from hone.kubeflow.profile import Profile
from hone.storage.base import Store, open_store

if TYPE_CHECKING:
    from kfp import Client

EXIT_CODES = {"promote": 0, "hold": 3, "reject": 4}
FAILED = 1
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
LONGEST_SETTINGS = 50_000
TOKEN_PATH = "KF_PIPELINES_SA_TOKEN_PATH"


@dataclass(frozen=True)
class Version:
    """A pipeline as the platform knows it."""

    pipeline: str
    pipeline_id: str
    version_id: str
    digest: str
    new: bool


@dataclass(frozen=True)
class Place:
    """Where runs are made: the namespace, the experiment and the service account of the tasks."""

    namespace: str = ""
    experiment: str = "hone"
    service_account: str = ""


def connect(host: str, namespace: str) -> "Client":
    """A client of the platform's API. Raises TransientError if it does not answer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kfp import Client
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        # Given a host, the client looks for no token by itself.
        mounted = ServiceAccountTokenVolumeCredentials() if os.environ.get(TOKEN_PATH) else None
        try:
            return Client(host=host or None, namespace=namespace or "kubeflow", credentials=mounted)
        except Exception as error:
            raise TransientError(f"Kubeflow Pipelines at {host or 'the cluster'} does not answer: {error}") from error


def main(
    client: "Client",
    what: tuple[str, Profile],
    path: Path,
    given: dict[str, str],
    place: Place,
    *,
    wait: bool,
    pause: float = 10,
) -> int:
    """Registers, submits and, unless told not to, waits; returns the exit code. Raises UserError.

    `given` are the pipeline's parameters beside the settings: the store and, for evaluate, the model.
    """
    text = path.read_text("utf-8") if path.is_file() else ""
    if not text:
        raise UserError(f"{path} does not exist; `hone init FOLDER` writes a settings file")
    version = register(client, *what)
    run_id, name, new = submit(client, version, text, given, place)
    print(f"{name}: {'started' if new else 'is there already'}, run {run_id}", flush=True)
    if not wait:
        return 0
    state = follow(client, run_id, pause)
    if state != "SUCCEEDED":
        print(f"{name}: {state.lower()}; its tasks' logs say why", flush=True)
        return FAILED
    sentence, code = verdict(open_store(given["store"]), text)
    print(sentence, flush=True)
    return code


def register(client: "Client", pipeline: str, profile: Profile) -> Version:
    """Uploads a pipeline, or a new version of it, unless the same content is there already. Raises UserError."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile(pipeline, profile, package)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
        name = next(iter(yaml.safe_load_all(package.read_text("utf-8"))))["pipelineInfo"]["name"]
        title = f"{name}-{profile.name}"
        version = f"{__version__}-{digest}"
        pipeline_id = client.get_pipeline_id(title)
        if pipeline_id is None:
            pipeline_id = str(client.upload_pipeline(str(package), title).pipeline_id)
        known = _version_id(client, pipeline_id, version)
        if known:
            return Version(title, pipeline_id, known, digest, False)
        made = client.upload_pipeline_version(str(package), version, pipeline_id=pipeline_id)
        return Version(title, pipeline_id, str(made.pipeline_version_id), digest, True)


def submit(client: "Client", version: Version, text: str, given: dict[str, str], place: Place) -> tuple[str, str, bool]:
    """Starts a run, or adopts one of the same pipeline, settings and parameters that has not failed.

    Returns its id, its name, and whether it is new. Raises UserError.
    """
    if len(text) > LONGEST_SETTINGS:
        raise UserError(f"the settings are {len(text)} characters; put them at an s3:// address and give that")
    inputs = hashlib.sha256(json.dumps([version.digest, text, *given.values()]).encode()).hexdigest()[:12]
    name = f"{version.pipeline}-{check(text).name}-{inputs}"
    experiment = client.create_experiment(place.experiment, namespace=place.namespace)
    for run in _runs(client, str(experiment.experiment_id), name):
        if run.state not in ("FAILED", "CANCELED", "CANCELING"):
            return str(run.run_id), name, False
    made = client.run_pipeline(
        str(experiment.experiment_id),
        name,
        params={"settings": text, **given},
        pipeline_id=version.pipeline_id,
        version_id=version.version_id,
        service_account=place.service_account or None,
    )
    return str(made.run_id), name, True


def follow(client: "Client", run_id: str, pause: float) -> str:
    """Follows a run to its end, telling whenever a task changes, and returns its last state."""
    told = ""
    while True:
        run = client.get_run(run_id)
        line = _progress(run)
        if line != told:
            print(line, flush=True)
            told = line
        if run.state in ENDED:
            return str(run.state)
        time.sleep(pause)


def verdict(store: Store, text: str) -> tuple[str, int]:
    """What was found and decided, as a sentence, and the exit code that says so."""
    done = record.results(store, check(text).name)
    gate = done.get("gate")
    if gate is None:
        return "no verdict: the run did not reach the gate", FAILED
    decided = str(gate.facts["verdict"])
    finding = str(done["evaluate"].facts.get("finding", "")) if "evaluate" in done else ""
    return f"{decided}: {finding}", EXIT_CODES[decided]


def check(text: str) -> settings.RunSettings:
    """The settings, checked as the tasks will: paths are those of the cluster. Raises UserError."""
    return settings.check(settings.parse_yaml(text, "settings"), "settings", Path("/"))


def _version_id(client: "Client", pipeline_id: str, name: str) -> str:
    found = client.list_pipeline_versions(pipeline_id, page_size=100, sort_by="created_at desc")
    versions: list[Any] = found.pipeline_versions or []
    return next((str(version.pipeline_version_id) for version in versions if version.display_name == name), "")


def _runs(client: "Client", experiment_id: str, name: str) -> list[Any]:
    wanted = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
    found = client.list_runs(experiment_id=experiment_id, filter=json.dumps(wanted), sort_by="created_at desc")
    return found.runs or []


def _progress(run: Any) -> str:
    details: list[Any] = (run.run_details.task_details if run.run_details else None) or []
    states = Counter(str(task.state).lower() for task in details if task.state)
    running = sorted({str(task.display_name) for task in details if task.state == "RUNNING"})
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{run.state}: {counts or 'no task yet'}{'; now ' + ', '.join(running) if running else ''}"
