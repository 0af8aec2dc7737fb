"""What would fail on a real cluster: each rule with its place in the source of Kubeflow Pipelines 2.17.0 (kfp) or Argo
Workflows 4.0.5 (argo), and the compiled pipelines held against it."""

import json
from pathlib import Path
from typing import Any

import pytest

import compiling
import ir
from hone.kubeflow import profile as profiles
from hone.kubeflow.compile import compile
from hone.kubeflow.preflight import retry_policy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DAY = 86_400
RULES = {
    "outputs": "kfp backend/src/v2/component/launcher_v2.go:504: a declared output without its file fails a task",
    "window": "argo workflow/controller/operator.go:1037: maxDuration counts from the first try's start",
    "policy": "kfp manifests/kustomize/third-party/argo/base/workflow-controller-configmap-patch.yaml:59,"
    " merged under the task's own in argo workflow/controller/operator.go:4448",
    "context": "kfp backend/src/apiserver/template/v2_template.go:115 and 434: an unknown field refuses the run",
    "status": "kfp backend/src/v2/driver/resolve.go:471-476: the state of a DAG, and an error that is never filled in",
    "parameters": "kfp backend/src/common/util/consts.go:73: MAX_PARAMETER_BYTES is 10000",
    "pods": "kfp backend/src/v2/compiler/argocompiler/security_context.go:22-35: what every container may not do",
    "placeholder": "kfp backend/src/v2/driver/resolve.go:440: the run's id is resolved where it is the whole value",
    "refusal": "kfp sdk/python/kfp/client/client.py:1433: what the server refuses is raised as it came",
    "name": "kfp backend/src/apiserver/server/run_server.go:138: two runs of one name are two runs; there is no key",
    "namespace": "kfp backend/src/apiserver/server/pipeline_upload_server.go:118: without one a pipeline is shared",
    "address": "kfp sdk/python/kfp/client/client.py:309: inside a cluster the API is looked for in the run's namespace",
    "deadline": "kubernetes pkg/kubelet/active_deadline.go, pastActiveDeadline: counts from before images are pulled",
    "memory": "nvidia-smi prints [N/A] for the memory of a GPU that is cut into slices (MIG)",
}
ELSEWHERE = {
    "context": "test_platform_rules.py::test_the_security_context_is_for_2_16_and_later",
    "refusal": "test_submit.py::test_a_refusal_of_the_platform_is_one_sentence",
    "name": "test_submit.py::test_a_finished_run_is_adopted_only_while_what_it_read_is_the_same",
    "namespace": "test_submit.py::test_pipelines_and_runs_belong_to_the_namespace_that_is_named",
    "address": "test_submit.py::test_the_platform_s_own_namespace_is_not_that_of_the_runs",
    "memory": "test_preflight.py::test_memory_that_the_driver_does_not_tell_is_said_and_taken_on_trust",
}
"""Rules that no assertion names: the test that holds them."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The pipeline that trains, for a cluster without GPUs; the one compilation that these tests share."""
    return ir.load(compiling.compiled("specialize", "dev-cpu", tmp_path_factory.mktemp("rules") / "specialize.yaml"))


def tasks(spec: dict[str, Any]) -> list[dict[str, Any]]:
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    return [task for dag in dags for task in dag["tasks"].values()]


def following(
    spec: dict[str, Any], policy: str, *ends: Any, verdict: str = "promote", vectors: str = ""
) -> tuple[str, list[str], Any]:
    """A run whose distill ends in these ways, one after the other: its state, its tasks, and what notify was given."""
    left, seen, told = list(ends), list[str](), dict[str, Any]()

    def run(name: str, component: Any, executor: Any, given: dict[str, Any]) -> Any:
        command = executor["container"]["command"][-1]
        seen.append(command)
        if command == "notify":
            told.update(given)
        if command == "distill" and left and (ended := left.pop(0)) != "well":
            return ended
        shown = {"gate": {"verdict": verdict}, "publish": {"vectors": vectors}}
        return {"prefix": f"{command}/0", **shown.get(command, {})}

    return ir.interpret(spec, run, {"settings": "s3://b/s@0", "store": "s3://b/x"}, policy), seen, told


@pytest.mark.parametrize(
    ("version", "ends", "state", "tries"),
    [
        ("2.16", [None, "well"], "SUCCEEDED", 2),
        ("2.16", [ir.LOST], "FAILED", 1),
        ("2.17", [ir.LOST, "well"], "SUCCEEDED", 2),
        ("2.17", [None], "FAILED", 1),
        ("always", [None, ir.LOST, "well"], "SUCCEEDED", 3),
        ("always", [None, None, None], "FAILED", 3),
    ],
)
def test_which_failures_a_stock_install_starts_a_task_again_after(
    version: str, ends: list[Any], state: str, tries: int, compiled: Any
) -> None:
    found, seen, _ = following(compiled[0], ir.STOCK.get(version, "Always"), *ends)
    assert (found, seen.count("distill")) == (state, tries), RULES["policy"]


def test_a_task_that_leaves_a_declared_output_unwritten_fails_the_run(compiled: Any) -> None:
    state, _, _ = following(compiled[0], "OnError", {})
    assert state == "FAILED", RULES["outputs"]


