"""Training on several machines: the TrainJob that a task makes, adopts, follows and removes, on a server that speaks as
much of the Kubernetes API as is asked here."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

import chain
import ir
import loopback
from crd import ANY, COUNT, FLAG, TEXT, closed, listed
from hone.commands.cli import app
from hone.engine import runner
from hone.errors import TransientError, UserError
from hone.kubeflow import attempts, launcher, settings_text, trainjob
from hone.kubeflow.compile import compile
from hone.kubeflow.profile import load
from hone.kubeflow.trainjob import Cluster, Machines
from hone.storage.base import Store
from hone.storage.local import LocalStore
from test_components import call as launched

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team/trainjobs"
NAME = "hone-distill-0123456789abcdef"
MACHINES = Machines(
    nodes=2, gpus=8, gpu_type="nvidia.com/gpu", cpu="120", memory="960Gi", scratch="400Gi", shm="64Gi", seconds=28_800,
    image="registry.example/hone-train@sha256:1", node_selector={"nvidia.com/gpu.product": "H100"},
    tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    labels={"app.kubernetes.io/part-of": "hone"}, queue="gpus",
)  # fmt: skip
POD: dict[str, Any] = {
    "metadata": {
        "name": "task-1", "namespace": "team", "uid": "u-1",
        "ownerReferences": [
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-1", "uid": "w-1", "controller": 1}
        ],
    },
    "spec": {
        "serviceAccountName": "hone-runner",
        "volumes": [
            {"name": "scratch", "emptyDir": {"sizeLimit": "50Gi"}}, {"name": "shm", "emptyDir": {"medium": "Memory"}},
            {"name": "hone-models", "persistentVolumeClaim": {"claimName": "hone-models"}},
            {"name": "kfp-launcher", "emptyDir": {}}, {"name": "kube-api-access", "projected": {"sources": []}},
        ],
        "containers": [
            {"name": "wait"},
            {
                "name": "main",
                "env": [
                    {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": "hone-s3", "key": "id"}}},
                    {"name": "KFP_POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "volumeMounts": [
                    {"name": "scratch", "mountPath": "/tmp"}, {"name": "hone-models", "mountPath": "/models"},
                    {"name": "kfp-launcher", "mountPath": "/kfp-launcher"},
                ],
            },
        ],
    },
}  # fmt: skip
PATCHED_POD = closed(
    nodeSelector=ANY, tolerations=listed(ANY), imagePullSecrets=listed(ANY), securityContext=ANY, volumes=listed(ANY),
    serviceAccountName=TEXT, affinity=ANY, schedulingGates=listed(ANY), terminationGracePeriodSeconds=COUNT,
    containers=listed(closed("name", name=TEXT, env=listed(ANY), volumeMounts=listed(ANY), securityContext=ANY)),
)  # fmt: skip
PATCHED_JOB = closed(metadata=ANY, spec=closed(template=closed(metadata=ANY, spec=PATCHED_POD)))
SCHEMA = closed(
    "apiVersion kind metadata spec",
    apiVersion={"const": "trainer.kubeflow.org/v1alpha1"},
    kind={"const": "TrainJob"},
    metadata={
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}},
        "required": ["name"],
    },
    spec=closed(
        "runtimeRef",
        runtimeRef=closed("name", name={**TEXT, "maxLength": 253}, apiGroup=TEXT, kind=TEXT),
        activeDeadlineSeconds=COUNT,
        suspend=FLAG,
        managedBy=TEXT,
        initializer=ANY,
        trainer=closed(
            image={**TEXT, "maxLength": 500},
            command={**listed(TEXT), "maxItems": 128},
            args={**listed({"type": "string"}), "maxItems": 128},
            env=listed(closed("name", name=TEXT, value={"type": "string"}, valueFrom=ANY)),
            numNodes={"type": "integer", "minimum": 0},
            numProcPerNode=COUNT,
            resourcesPerNode=closed(requests=ANY, limits=ANY, claims=listed(ANY)),
        ),
        runtimePatches=listed(
            closed(
                "manager",
                manager={**TEXT, "maxLength": 253},
                time=TEXT,
                trainingRuntimeSpec=closed(
                    template=closed(
                        metadata=ANY,
                        spec=closed(replicatedJobs=listed(closed("name", name=TEXT, template=PATCHED_JOB))),
                    )
                ),
            )
        ),
    ),
)
"""What the CustomResourceDefinition of Kubeflow Trainer 2.3 takes of what is written here; it prunes or refuses the
rest."""


class Kubernetes(loopback.Server):
    """Jobs, and every request that came. A job ends after it was looked at a few times."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.seen: list[str] = []
        self.ends = "Complete"
        self.refuses: dict[str, int] = {}
        self.looks = 0
        self.begins: Callable[[], None] = lambda: None
        """Called when a job is made: what its processes would do."""

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.address, "team", "task-1", "token")


