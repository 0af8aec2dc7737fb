"""`hone register` and `hone submit`: a compiled pipeline to Kubeflow, and a run of it followed to its verdict.

The platform has no idempotency key: a version is named by its content, a run by its inputs, and both are looked for
before they are made. Inside the cluster the client signs in with the projected token of its service account
(KF_PIPELINES_SA_TOKEN_PATH), elsewhere with what kfp.Client finds; no cookie is read.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hone import __version__
from hone.errors import TransientError, UserError
from hone.kubeflow import reads, settings_text
from hone.kubeflow.attempts import Outcome, outcome
from hone.kubeflow.compile import compile
from hone.kubeflow.platform import asking
from hone.kubeflow.profile import Profile
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.retry import retried, steady
from hone.scratch import scratch_folder
from hone.settings import overlay, parse_yaml
from hone.storage.addresses import is_remote, open_store
from hone.storage.base import Store

if TYPE_CHECKING:
    from kfp import Client

FAILED = 1
"""Exit code of a run that did not reach a verdict."""
ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
UNFINISHED = ("PENDING", "RUNNING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED")
MOST_FAULTS = 20
"""Times in a row that the platform may fail to say how a run goes before following it is given up."""


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


@dataclass(frozen=True)
class Following:
    """How a run is followed: whether at all, how often a failed one is started again, and where its report is put."""

    wait: bool = True
    retries: int = 0
    pause: float = 10
    report: Path | None = None


@dataclass
class Ended:
    """What `hone submit --json` prints: everything a CI job needs of a run."""

    name: str
    run_id: str
    state: str
    outcome: str
    verdict: str = ""
    finding: str = ""
    reasons: list[str] = field(default_factory=list[str])
    error: str = ""
    report: str = ""
    model: str = ""
    version: str = ""
    exit_code: int = 0


def main(
    client: "Client",
    what: tuple[str, Profile],
    text: str,
    given: dict[str, str],
    place: Place,
    following: Following,
    say: Callable[[str], None] = print,
) -> Ended:
    """Registers, submits, follows and, where asked to, starts a failed run again: it goes on where it stopped. Raises
    UserError and TransientError.

    `given` are the pipeline's parameters beside the settings: the store and, for evaluate, the model.
    """
    settings_text.check(text)
    version = register(client, *what, place.namespace)
    store = open_store(given["store"])
    left = following.retries
    while True:
        run_id, name, new = submit(client, version, text, given, place, store, say)
        say(f"{name}: {'started' if new else 'exists already'}, run {run_id}")
        if not following.wait:
            return Ended(name, run_id, "PENDING" if new else "RUNNING", "started")
        ended = _followed(client, store, name, run_id, following, say)
        broken = ended.outcome in ("failed", "stopped", "unknown") and ended.exit_code != UserError.exit_code
        if not broken or not left:
            return ended
        left -= 1
        say(f"{name}: {ended.outcome}: {ended.error}; started again, it goes on where it stopped")


def _followed(
    client: "Client", store: Store, name: str, run_id: str, following: Following, say: Callable[[str], None]
) -> Ended:
    state = follow(client, run_id, following.pause, say)
    ending = outcome(store, run_id)
    if state != "SUCCEEDED" and ending.word not in ("failed", "stopped"):
        ending = Outcome(
            "failed", ending.error or f"the platform reports the run as {state.lower()}", FAILED, ending.done
        )
    ended = Ended(name, run_id, state, ending.word, error=ending.error, exit_code=ending.code)
    ended.verdict, ended.finding = (str(ending.fact(key) or "") for key in ("verdict", "finding"))
    ended.reasons = list(ending.fact("reasons") or [])
    ended.version = str(ending.fact("version") or "")
    if "distill" in ending.done:
        ended.model = f"{store.uri}/{ending.done['distill'].place('model')}"
    if manifest := ending.done.get("report"):
        ended.report = f"{store.uri}/{manifest.place('report')}"
        if following.report:
            fetch_report(store, manifest, following.report)
    return ended


def summary(ended: Ended) -> str:
    """The sentence with which a followed run ends."""
    if ended.outcome == "started":
        return f"{ended.name}: not waited for"
    return f"{ended.name}: {ended.outcome}: {ended.error or ended.finding}".rstrip(": ")


def register(client: "Client", pipeline: str, profile: Profile, namespace: str = "") -> Version:
    """Uploads a pipeline, or a new version of it, unless the same content exists already. Raises UserError."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "pipeline.yaml"
        compile(pipeline, profile, package)
        digest = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
        name = next(iter(yaml.safe_load_all(package.read_text("utf-8"))))["pipelineInfo"]["name"]
        title = f"{name}-{profile.name}"
        version = f"{__version__}-{digest}"
        with asking(f"registering the pipeline {title}"):
            pipeline_id = _pipeline_id(client, title, namespace)
            if not pipeline_id:
                made = client.upload_pipeline(str(package), title, namespace=namespace or None)
                pipeline_id = str(made.pipeline_id)
            known = _version_id(client, pipeline_id, version)
            if known:
                return Version(title, pipeline_id, known, digest, False)
            uploaded = client.upload_pipeline_version(str(package), version, pipeline_id=pipeline_id)
        return Version(title, pipeline_id, str(uploaded.pipeline_version_id), digest, True)