@pytest.mark.parametrize(
    ("verdict", "vectors", "state"),
    [("promote", "wanted", "COMPLETE"), ("promote", "", "RUNNING"), ("hold", "", "RUNNING"), ("reject", "", "RUNNING")],
)
def test_what_the_platform_tells_notify_is_right_for_none_but_runs_whose_every_task_was_started(
    verdict: str, vectors: str, state: str, compiled: Any
) -> None:
    ended, _, told = following(compiled[0], "OnError", verdict=verdict, vectors=vectors)
    assert (ended, told["status"]["state"], told["status"]["error"]) == ("SUCCEEDED", state, {}), RULES["status"]


def test_a_retry_may_begin_as_late_as_the_tries_before_it_and_a_week_of_queueing_take(compiled: Any) -> None:
    spec, pods = compiled
    timeouts = {f"comp-{name.removeprefix('exec-')}": int(pod["activeDeadlineSeconds"]) for name, pod in pods.items()}
    retried = [task for task in tasks(spec) if task.get("retryPolicy", {}).get("maxRetryCount")]
    assert len(retried) >= 10
    for task in retried:
        policy = task["retryPolicy"]
        longest = (policy["maxRetryCount"] + 1) * timeouts[task["componentRef"]["name"]]
        assert int(policy["backoffMaxDuration"].removesuffix("s")) == longest + 7 * DAY, RULES["window"]


@pytest.mark.parametrize(("version", "taken"), [((2, 14), False), ((2, 15), False), ((2, 16), True), ((2, 17), True)])
def test_the_security_context_is_for_2_16_and_later_and_a_profile_leaves_it_out_for_others(
    version: tuple[int, int], taken: bool, compiled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if taken:
        ir.take(compiled[1], version)
        return
    with pytest.raises(ir.Refused, match="securityContext"):
        ir.take(compiled[1], version)
    (tmp_path / "older.yaml").write_text("extends: dev-cpu\nsecurity_context: false\n", "utf-8")
    monkeypatch.chdir(ROOT)
    compile("evaluate", profiles.load(str(tmp_path / "older.yaml")), tmp_path / "out.yaml")
    ir.take(ir.load(tmp_path / "out.yaml")[1], version)


def test_no_task_may_gain_rights_and_every_one_has_its_temporary_folder_mounted(compiled: Any) -> None:
    """A read-only root cannot be asked for: the backend has no field for it. Nothing needs to write anywhere else."""
    for pod in compiled[1].values():
        found = ir.security(pod)
        assert found["allowPrivilegeEscalation"] is False, RULES["pods"]
        assert found["capabilities"] == {"drop": ["ALL"]}
        assert found["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (found["runAsNonRoot"], found["runAsUser"]) == (True, 1001)
        assert {"/tmp", "/dev/shm"} <= {mount["mountPath"] for mount in pod["emptyDirMounts"]}


def test_a_run_whose_parameters_are_too_long_is_refused_and_addresses_are_short_enough(compiled: Any) -> None:
    with pytest.raises(ir.Refused, match="exceed maximum size of 10000"):
        ir.interpret(compiled[0], lambda *given: None, {"settings": "x" * 10_000, "store": "s3://b/x"})
    longest = {"settings": f"s3://{'b' * 63}/{'k' * 1024}@{'0' * 64}", "store": f"s3://{'b' * 63}/{'k' * 1024}"}
    assert len(json.dumps(longest)) < ir.LONGEST_PARAMETERS, RULES["parameters"]


def test_every_task_knows_the_run_by_the_platform_s_id_given_as_a_whole_value(compiled: Any) -> None:
    given = [task["inputs"]["parameters"]["attempt"] for task in tasks(compiled[0]) if "retryPolicy" in task]
    constants = [one["runtimeValue"]["constant"] for one in given if "runtimeValue" in one]
    assert set(constants) == {"{{$.pipeline_job_uuid}}"}, RULES["placeholder"]


@pytest.mark.parametrize(
    ("defaults", "policy"),
    [
        ("", "OnFailure: a task that failed is started again, one whose pod was deleted is not"),
        ("spec: {templateDefaults: {retryStrategy: {limit: '2', retryPolicy: OnError}}}", "OnError: only a task whose"),
        ("spec: {templateDefaults: {retryStrategy: {retryPolicy: Always}}}", "Always: every failed or lost task"),
    ],
)
def test_preflight_reads_the_retry_policy_of_argo(defaults: str, policy: str) -> None:
    assert retry_policy({"workflowDefaults": defaults} if defaults else {}).startswith(policy)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "pipelines/profiles").glob("*.yaml"))])
def test_preflight_has_time_for_its_image_to_be_pulled_in_every_profile(name: str) -> None:
    place = profiles.load(name).place("preflight")
    assert profiles.seconds(place.timeout) >= 1_800, RULES["deadline"]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_held_by_a_test_that_is_there(rule: str) -> None:
    file, _, test = ELSEWHERE.get(rule, f"{Path(__file__).name}::").partition("::")
    wanted = f"def {test}" if test else f'RULES["{rule}"]'
    assert wanted in (Path(__file__).parent / file).read_text("utf-8"), RULES[rule]


def test_the_documentation_names_the_versions_that_were_read() -> None:
    text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
    assert "2.17.0" in text
    assert "4.0.5" in text
