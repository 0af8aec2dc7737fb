"""The CI examples: each file as its own schema wants it, and its shell steps run against S3 and the platform's API."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import kubernetes_validate
import pytest
import requests
import yaml
from moto.server import ThreadedMotoServer

import chain
import kfp_server
from crd import ANY, COUNT, FLAG, TEXT, closed, listed
from hone import settings
from hone.engine import runner
from hone.kubeflow import attempts, settings_text
from hone.results.manifest import Manifest
from hone.storage.addresses import open_store

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs/ci"
PARAM = closed("name", name=TEXT, type=TEXT, description=TEXT, default={}, enum=listed(TEXT), properties=ANY)
WORKSPACE = closed("name", name=TEXT, description=TEXT, mountPath=TEXT, optional=FLAG, readOnly=FLAG)
STEP = closed(
    "name", name=TEXT, image=TEXT, imagePullPolicy=TEXT, command=listed(TEXT), args=listed(TEXT), script=TEXT,
    workingDir=TEXT, env=listed(ANY), envFrom=listed(ANY), volumeMounts=listed(ANY), computeResources=ANY,
    securityContext=ANY, timeout=TEXT, onError=TEXT, when=listed(ANY), results=listed(ANY), params=listed(ANY),
    workspaces=listed(ANY),
)  # fmt: skip
RESULT = closed("name", name=TEXT, type=TEXT, description=TEXT, properties=ANY, value={})
CALL = closed(
    "name taskRef", name=TEXT, description=TEXT, displayName=TEXT, taskRef=closed("name", name=TEXT, kind=TEXT),
    params=listed(closed("name value", name=TEXT, value={})), retries=COUNT, timeout=TEXT, runAfter=listed(TEXT),
    when=listed(ANY), workspaces=listed(closed("name", name=TEXT, workspace=TEXT, subPath=TEXT)), onError=TEXT,
)  # fmt: skip
SQS = closed(
    "region queue waitTimeSeconds", region=TEXT, queue=TEXT, waitTimeSeconds=COUNT, accessKey=ANY, secretKey=ANY,
    sessionToken=ANY, roleARN=TEXT, jsonBody=FLAG, queueAccountId=TEXT, dlq=FLAG, metadata=ANY, filter=ANY,
    endpoint=TEXT,
)  # fmt: skip
DEPENDENCY = closed(
    "name eventSourceName eventName", name=TEXT, eventSourceName=TEXT, eventName=TEXT, filters=ANY, transform=ANY,
    filtersLogicalOperator=TEXT,
)  # fmt: skip
OBJECT = closed("source operation", source=closed("resource", resource=ANY), operation={"const": "create"})
TRIGGER = closed("name k8s", name=TEXT, k8s=OBJECT, conditions=TEXT, conditionsReset=listed(ANY))
POD = closed(serviceAccountName=TEXT, metadata=ANY, container=ANY, volumes=listed(ANY), nodeSelector=ANY)
SPECS = {
    ("tekton.dev/v1", "Task"): closed(
        "steps", params=listed(PARAM), results=listed(RESULT), workspaces=listed(WORKSPACE), volumes=listed(ANY),
        steps=listed(STEP), description=TEXT, displayName=TEXT, sidecars=listed(ANY), stepTemplate=ANY,
    ),
    ("tekton.dev/v1", "Pipeline"): closed(
        "tasks", params=listed(PARAM), results=listed(RESULT), workspaces=listed(WORKSPACE), tasks=listed(CALL),
        description=TEXT, displayName=TEXT, **{"finally": listed(CALL)},
    ),
    ("argoproj.io/v1alpha1", "EventSource"): closed(
        "sqs", sqs={"type": "object", "additionalProperties": SQS}, eventBusName=TEXT, replicas=COUNT, template=POD,
        service=ANY,
    ),
    ("argoproj.io/v1alpha1", "Sensor"): closed(
        "dependencies triggers", dependencies=listed(DEPENDENCY), eventBusName=TEXT, replicas=COUNT, template=POD,
        triggers=listed(closed(
            "template", template=TRIGGER, parameters=listed(ANY), policy=ANY, retryStrategy=ANY, rateLimit=ANY,
            atLeastOnce=FLAG, dlqTrigger=ANY,
        )),
        errorOnFailedRound=FLAG, loggingFields=ANY, revisionHistoryLimit=COUNT,
    ),
}  # fmt: skip
"""What the CustomResourceDefinitions of Tekton 1.15 and the published schema of Argo Events 1.9 take of what is written
in the examples. Both examples were also held against the originals, with every object closed."""
AWS = """
import pathlib, sys
import boto3
source, target = sys.argv[-2:]
bucket, _, prefix = target.removeprefix("s3://").partition("/")
client, folder = boto3.Session().client("s3"), pathlib.Path(source)
files = {f"{prefix}/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*") if path.is_file()}
there = [one["Key"] for one in client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])]
for key in set(there) - files.keys():
    client.delete_object(Bucket=bucket, Key=key)
