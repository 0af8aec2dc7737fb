"""Training over several machines: a TrainJob of Kubeflow Trainer that a task makes, follows and clears away.

The task itself is small and waits. The job is named by the fingerprint of the result, so that a task that is started
again finds it and goes on following it, and it is owned by the workflow, with which it goes. Its pods are what the
task's own pod is: the same image, environment, volumes and account. torchrun ends with 1 whatever its processes ended
with, so these leave a note in the store under the job's name. What is relied on was read in the source of
Kubeflow Trainer 2.3 (trainer.kubeflow.org/v1alpha1) and of its runtime torch-distributed, which tells torchrun where
the machines are (PET_NNODES and so on).
"""

import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from hone.config import Settings
from hone.errors import TransientError, UserError
from hone.kubeflow import attempts
from hone.retry import retried, steady
from hone.storage.base import Store

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{}/trainjobs"
CONTAINER = "main"
"""What the platform calls the container of a task."""
NODE = "node"
"""What the runtime calls its job and its container."""
NOT_OURS = ("KFP_", "ARGO_", "KUBERNETES_", "GRPC_", "NAMESPACE")
"""Beginnings of environment variables that the platform gives its own pods."""
SECONDS_TO_ANSWER, PAUSE, MOST_FAULTS = 20, 10.0, 30
PATIENCE = (429, 500, 502, 503, 504)


class Machines(Settings):
    """What each machine of a training asks for: a profile's place, as the task reads it."""

    nodes: int
    """How many machines."""
    gpus: int
    """GPUs of each; so many processes train on it."""
    gpu_type: str
    """The resource that is counted."""
    cpu: str
    """Cores, requested and not limited."""
    memory: str
    """Memory, requested and limited to the same."""
    scratch: str
    """Disk at /tmp."""
    shm: str
    """Shared memory at /dev/shm."""
    seconds: int
    """The job is stopped after so long."""
    image: str
    """The image to run in."""
    node_selector: dict[str, str] = {}  # noqa: RUF012
    """Labels that the nodes must have."""
    tolerations: list[dict[str, str]] = []  # noqa: RUF012
    """Taints that the pods put up with."""
    labels: dict[str, str] = {}  # noqa: RUF012
    """Labels of every pod."""
    queue: str = ""
    """The Kueue LocalQueue that admits the job; empty for none."""
    runtime: str = "torch-distributed"
    """The ClusterTrainingRuntime."""


@dataclass(frozen=True)
class Cluster:
    """The Kubernetes API as a pod reaches it."""

    address: str
    namespace: str
    pod: str
    token: str = ""
    trust: ssl.SSLContext | None = field(default=None, repr=False)

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes | None:
        """The answer, None for what is not there. Raises UserError for a refusal, TransientError for a passing fault,
        FileExistsError where something of that name exists already."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER, context=self.trust) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            if error.code == 409:
                raise FileExistsError(path) from error
            said = f"Kubernetes answers {error.code} to {method} {path.partition('?')[0]}"
            if error.code in PATIENCE:
                raise TransientError(f"{said}; try again") from error
            why = (
                "give the runner the rights of the chart's Role (trainer.enabled)" if error.code == 403 else _why(error)
            )
            raise UserError(f"{said}; {why}") from error
        except OSError as error:
            raise TransientError(f"the Kubernetes API does not answer: {error}") from error

    def find(self, path: str) -> dict[str, Any] | None:
        """An object, or None."""
        answer = self.ask("GET", path)
        return None if answer is None else cast(dict[str, Any], json.loads(answer))


def in_cluster() -> Cluster:
    """The cluster that this pod is in. Raises UserError outside of one."""
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    if not host or not (ACCOUNT / "token").is_file():
        raise UserError("several machines train together only inside a cluster; use a profile with nodes: 1 elsewhere")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    pod = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
    token, namespace = ((ACCOUNT / name).read_text("utf-8").strip() for name in ("token", "namespace"))
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    return Cluster(f"https://{host}:{port}", namespace, pod, token, trust)


def train(
    cluster: Cluster,
    name: str,
    command: Sequence[str],
    machines: Machines,
    store: Store,
    pause: float = PAUSE,
    say: Callable[[str], None] = print,
) -> None:
    """Makes the job, or adopts the one of that name, follows it to its end and removes it. The command is to note in
    the store, under the job's name, how it ends (`hone stage --note`).

    Raises UserError, also for a mistake that one of the job's processes noted: the cluster would only try it again; and
    TransientError if the job failed: the next try goes on at its last checkpoint.
    """
    path = f"{JOBS.format(cluster.namespace)}/{name}"
    if cluster.find(path) is None:
        own = cluster.find(f"/api/v1/namespaces/{cluster.namespace}/pods/{cluster.pod}")
        if own is None:
            raise UserError(f"there is no pod {cluster.pod} in {cluster.namespace}; the task cannot tell what it is")
        attempts.forget(store, name)
        try:
            made = cluster.ask("POST", JOBS.format(cluster.namespace), manifest(name, command, machines, own))
        except FileExistsError:
            made = b""
        if made is None:
            raise UserError("this cluster has no Kubeflow Trainer (TrainJob); use a profile with nodes: 1")
        say(f"TrainJob {name}: {machines.nodes} machines with {machines.gpus} GPUs each")
    else:
        say(f"TrainJob {name}: exists already, following it")
    failure = _followed(cluster, name, path, store, pause, say)
    cluster.ask("DELETE", f"{path}?propagationPolicy=Background")
    if mistake := attempts.mistake(store, name):
        raise UserError(mistake)
    if failure:
        raise TransientError(f"the TrainJob {name} failed: {failure}; its last lines are above")


def _followed(cluster: Cluster, name: str, path: str, store: Store, pause: float, say: Callable[[str], None]) -> str:
    """Why the job failed; empty if it is complete."""
    last, since = "", ""

    def asked() -> tuple[dict[str, Any] | None, str, str]:
        return cluster.find(path), _follow_log(cluster, name, since, say), attempts.mistake(store, name)

    while True:
        job, since, mistaken = retried(asked, steady(MOST_FAULTS + 1, pause), TransientError)
        if job is None:
            return "it was removed from outside"
        conditions = cast(list[dict[str, str]], job.get("status", {}).get("conditions", []))
        true = {one["type"]: one for one in conditions if one.get("status") == "True"}
        state = ", ".join(sorted(true)) or "waiting"
        if state != last:
            say(f"TrainJob {name}: {state}")
            last = state
        if "Complete" in true:
            return ""
        if mistaken:
            return mistaken
        if "Failed" in true:
            return str(true["Failed"].get("message") or true["Failed"].get("reason") or "no reason is given")
        time.sleep(pause)


def _follow_log(cluster: Cluster, name: str, since: str, say: Callable[[str], None]) -> str:
    """Prints what the first machine's log says after a moment; returns the moment of its last line."""
    chosen = quote(f"jobset.sigs.k8s.io/jobset-name={name},batch.kubernetes.io/job-completion-index=0")
    pods = cluster.find(f"/api/v1/namespaces/{cluster.namespace}/pods?labelSelector={chosen}") or {}
    for pod in pods.get("items", [])[:1]:
        place = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod['metadata']['name']}/log"
        after = f"&sinceTime={quote(since)}" if since else ""
        try:
            log = cluster.ask("GET", f"{place}?container={NODE}&timestamps=true{after}") or b""
        except UserError:  # the container has not begun yet
            return since
        for line in log.decode("utf-8", "replace").splitlines():
            moment, _, words = line.partition(" ")
            if moment > since:
                say(f"  {words}")
                since = moment
    return since


