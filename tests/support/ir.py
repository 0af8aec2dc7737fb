"""Reads a compiled pipeline: what its tasks ask for, and an interpreter of its control flow.

kfp.local skips conditions on the output of a container and refuses loops over one, so control flow is followed here;
each task is then run by whatever `run` does. What the platform does around a task is done as the source of Kubeflow
Pipelines 2.17.0 and Argo Workflows 4.0.5 does it; each rule names its place there.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Values = dict[str, Any]
LOST = "lost"
Run = Callable[[str, dict[str, Any], dict[str, Any], Values], Values | str | None]
"""(task, component, executor, parameters) to output parameters, None if the task failed, or LOST if its pod was."""
RETRIES = {"OnFailure": ("failed",), "OnError": (LOST,), "Always": ("failed", LOST)}
"""Argo's retry policies: which ends of a task each starts again (operator.go:1101-1124). A command that ends with
another code than 0, memory that runs out, an eviction and a deadline are all "failed" (operator.go:1709)."""
STOCK = {"2.16": "OnFailure", "2.17": "OnError"}
"""The policy of a stock install: Argo's own where the compiler names none (RetryPolicyActual, workflow_types.go:2295),
and what workflowDefaults merge under the task's since 2.17 (workflow-controller-configmap-patch.yaml)."""
LONGEST_PARAMETERS = 10_000
"""MAX_PARAMETER_BYTES (backend/src/common/util/consts.go:73)."""
SINCE = {"securityContext": (2, 16)}
"""Fields of an executor's Kubernetes settings that older backends do not know, and refuse (protojson is strict)."""


class Failed(Exception):
    """A task failed, so that what follows it does not run."""


class Refused(Exception):
    """The API server takes no such run."""


def take(pods: dict[str, Any], version: tuple[int, int]) -> None:
    """Reads the settings of a pipeline's pods as the API server of a version does: an unknown field refuses the run
    (protojson.Unmarshal without DiscardUnknown, v2_template.go:115 and 434). Raises Refused."""
    for name, pod in pods.items():
        for key in pod:
            if version < SINCE.get(key, version):
                raise Refused(f'{name}: unknown field "{key}"')


def security(pod: dict[str, Any]) -> dict[str, Any]:
    """The security context that the backend gives the container of a task: its own rules, whatever the settings say
    (security_context.go:22-35 and 78-120), and the settings' user."""
    asked = pod.get("securityContext", {})
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
        **({"runAsNonRoot": True} if asked.get("runAsNonRoot") else {}),
        **{key: int(asked[key]) for key in ("runAsUser", "runAsGroup") if key in asked},
    }