for key, path in files.items():
    client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
"""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLES / name).read_text("utf-8")))


@pytest.mark.parametrize(
    ("name", "schema"), [("github-actions.yaml", "github-workflows"), ("gitlab-ci.yaml", "gitlab-ci")]
)
def test_a_workflow_is_what_its_published_schema_takes(name: str, schema: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    transform = ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    ran = subprocess.run([*command, *transform, str(EXAMPLES / name)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_actionlint_finds_nothing_in_the_workflow_and_finds_what_is_wrong(tmp_path: Path) -> None:
    """It knows contexts, the types of expressions, and actions whose runtime is gone."""
    tool = Path(sys.executable).parent / "actionlint"
    text = (EXAMPLES / "github-actions.yaml").read_text("utf-8")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("github.event.number", "githbu.event.number"), "utf-8")
    found = [
        subprocess.run([tool, "-oneline", "-shellcheck=", path], capture_output=True, text=True, check=False).stdout
        for path in (EXAMPLES / "github-actions.yaml", wrong)
    ]
    assert found[0] == ""
    assert found[1].count('undefined variable "githbu"') == 2


@pytest.mark.parametrize("name", ["tekton.yaml", "argo-events.yaml"])
def test_every_object_of_tekton_and_argo_events_has_the_fields_that_its_definition_takes(name: str) -> None:
    for item in documents(name):
        schema = SPECS[item["apiVersion"], item["kind"]]
        jsonschema.validate(item["spec"], schema)
        assert item.keys() == {"apiVersion", "kind", "metadata", "spec"}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**item["spec"], "stepps": []}, schema)


def test_what_tekton_and_argo_events_name_of_each_other_is_there() -> None:
    task, pipeline = documents("tekton.yaml")
    for call in pipeline["spec"]["tasks"]:
        assert call["taskRef"]["name"] == task["metadata"]["name"]
        assert {one["name"] for one in call["params"]} <= {one["name"] for one in task["spec"]["params"]}
        assert {one["name"] for one in call["workspaces"]} == {one["name"] for one in task["spec"]["workspaces"]}
    text = json.dumps(task["spec"]["steps"])
    assert set(re.findall(r"\$\(params\.([\w-]+)\)", text)) == {one["name"] for one in task["spec"]["params"]}
    assert set(re.findall(r"\$\(results\.([\w-]+)\.path\)", text)) == {one["name"] for one in task["spec"]["results"]}
    source, sensor = documents("argo-events.yaml")
    for one in sensor["spec"]["dependencies"]:
        assert one["eventSourceName"] == source["metadata"]["name"]
        assert one["eventName"] in source["spec"]["sqs"]


def test_kubernetes_takes_the_cron_job_and_the_job_that_an_event_makes() -> None:
    (cron,) = documents("cronjob.yaml")
    kubernetes_validate.validate(cron, "1.30", strict=True)
    sensor = next(item for item in documents("argo-events.yaml") if item["kind"] == "Sensor")
    job = sensor["spec"]["triggers"][0]["template"]["k8s"]["source"]["resource"]
    kubernetes_validate.validate(job, "1.30", strict=True)
    assert (
        cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["volumes"] == job["spec"]["template"]["spec"]["volumes"]
    )


@pytest.mark.parametrize("name", ["cronjob.yaml", "argo-events.yaml", "tekton.yaml"])
def test_every_example_in_the_cluster_signs_in_with_a_token_for_the_platform_and_mounts_what_it_names(
    name: str,
) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    assert "audience: pipelines.kubeflow.org" in text
    assert "KF_PIPELINES_SA_TOKEN_PATH, value: /var/run/secrets/hone/token" in text
    mounted = set(re.findall(r"\{name: ([\w-]+), mountPath", text))
    declared = set(re.findall(r"- \{name: ([\w-]+), (?:emptyDir|configMap)", text)) | {"kubeflow-token"}
    assert mounted == declared


def test_every_example_calls_the_one_script_that_is_tried_here_and_gives_it_all_it_wants() -> None:
    script = (EXAMPLES / "retrain.sh").read_text("utf-8")
    wanted = set(re.findall(r"\$\{?([A-Z_]+)", script)) - {"CORPUS", "CORPUS_AT", "ALWAYS", "IMAGES"}
    for path in EXAMPLES.glob("*.yaml"):
        text = path.read_text("utf-8")
        assert "retrain.sh" in text
        assert not {name for name in wanted if name not in text}, path.name


@dataclass
class Desk:
    """A checkout as CI has it, with a platform and a bucket that answer."""

    folder: Path
    platform: kfp_server.Platform
    env: dict[str, str]
    verdict: str = "promote"
    read: list[str] = field(default_factory=list[str])
    """The settings that each started run was given."""

    def git(self, *words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=self.folder, check=True, capture_output=True)

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", "x")

    def begin(self, run: dict[str, Any]) -> None:
        """What the tasks of a run leave behind: the corpus as prepare read it, and the verdict."""
        given = run["runtime_config"]["parameters"]
        text, store = settings_text.fetch(given["settings"]), open_store(given["store"])
        self.read.append(text)
        checked = settings.check(settings.parse_yaml(text, "settings"), "settings", Path("/"))
        done = runner.run(checked, store, last="prepare")
        facts = {"verdict": self.verdict, "reasons": [], "finding": "Tuned is better"}
        rest: dict[str, Any] = {"code": "", "version": "", "config": {}, "sources": {}, "inputs": {}, "cost": {}}
        gate = Manifest(
            stage="gate",
            fingerprint=f"{len(self.read):016}",
            outputs={},
            facts=facts,
            seconds=1.0,
            input_digests={},
            **rest,
        )
        assert store.create(f"{gate.prefix}/manifest.json", gate.model_dump_json().encode())
        for name, prefix in (("prepare", done["prepare"].prefix), ("gate", gate.prefix)):
            with attempts.noting(store, run["run_id"], name, "") as note:
                note.prefix = prefix

    def run(self, *steps: str, **env: str) -> tuple[int, dict[str, Any]]:
        """Runs shell steps in turn, as one job does; its exit code, and outcome.json."""
        script = "set -e\n" + "\n".join(steps)
        ran = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in ran.stderr, ran.stderr
        outcome = self.folder / "out/outcome.json"
        assert outcome.is_file(), ran.stdout + ran.stderr
        return ran.returncode, json.loads(outcome.read_text("utf-8"))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    folder, tools = tmp_path / "checkout", tmp_path / "tools"
    chain.home(folder)
    for name in ("pipelines", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "settings").mkdir()
    data = {**chain.SETTINGS, "student": {"model": str(folder / "student")}, "prepare": {"corpus": "s3://x"}}
    retrain = {"min_changed": 0.05}
    text = yaml.safe_dump({"name": "handbook", **data, "publish": {"domain": "handbook"}, "retrain": retrain})
    # The example writes the address of the branch's corpus behind the first `corpus:`.
    (folder / "settings/handbook.yaml").write_text(text.replace("  corpus: s3://x", "  corpus: here"), "utf-8")
    tools.mkdir()
    for name, code in (("hone", "from hone.commands.cli import main\nmain()\n"), ("aws", AWS)):
        (tools / name).write_text(f"#!{sys.executable}\n{code}", "utf-8")
        (tools / name).chmod(0o755)
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    # The server keeps what it holds for as long as this process lives: what another test stored is not there.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=10).raise_for_status()
    aws = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    aws["AWS_ENDPOINT_URL"] = f"http://{host}:{port}"
    for key, value in aws.items():
        monkeypatch.setenv(key, value)
    boto3.Session().client("s3").create_bucket(Bucket="team-hone")
    with kfp_server.running() as platform:
        env = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src"), "OUT": "out"}
        env |= {"KFP_HOST": platform.address, "PROFILE": "dev-cpu", "IMAGES": "", "GITHUB_ENV": str(tmp_path / "env")}
        found = Desk(folder, platform, env)
        platform.begins = found.begin
        found.git("init", "-q")
        found.commit()
        (folder / "settings/README").write_text("x", "utf-8")
        found.commit()
        yield found
    server.stop()


def steps(name: str) -> list[str]:
    """The shell steps of an example's retraining, without what only its own platform can do."""
    (found,) = documents(name)
    if name == "gitlab-ci.yaml":
        return list(found["retrain"]["script"])
    ours = ("Read the corpus of this branch", "Whether more than the corpus changed", "Retrain")
    return [step["run"] for step in found["jobs"]["retrain"]["steps"] if step.get("name") in ours]