class Handler(loopback.Handler):
    server: Kubernetes

    def do_GET(self) -> None:
        path = self.noted()
        if path == f"{JOBS}/{NAME}":
            job = self.server.jobs.get(NAME)
            if job is None:
                return self.answer({}, 404)
            self.server.looks += 1
            done = {"type": self.server.ends, "status": "True", "message": "node 1 is gone"}
            conditions = [done] if self.server.looks > 3 else [{"type": "Suspended", "status": "False"}]
            return self.answer({**job, "status": {"conditions": conditions}})
        if path == "/api/v1/namespaces/team/pods/task-1":
            return self.answer(POD)
        if re.fullmatch(r"/api/v1/namespaces/team/pods/node-0-0/log", path):
            return self.answer("2026-01-01T00:00:01Z step 1\n2026-01-01T00:00:02Z step 2\n")
        assert path == "/api/v1/namespaces/team/pods", path
        return self.answer({"items": [{"metadata": {"name": "node-0-0"}}]})

    def do_POST(self) -> None:
        path = self.noted()
        body = json.loads(self.body())
        if path in self.server.refuses:
            return self.answer({"message": "no"}, self.server.refuses[path])
        jsonschema.validate(body, SCHEMA)
        self.server.jobs[body["metadata"]["name"]] = body
        self.server.looks = 0
        self.server.begins()
        return self.answer(body, 201)

    def do_DELETE(self) -> None:
        del self.server.jobs[self.noted().rpartition("/")[2]]
        self.answer({})

    def noted(self) -> str:
        assert self.headers["authorization"] == "Bearer token"
        path = self.path.partition("?")[0]
        self.server.seen.append(f"{self.command} {path}")
        return path


@pytest.fixture
def served() -> Iterator[Kubernetes]:
    with loopback.running(Kubernetes()) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def train(served: Kubernetes, store: LocalStore) -> list[str]:
    said: list[str] = []
    trainjob.train(served.cluster, NAME, ["stage", "distill"], MACHINES, store, 0.01, said.append)
    return said


def test_a_job_is_made_followed_with_its_log_and_removed(served: Kubernetes, store: LocalStore) -> None:
    said = train(served, store)
    assert said[0] == f"TrainJob {NAME}: 2 machines with 8 GPUs each"
    assert said.count("  step 1") == said.count("  step 2") == 1
    assert said[-1] == f"TrainJob {NAME}: Complete"
    assert served.seen[-1] == f"DELETE {JOBS}/{NAME}"
    assert served.jobs == {}