def load(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline spec and the Kubernetes settings of each executor."""
    spec, platform = yaml.safe_load_all(path.read_text("utf-8"))
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def asks(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Executor by executor, everything it asks of the cluster, on few lines."""
    spec, pods = load(path)
    retries = _retries(spec)
    for name, executor in sorted(spec["deploymentSpec"]["executors"].items()):
        pod, container = pods[name], executor["container"]
        resources = {key: value for key, value in container["resources"].items() if key.startswith("resource")}
        accelerator = container["resources"].get("accelerator", {})
        wanted: dict[str, Any] = {"image": container["image"], **resources}
        wanted["gpu"] = f"{accelerator['resourceCount']} {accelerator['resourceType']}" if accelerator else "none"
        count, window = retries.get(name.replace("exec-", "comp-"), (0, ""))
        wanted["retries"] = f"{count} within {window}" if count else 0
        wanted["timeout"] = int(pod["activeDeadlineSeconds"])
        for mount in pod["emptyDirMounts"]:
            wanted[mount["mountPath"]] = f"{mount['sizeLimit']}{' of memory' if mount.get('medium') else ''}"
        wanted["env"] = sorted(
            entry["envVar"]
            for source in (*pod.get("secretAsEnv", []), *pod.get("configMapAsEnv", []))
            for entry in source["keyToEnv"]
        )
        wanted["volumes"] = [f"{mount['constant']} at {mount['mountPath']}" for mount in pod.get("pvcMount", [])]
        wanted["user"] = pod.get("securityContext", {})
        wanted["nodes"] = pod.get("nodeSelector", {}).get("labels", {})
        wanted["tolerations"] = pod.get("tolerations", [])
        wanted["labels"] = pod.get("podMetadata", {}).get("labels", {})
        yield name.removeprefix("exec-"), wanted


def _retries(spec: dict[str, Any]) -> dict[str, tuple[int, str]]:
    dags = [component["dag"] for component in spec["components"].values() if "dag" in component]
    tasks = [task for dag in (spec["root"]["dag"], *dags) for task in dag["tasks"].values()]
    policies = {task["componentRef"]["name"]: task.get("retryPolicy", {}) for task in tasks}
    return {
        name: (policy.get("maxRetryCount", 0), policy.get("backoffMaxDuration", ""))
        for name, policy in policies.items()
    }


def interpret(spec: dict[str, Any], run: Run, parameters: Values, policy: str = "Always") -> str:
    """Runs a compiled pipeline under one of Argo's retry policies; returns SUCCEEDED or FAILED, after the exit task has
    run. Raises Refused."""
    size = len(json.dumps(parameters).encode())
    if size > LONGEST_PARAMETERS:
        raise Refused(f"The input parameter length exceed maximum size of {LONGEST_PARAMETERS}")
    return _Interpreter(spec, run, policy).root(parameters)


class _Interpreter:
    def __init__(self, spec: dict[str, Any], run: Run, policy: str) -> None:
        self.components, self.run, self.again = spec["components"], run, RETRIES[policy]
        self.skipped, self.run_id = False, str(uuid.uuid4())
        self.executors, self.dag = spec["deploymentSpec"]["executors"], spec["root"]["dag"]

    def root(self, parameters: Values) -> str:
        tasks = self.dag["tasks"]
        exits = [name for name, task in tasks.items() if _status_input(task)]
        state = "SUCCEEDED"
        try:
            self._tasks({name: task for name, task in tasks.items() if name not in exits}, parameters)
        except Failed:
            state = "FAILED"
        # The last state of the wrapped DAG, which stays RUNNING where a condition did not hold, and an error that is
        # never filled in (resolve.go:471-476, launcher_v2.go:227).
        last = "FAILED" if state == "FAILED" else "RUNNING" if self.skipped else "COMPLETE"
        status = {"state": last, "error": {}, "pipelineTaskName": "run"}
        for name in exits:
            given = {**self._given(tasks[name], parameters, {}), **dict.fromkeys(_status_input(tasks[name]), status)}
            self._task(name, tasks[name], given)
        return state

    def _tasks(self, tasks: dict[str, Any], parameters: Values) -> dict[str, Values]:
        """Runs the tasks of one DAG, each as soon as what it depends on is done."""
        done: dict[str, Values] = {}
        left = dict(tasks)
        while left:
            ready = [name for name, task in left.items() if set(task.get("dependentTasks", [])) <= set(done)]
            assert ready, f"a cycle among {sorted(left)}"
            for name in ready:
                task = left.pop(name)
                done[name] = self._one(name, task, self._given(task, parameters, done))
        return done

    def _one(self, name: str, task: dict[str, Any], given: Values) -> Values:
        condition = task.get("triggerPolicy", {}).get("condition")
        if condition and not _holds(condition, given):
            self.skipped = True
            return {}
        if "parameterIterator" not in task:
            return self._task(name, task, given)
        iterator = task["parameterIterator"]
        source = iterator["items"]
        items = yaml.safe_load(source["raw"]) if "raw" in source else given[source["inputParameter"]]
        shares: list[Values] = []
        failed: list[Failed] = []
        for item in items:
            # Every item of a loop is run, whatever became of those before it (dag.go:645-720 of Argo 4.0.5); the loop
            # then failed if one did.
            try:
                shares.append(self._task(f"{name}[{item}]", task, {**given, iterator["itemInput"]: item}))
            except Failed as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return {key: [share[key] for share in shares] for key in (shares[0] if shares else {})}

    def _task(self, name: str, task: dict[str, Any], given: Values) -> Values:
        component = self.components[task["componentRef"]["name"]]
        if "dag" in component:
            return _outputs(component["dag"], self._tasks(component["dag"]["tasks"], given))
        executor = self.executors[component["executorLabel"]]
        declared = component.get("outputDefinitions", {}).get("parameters", {})
        for _ in range(1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)):
            outputs = self.run(name, component, executor, given)
            if isinstance(outputs, dict) and declared.keys() <= outputs.keys():
                return outputs
            # A declared output that was not written fails its task like another exit code (launcher_v2.go:504).
            ended = outputs if isinstance(outputs, str) else "failed"
            if ended not in self.again:
                break
        raise Failed(f"{name} failed")

    def _given(self, task: dict[str, Any], parameters: Values, done: dict[str, Values]) -> Values:
        """The values of a task's inputs; those of a task that was skipped are missing."""
        found: Values = {}
        for key, source in task.get("inputs", {}).get("parameters", {}).items():
            if "componentInputParameter" in source:
                found[key] = parameters[source["componentInputParameter"]]
            elif "taskOutputParameter" in source:
                output = source["taskOutputParameter"]
                found[key] = done[output["producerTask"]][output["outputParameterKey"]]
            elif "runtimeValue" in source:
                constant = source["runtimeValue"]["constant"]
                found[key] = self.run_id if constant == "{{$.pipeline_job_uuid}}" else constant
        return found


def _status_input(task: dict[str, Any]) -> list[str]:
    inputs = task.get("inputs", {}).get("parameters", {})
    return [key for key, source in inputs.items() if "taskFinalStatus" in source]


def _outputs(dag: dict[str, Any], inner: dict[str, Values]) -> Values:
    found: Values = {}
    for key, source in dag.get("outputs", {}).get("parameters", {}).items():
        selector = source["valueFromParameter"]
        found[key] = inner[selector["producerSubtask"]][selector["outputParameterKey"]]
    return found


def _holds(condition: str, given: Values) -> bool:
    """inputs.parameter_values['x'] == 'y', the one form of condition that the pipelines have."""
    left, operator, right = condition.partition(" == ")
    assert operator, f"not an equality: {condition}"
    return str(given[left.split("'")[1]]) == right.strip("'")