def manifest(name: str, command: Sequence[str], machines: Machines, own: Mapping[str, Any]) -> dict[str, Any]:
    """The TrainJob, from what the profile asks for and the pod of the task that makes it."""
    spec: dict[str, Any] = own["spec"]
    main: dict[str, Any] = next(one for one in spec["containers"] if one["name"] == CONTAINER)
    volumes = [volume for one in spec.get("volumes", []) if (volume := _volume(one, machines))]
    names = {one["name"] for one in volumes}
    queue = {"kueue.x-k8s.io/queue-name": machines.queue} if machines.queue else {}
    gpus = {machines.gpu_type: str(machines.gpus)}
    pod = {
        "serviceAccountName": spec.get("serviceAccountName", "default"),
        "nodeSelector": machines.node_selector,
        "tolerations": machines.tolerations,
        "imagePullSecrets": spec.get("imagePullSecrets", []),
        "securityContext": {
            "runAsUser": 1001, "runAsGroup": 1001, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": volumes,
        "containers": [
            {
                "name": NODE,
                "volumeMounts": [one for one in main.get("volumeMounts", []) if one["name"] in names],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }  # fmt: skip
    template = {"metadata": {"labels": machines.labels}, "spec": pod}
    jobs = [{"name": NODE, "template": {"spec": {"template": template}}}]
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": own["metadata"]["namespace"],
            "labels": {**machines.labels, **queue},
            "ownerReferences": [_owner(own)],
        },
        "spec": {
            "runtimeRef": {"name": machines.runtime},
            "activeDeadlineSeconds": machines.seconds,
            "trainer": {
                "image": machines.image,
                "command": ["python", "-m", "torch.distributed.run", "-m", "hone"],
                "args": list(command),
                "env": [one for one in main.get("env", []) if _is_ours(one)],
                "numNodes": machines.nodes,
                "numProcPerNode": machines.gpus,
                "resourcesPerNode": {
                    "requests": {"cpu": machines.cpu, "memory": machines.memory, **gpus},
                    "limits": {"memory": machines.memory, **gpus},
                },
            },
            "runtimePatches": [
                {"manager": "hone/launcher", "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": jobs}}}}
            ],
        },
    }


def _owner(own: Mapping[str, Any]) -> dict[str, Any]:
    """The workflow, which outlives the tries of a task; the pod where there is none."""
    metadata: dict[str, Any] = own["metadata"]
    for one in metadata.get("ownerReferences", []):
        if one["kind"] == "Workflow":
            return {key: one[key] for key in ("apiVersion", "kind", "name", "uid")}
    return {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}


def _volume(one: Mapping[str, Any], machines: Machines) -> dict[str, Any] | None:
    """A volume that the profile asked for, at the size that a machine has; None for the platform's own."""
    if one["name"] == "scratch":
        return {"name": "scratch", "emptyDir": {"sizeLimit": machines.scratch}}
    if one["name"] == "shm":
        return {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": machines.shm}}
    return dict(one) if "persistentVolumeClaim" in one or "configMap" in one else None


def _is_ours(variable: Mapping[str, Any]) -> bool:
    return not variable["name"].startswith(NOT_OURS) and "fieldRef" not in variable.get("valueFrom", {})


def _why(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read()).get("message", "")) or "correct what it names"
    except (ValueError, OSError):
        return "correct what it names"
