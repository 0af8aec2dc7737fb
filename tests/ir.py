"""Reads a compiled pipeline: what its tasks ask for, and an interpreter of its control flow.

kfp.local skips conditions on the output of a container and refuses loops over one, so control flow is followed here;
each task is then run by whatever `run` does.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Values = dict[str, Any]
Run = Callable[[str, dict[str, Any], dict[str, Any], Values], Values | None]
"""(task, component, executor, parameters) to output parameters, or None if the task failed."""


class Failed(Exception):
    """A task failed, so that what follows it does not run."""


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
        wanted["retries"] = retries.get(name.replace("exec-", "comp-"), 0)
        wanted["timeout"] = int(pod["activeDeadlineSeconds"])
        for mount in pod["emptyDirMounts"]:
            wanted[mount["mountPath"]] = f"{mount['sizeLimit']}{' of memory' if mount.get('medium') else ''}"
        wanted["env"] = sorted(
            entry["envVar"]
            for source in (*pod.get("secretAsEnv", []), *pod.get("configMapAsEnv", []))
            for entry in source["keyToEnv"]
        )
        wanted["volumes"] = [f"{mount['constant']} at {mount['mountPath']}" for mount in pod.get("pvcMount", [])]
        wanted["user"] = pod["securityContext"]
        wanted["nodes"] = pod.get("nodeSelector", {}).get("labels", {})
        wanted["tolerations"] = pod.get("tolerations", [])
        wanted["labels"] = pod.get("podMetadata", {}).get("labels", {})
        yield name.removeprefix("exec-"), wanted


def _retries(spec: dict[str, Any]) -> dict[str, int]:
    dags = [component["dag"] for component in spec["components"].values() if "dag" in component]
    tasks = [task for dag in (spec["root"]["dag"], *dags) for task in dag["tasks"].values()]
    return {task["componentRef"]["name"]: task.get("retryPolicy", {}).get("maxRetryCount", 0) for task in tasks}


def interpret(spec: dict[str, Any], run: Run, parameters: Values) -> str:
    """Runs a compiled pipeline; returns SUCCEEDED or FAILED, after the exit task has run."""
    return _Interpreter(spec, run).root(parameters)


class _Interpreter:
    def __init__(self, spec: dict[str, Any], run: Run) -> None:
        self.components, self.run = spec["components"], run
        self.executors, self.dag = spec["deploymentSpec"]["executors"], spec["root"]["dag"]

    def root(self, parameters: Values) -> str:
        tasks = self.dag["tasks"]
        exits = [name for name, task in tasks.items() if _status_input(task)]
        state, error = "SUCCEEDED", ""
        try:
            self._tasks({name: task for name, task in tasks.items() if name not in exits}, parameters)
        except Failed as failure:
            state, error = "FAILED", str(failure)
        status = {"state": state, "error": {"message": error}, "pipelineTaskName": "run"}
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
            return {}
        if "parameterIterator" not in task:
            return self._task(name, task, given)
        iterator = task["parameterIterator"]
        items = yaml.safe_load(iterator["items"]["raw"])
        shares = [self._task(f"{name}[{item}]", task, {**given, iterator["itemInput"]: item}) for item in items]
        return {key: [share[key] for share in shares] for key in shares[0]}

    def _task(self, name: str, task: dict[str, Any], given: Values) -> Values:
        component = self.components[task["componentRef"]["name"]]
        if "dag" in component:
            return _outputs(component["dag"], self._tasks(component["dag"]["tasks"], given))
        executor = self.executors[component["executorLabel"]]
        for _ in range(1 + task.get("retryPolicy", {}).get("maxRetryCount", 0)):
            outputs = self.run(name, component, executor, given)
            if outputs is not None:
                return outputs
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
                found[key] = source["runtimeValue"]["constant"]
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