def variables(name: str) -> dict[str, str]:
    (found,) = documents(name)
    given = found["retrain"]["variables"] if name == "gitlab-ci.yaml" else found["jobs"]["retrain"]["env"]
    own = ("SETTINGS", "STORE", "CORPUS", "KFP_NAMESPACE", "KFP_ACCOUNT")
    return {key: given[key] for key in own}


@pytest.mark.parametrize("name", ["github-actions.yaml", "gitlab-ci.yaml"])
def test_a_changed_corpus_is_retrained_an_unchanged_one_is_not_and_a_pull_request_publishes_nothing(
    name: str, desk: Desk
) -> None:
    env = {**variables(name), "CORPUS_AT": "s3://team-hone/corpora/handbook"}
    code, outcome = desk.run(*steps(name), PUBLISH="1", **env)
    assert (code, outcome["outcome"], len(desk.read)) == (0, "promoted", 1)
    assert "s3://team-hone/corpora/handbook" in desk.read[0]
    assert settings_text.check(desk.read[0]).stages["publish"].model_dump()["domain"] == "handbook"
    desk.commit()  # the settings, as the step wrote the branch's address into them
    (desk.folder / "corpus/README.md").write_text("Nothing that is read.", "utf-8")
    desk.commit()
    (desk.folder / "out/outcome.json").unlink()
    code, outcome = desk.run(*steps(name), PUBLISH="1", **env)
    assert (code, outcome["outcome"], len(desk.read)) == (0, "not needed", 1)
    path = desk.folder / "corpus/corpus.jsonl"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(line.replace("wing", "rudder") for line in lines) + "\n", "utf-8")
    desk.commit()
    desk.verdict = "hold"
    code, outcome = desk.run(*steps(name), PUBLISH="0", **env)
    assert (code, outcome["outcome"], len(desk.read)) == (4, "held", 2)
    assert settings_text.check(desk.read[1]).stages["publish"].model_dump()["domain"] == ""
    assert (desk.folder / "out/report.md").is_file()