def test_the_job_is_what_the_tasks_own_pod_is_on_larger_machines() -> None:
    made = trainjob.manifest(NAME, ["stage", "distill"], MACHINES, POD)
    jsonschema.validate(made, SCHEMA)
    assert made["metadata"]["ownerReferences"] == [
        {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-1", "uid": "w-1"}
    ]
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    trainer = made["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 8)
    assert trainer["resourcesPerNode"]["limits"] == {"memory": "960Gi", "nvidia.com/gpu": "8"}
    assert [one["name"] for one in trainer["env"]] == ["AWS_ACCESS_KEY_ID"]
    [patch] = made["spec"]["runtimePatches"]
    [job] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["volumes"]] == ["scratch", "shm", "hone-models"]
    assert pod["volumes"][0]["emptyDir"] == {"sizeLimit": "400Gi"}
    assert [one["mountPath"] for one in pod["containers"][0]["volumeMounts"]] == ["/tmp", "/models"]


def test_a_task_that_is_started_again_goes_on_following_the_job_that_is_there(
    served: Kubernetes, store: LocalStore
) -> None:
    served.jobs[NAME] = trainjob.manifest(NAME, [], MACHINES, POD)
    assert train(served, store)[0] == f"TrainJob {NAME}: exists already, following it"
    assert not any(one.startswith("POST") for one in served.seen)


def test_a_job_that_failed_is_removed_so_that_the_next_try_makes_a_new_one(
    served: Kubernetes, store: LocalStore
) -> None:
    served.ends = "Failed"
    with pytest.raises(TransientError, match="failed: node 1 is gone"):
        train(served, store)
    assert served.jobs == {}
    served.ends = "Complete"
    assert train(served, store)[-1].endswith("Complete")


def test_a_mistake_of_the_user_ends_a_job_at_once_and_a_later_job_is_not_taken_for_it(
    served: Kubernetes, store: LocalStore
) -> None:
    served.jobs[NAME] = trainjob.manifest(NAME, [], MACHINES, POD)
    served.looks = -1_000  # the cluster would try it again for long
    config = '{"student": {"model": "/gone"}}'
    command = ["stage", "distill", "--config", config, "--store", store.uri, "--note", NAME]
    ran = CliRunner().invoke(app, [*command, "--input", "docs=prepare/0", "--input", "lists=curate/0"])
    assert isinstance(ran.exception, UserError)
    with pytest.raises(UserError, match=r"there is no finished docs at prepare/0 in .*; run its stage first"):
        train(served, store)
    assert served.jobs == {}
    assert served.looks < 0
    assert train(served, store)[-1].endswith("Complete")


def test_a_mistake_is_not_tried_again_by_the_task(
    served: Kubernetes, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.ends = "Failed"
    tries: list[str] = []

    def task(*given: Any) -> None:
        tries.append("one")
        served.begins = lambda: mistaken(store)
        train(served, store)

    monkeypatch.setattr(launcher, "_run", task)
    executor = {"inputs": {"parameterValues": {"settings": "x", "store": store.uri, "prepare": "p", "curate": "c"}}}
    with pytest.raises(UserError, match=r"^guards: there is no collection at s3://b/x$"):
        launcher.launch("distill", json.dumps({**executor, "outputs": {}}))
    assert tries == ["one"]


def mistaken(store: LocalStore) -> None:
    """What a process of the job leaves that cannot do what its settings ask for."""
    with (
        pytest.raises(UserError),
        attempts.noting(store, NAME, "distill", "process 3"),
    ):
        raise UserError("guards: there is no collection at s3://b/x")


@pytest.mark.parametrize(("status", "said"), [(403, "rights of the chart's Role"), (404, "has no Kubeflow Trainer")])
def test_what_the_cluster_refuses_is_one_sentence(
    status: int, said: str, served: Kubernetes, store: LocalStore
) -> None:
    served.refuses[JOBS] = status
    with pytest.raises(UserError, match=said):
        train(served, store)


def test_outside_a_cluster_several_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="only inside a cluster"):
        trainjob.in_cluster()


def test_the_profile_tells_the_task_what_each_machine_has_and_lets_it_wait_on_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    profile = load("h100x2x8").model_copy(update={"images": {"cpu": "c", "train": "t"}, "digests": False})
    compile("specialize", profile, tmp_path / "out.yaml")
    asked = dict(ir.asks(tmp_path / "out.yaml"))["distill"]
    assert (asked["gpu"], asked["timeout"]) == ("none", 28_800)
    told = Machines.model_validate_json(profile.machines("distill"))
    assert (told.nodes, told.gpus, told.memory, told.image) == (2, 8, "960Gi", "t")
    assert told.node_selector == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    spec, _ = ir.load(tmp_path / "out.yaml")
    tasks = [one["dag"]["tasks"] for one in spec["components"].values() if "dag" in one]
    [distill] = [found["distill"] for found in tasks if "distill" in found]
    given = distill["inputs"]["parameters"]["machines"]["runtimeValue"]["constant"]
    assert Machines.model_validate_json(given) == told
    wrong = profile.model_copy(update={"by_task": {"mine": {"nodes": 2}}})
    with pytest.raises(UserError, match="nodes of mine: only distill"):
        wrong.machines("mine")


def test_what_the_machines_run_is_the_result_that_the_task_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = chain.home(tmp_path / "home")
    store = LocalStore(tmp_path / "store")
    text = chain.settings_file(home).read_text("utf-8")
    text = text.replace("corpus: corpus", f"corpus: {home}/corpus").replace("model: student", f"model: {home}/student")
    done = runner.run(settings_text.check(text), store, last="curate")
    ran: list[str] = []

    def train(cluster: Cluster, name: str, command: list[str], machines: Machines, store: Store) -> None:
        ran.append(name)
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    monkeypatch.setattr(trainjob, "train", train)
    monkeypatch.setattr(trainjob, "in_cluster", lambda: Cluster("", "", ""))
    given = {
        "settings": text, "store": store.uri, "machines": MACHINES.model_dump_json(),
        "prepare": done["prepare"].prefix, "curate": done["curate"].prefix,
    }  # fmt: skip
    prefixes = {launched("distill", tmp_path / f"task-{number}", **given)["prefix"] for number in range(2)}
    [prefix] = prefixes
    assert ran == [f"hone-distill-{prefix.partition('/')[2]}"], "the second finds it finished"
    assert runner.run(settings_text.check(text), store, last="distill")["distill"].prefix == prefix

    monkeypatch.setattr(trainjob, "train", lambda *given: None)
    with pytest.raises(TransientError, match="left no distill/"):
        launcher._train_together(  # pyright: ignore[reportPrivateUsage]
            "distill",
            settings_text.check(text.replace("max_steps: 3", "max_steps: 2")).stages["distill"],
            runner.outputs_of(done),
            store,
            MACHINES,
        )