def submit(
    client: "Client",
    version: Version,
    text: str,
    given: Mapping[str, str],
    place: Place,
    store: Store,
    say: Callable[[str], None] = print,
) -> tuple[str, str, bool]:
    """Starts a run, or adopts one of the same pipeline, settings, parameters and inputs that has not failed.

    Of what cannot be looked at from here nobody knows whether it is the same: then only a run that has not ended is
    adopted. Returns its id, its name, and whether it is new. Raises UserError.
    """
    settings = settings_text.check(text)
    seen = reads.look(settings, given.get("model", ""))
    if seen.unseen:
        say(f"cannot be listed from here, so no finished run is adopted: {', '.join(seen.unseen)}")
    inputs = hashlib.sha256(json.dumps([version.digest, text, seen.digest, *given.values()]).encode()).hexdigest()[:12]
    name = f"{version.pipeline}-{settings.name}-{inputs}"
    adopted = UNFINISHED if seen.unseen else (*UNFINISHED, "SUCCEEDED")
    run_id, new = start(
        client, version, name, adopted, place, lambda: {"settings": settings_text.keep(store, text), **given}
    )
    return run_id, name, new


def start(
    client: "Client",
    version: Version,
    name: str,
    adopted: Collection[str],
    place: Place,
    parameters: Callable[[], dict[str, Any]],
) -> tuple[str, bool]:
    """Starts a run of this name, or adopts one that is in one of these states; returns its id, and whether it is new.
    Raises UserError."""
    with asking(f"looking for the run {name}"):
        experiment = client.create_experiment(place.experiment, namespace=place.namespace)
        for run in _runs(client, str(experiment.experiment_id), name, place.namespace):
            if run.state in adopted:
                return str(run.run_id), False
    made = parameters()
    refuse_too_long(made)
    with asking(f"starting the run {name}"):
        begun = client.run_pipeline(
            str(experiment.experiment_id),
            name,
            params=made,
            pipeline_id=version.pipeline_id,
            version_id=version.version_id,
            service_account=place.service_account or None,
        )
    return str(begun.run_id), True


def refuse_too_long(parameters: Mapping[str, Any]) -> None:
    """The platform's API server takes so many bytes of parameters and no more. Raises UserError before it does."""
    size = len(json.dumps(dict(parameters)).encode())
    if size > settings_text.LONGEST_PARAMETERS:
        most = f"{settings_text.LONGEST_PARAMETERS:,} at most"
        raise UserError(f"the parameters of the run take {size:,} bytes, {most}; give shorter addresses")


def follow(client: "Client", run_id: str, pause: float, say: Callable[[str], None] = print) -> str:
    """Follows a run to its end, saying whenever a task changes, and returns its last state. Raises TransientError."""
    last = ""

    def asked() -> Any:
        with asking(f"following the run {run_id}"):
            return client.get_run(run_id)

    while True:
        run = retried(asked, steady(MOST_FAULTS + 1, pause), TransientError)
        line = _progress(run)
        if line != last:
            say(line)
            last = line
        if run.state in ENDED:
            return str(run.state)
        time.sleep(pause)


def read_settings(where: str) -> str:
    """The text of a settings file, a local one or one at an s3:// address. Raises UserError."""
    if is_remote(where):
        return settings_text.fetch(where)
    path = Path(where)
    if not path.is_file():
        raise UserError(f"{where} does not exist; `hone init FOLDER` writes a settings file")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def without_publishing(text: str) -> str:
    """The same settings, so that the model is judged and nothing is published. Raises UserError."""
    settings = overlay(parse_yaml(text, "settings"), {"publish": {"domain": ""}})
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def fetch_report(store: Store, manifest: Manifest, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as scratch:
        report = fetch_folder(store, manifest, "report", scratch)
        for name in ("report.html", "report.md"):
            shutil.copyfile(report / name, folder / name)


def _pipeline_id(client: "Client", title: str, namespace: str) -> str:
    page = client.list_pipelines(filter=_named(title), namespace=namespace or None, page_size=100)
    return next((str(one.pipeline_id) for one in page.pipelines or [] if one.display_name == title), "")


def _version_id(client: "Client", pipeline_id: str, name: str) -> str:
    page = client.list_pipeline_versions(pipeline_id, page_size=100, sort_by="created_at desc")
    versions: list[Any] = page.pipeline_versions or []
    return next((str(version.pipeline_version_id) for version in versions if version.display_name == name), "")


def _runs(client: "Client", experiment_id: str, name: str, namespace: str) -> list[Any]:
    page = client.list_runs(
        experiment_id=experiment_id, namespace=namespace or None, filter=_named(name), sort_by="created_at desc"
    )
    return page.runs or []


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _progress(run: Any) -> str:
    details: list[Any] = (run.run_details.task_details if run.run_details else None) or []
    states = Counter(str(task.state).lower() for task in details if task.state)
    running = sorted({str(task.display_name) for task in details if task.state == "RUNNING"})
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{run.state}: {counts or 'no task yet'}{'; now ' + ', '.join(running) if running else ''}"