def test_tekton_hands_the_verdict_on_as_results_and_fails_for_faults_alone(desk: Desk, tmp_path: Path) -> None:
    task = next(item for item in documents("tekton.yaml") if item["kind"] == "Task")
    script = next(step["script"] for step in task["spec"]["steps"] if step["name"] == "retrain")
    for result in ("outcome", "exit-code"):
        script = script.replace(f"$(results.{result}.path)", str(tmp_path / result))
    given = next(step["env"] for step in task["spec"]["steps"] if step["name"] == "retrain")
    env = {one["name"]: one["value"] for one in given if one["name"] in ("SETTINGS", "STORE", "KFP_ACCOUNT")}
    defaults = {one["name"]: one["default"] for one in task["spec"]["params"]}
    assert env["SETTINGS"] == "$(params.settings)"
    env["SETTINGS"] = defaults["settings"]
    upload = 'aws s3 sync --delete corpus "s3://team-hone/corpora/handbook"'
    point = r'sed -i "s|^\( *corpus:\).*|\1 s3://team-hone/corpora/handbook|" "$SETTINGS"'
    desk.verdict = "reject"
    code, outcome = desk.run(upload, point, script, KFP_NAMESPACE="team", PUBLISH="1", **env)
    assert (code, outcome["outcome"]) == (0, "rejected")
    assert (tmp_path / "outcome").read_text("utf-8") == "rejected"
    assert (tmp_path / "exit-code").read_text("utf-8") == "3"
