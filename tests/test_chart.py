"""The Helm chart: what it renders, that Kubernetes takes it, what it refuses, and what its registrar does."""

import functools
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest
import yaml

import kfp_server
import planted
from compiling import compiled
from hone import __version__
from hone.errors import UserError
from hone.kubeflow.derive import commented
from hone.kubeflow.platform import connect
from hone.kubeflow.reconcile import Recurring, load_plan, reconcile

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm/hone"
VALUES = {path.stem: path for path in sorted((Path(__file__).parent / "charts").glob("*.yaml"))}
GOLDEN = Path(__file__).parent / "golden/charts"
OF_OTHERS = ("kueue.x-k8s.io", "pipelines.kubeflow.org")
"""API groups that Kubernetes' own schemas do not cover."""
TASKS_USER = 1001
schemas = functools.cache(kubernetes_validate.utils.schema_contents)


def values(name: str) -> dict[str, Any]:
    return yaml.safe_load(VALUES[name].read_text("utf-8"))


@pytest.fixture(scope="session")
def chart_with_pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chart into whose files/ the pipelines were compiled, as crd mode wants it."""
    folder = tmp_path_factory.mktemp("chart") / "hone"
    shutil.copytree(CHART, folder)
    for name in ("specialize", "specialize_many", "evaluate", "ablate"):
        compiled(name, "dev-cpu", folder / f"files/{name}.yaml")
    return folder


def render(chart: Path, given: dict[str, Any]) -> dict[str, str]:
    with helm.Chart.load(chart) as loaded:
        return loaded.render(given, name="hone", namespace="search")


def objects(rendered: dict[str, str]) -> list[dict[str, Any]]:
    texts = (text for name, text in sorted(rendered.items()) if name.endswith(".yaml"))
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


@pytest.fixture(scope="session", params=VALUES)
def rendered(request: pytest.FixtureRequest, chart_with_pipelines: Path) -> tuple[str, list[dict[str, Any]]]:
    return request.param, objects(render(chart_with_pipelines, values(request.param)))


def pods(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name to the spec of every pod."""
    specs = {item["metadata"]["name"]: item["spec"] for item in found if item["kind"] in ("Pod", "Job")}
    return {name: spec.get("template", {}).get("spec", spec) for name, spec in specs.items()}


def named(found: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(item for item in found if (item["kind"], item["metadata"]["name"]) == (kind, name))


def test_each_example_renders_as_it_did_before(rendered: tuple[str, list[dict[str, Any]]]) -> None:
    """HONE_GOLDEN=write pytest tests/test_chart.py renews the files; read their difference.

    Compiled pipelines are goldens of their own.
    """
    name, found = rendered
    text = yaml.safe_dump_all([item for item in found if item["kind"] != "PipelineVersion"], sort_keys=False)
    golden = GOLDEN / f"{name}.yaml"
    if os.environ.get("HONE_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text, "utf-8")
    assert text == golden.read_text("utf-8")


@pytest.mark.parametrize("version", ["1.30", "1.33"])
def test_kubernetes_takes_every_object(
    version: str, rendered: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0
    # The validator reads its two megabytes of definitions anew for every object.
    monkeypatch.setattr(kubernetes_validate.utils, "schema_contents", schemas)
    for item in rendered[1]:
        if not item["apiVersion"].startswith(OF_OTHERS):
            kubernetes_validate.validate(item, version, strict=True)
            checked += 1
    assert checked > 7


def test_the_chart_and_every_example_lint_without_a_word(chart_with_pipelines: Path) -> None:
    for name in VALUES:
        report = helm.lint(chart_with_pipelines, values(name), strict=True, kube_version="v1.33.0")
        assert report["errors"] == []
        assert [m for m in report["messages"] if m["severity"] > 1] == []


def test_every_pod_is_harmless(rendered: tuple[str, list[dict[str, Any]]]) -> None:
    for spec in pods(rendered[1]).values():
        assert spec["securityContext"]["runAsUser"] == TASKS_USER
        assert spec["automountServiceAccountToken"] == (spec["containers"][0]["name"] == "test-queue")
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
            assert container["resources"]["limits"]["memory"]


def test_no_role_may_do_everything_and_none_is_of_the_whole_cluster(
    rendered: tuple[str, list[dict[str, Any]]],
) -> None:
    assert not [item for item in rendered[1] if item["kind"].startswith("ClusterRole")]
    roles = [rule for item in rendered[1] if item["kind"] == "Role" for rule in item["rules"]]
    assert roles
    for rule in roles:
        assert "*" not in rule["resources"] + rule["verbs"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"] or rule["resourceNames"]


def test_secrets_are_only_named() -> None:
    assert "kind: Secret" not in "".join(path.read_text("utf-8") for path in CHART.glob("templates/**/*.yaml"))


def changed(name: str, path: str, value: Any) -> dict[str, Any]:
    given = values(name)
    *above, last = path.split(".")
    node = given
    for key in above:
        node = node.setdefault(key, {})
    node[last] = value
    return given


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("image", {}, "additional properties 'image' not allowed"),
        ("images.cpu.digest", "latest", "'/images/cpu/digest': 'latest' does not match pattern"),
        ("registration.mode", "helm", "value must be one of 'api', 'crd', 'none'"),
        ("registration.pipelines", [], "'/registration/pipelines': minItems: got 0, want 1"),
        ("kubeflow.host", "ml-pipeline:8888", "'/kubeflow/host': 'ml-pipeline:8888' does not match"),
        ("s3.endpoint", "minio:9000", "'/s3/endpoint': 'minio:9000' does not match"),
        ("s3.accessKey", "AKIA", "additional properties 'accessKey' not allowed"),
        ("s3.caBundle", "/etc/ca.pem", "'/s3/caBundle'"),
        ("modelCache.size", "100", "'/modelCache/size'"),
        ("modelCache.accessModes", ["RWX"], "value must be one of 'ReadWriteOnce'"),
        ("modelCache.models", [{"name": "a", "source": "s3://b/a"}], "missing property 'sha256'"),
        (
            "recurring",
            [{"name": "x", "cron": "0 2 * * *", "settings": "s", "store": "s3://b/x"}],
            "'/recurring/0/cron'",
        ),
        (
            "recurring",
            [{"name": "x", "cron": "0 0 2 * * *", "settings": "s", "store": "/data"}],
            "'/recurring/0/store'",
        ),
        ("tests.gpus", -1, "'/tests/gpus': minimum: got -1, want 0"),
        ("networkPolicy.s3Cidrs", ["s3.example"], "'/networkPolicy/s3Cidrs/0'"),
        ("s3.endpoint", "https://me:hunter2@s3.example", "'/s3/endpoint'"),
        ("s3.endpoint", "https://s3.example/?X-Amz-Signature=abc", "'/s3/endpoint'"),
        ("kubeflow.host", "http://me:hunter2@kubeflow.example", "'/kubeflow/host'"),
        ("profile.overrides", {"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, "invalid propertyName 'AWS_SECRET_ACCESS_KEY'"),
        ("profile.overrides", {"env": {"SERVER": "https://me:hunter2@llm.example"}}, "'/profile/overrides/env/SERVER'"),
        ("profile.overrides", {"env": {"KEY": "AKIAABCDEFGHIJKLMNOP"}}, "'/profile/overrides/env/KEY'"),
        ("profile.overrides", {"labels": {"app.kubernetes.io/part-of": "other"}}, "'app.kubernetes.io/part-of'"),
        ("profile.overrides", {"labels": {"app.kubernetes.io/instance": "other"}}, "'app.kubernetes.io/instance'"),
        (
            "recurring",
            [{"name": "x", "cron": "0 0 2 * * *", "settings": "a: https://me:hunter2@llm", "store": "s3://b/x"}],
            "'/recurring/0/settings'",
        ),
        ("images.allowTags", False, "images.pipeline.digest is empty: give the image's sha256:… digest"),
        ("networkPolicy.enabled", True, "networkPolicy.enabled needs networkPolicy.apiServerCidrs"),
        ("kueue.enabled", True, "kueue.clusterQueue is empty"),
        ("registration.mode", "crd", "files/specialize.yaml is missing: hone compile specialize"),
        (
            "modelCache",
            {"enabled": False, "models": [{"name": "a", "source": "s3://b/a", "sha256": "0" * 64}]},
            "needs",
        ),
    ],
)
def test_values_that_cannot_be_meant_are_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(helm.HelmError) as refused:
        render(CHART, changed("dev", path, value))
    assert message in str(refused.value)


def test_no_place_of_the_values_that_takes_a_text_takes_a_secret() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    validator, found = jsonschema.Draft202012Validator(schema), planted.places(schema)
    assert len(found) > 50
    for path in found:
        for form, text in planted.FORMS.items():
            for value in (text, {text: "x"}):
                errors = validator.iter_errors(planted.nested(path, value))
                places = [list(error.absolute_path) for one in errors for error in (one, *(one.context or ()))]
                assert list(path) in places, (path, form)


@pytest.mark.parametrize("form", planted.FORMS)
def test_helm_refuses_a_secret_in_a_place_that_means_nothing_to_the_chart(form: str) -> None:
    with pytest.raises(helm.HelmError, match="/commonLabels/note") as refused:
        render(CHART, changed("dev", "commonLabels", {"note": planted.FORMS[form]}))
    assert not [mark for mark in planted.MARKS if mark in str(refused.value)]


def test_recurring_runs_without_a_registrar_are_refused(chart_with_pipelines: Path) -> None:
    run = {"name": "x", "cron": "0 0 2 * * *", "settings": "s3://b/s", "store": "s3://b/x"}
    given = {**values("airgapped"), "recurring": [run]}
    with pytest.raises(helm.HelmError, match=r"recurring runs need registration\.mode: api"):
        render(chart_with_pipelines, given)


def test_the_schema_and_the_values_file_name_the_same_values_and_each_has_its_meaning() -> None:
    with helm.Chart.load(CHART) as chart:
        schema, defaults = chart.schema, chart.values
        chart.validate_schema({})
    assert schema

    def leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        # What a profile may override is open: the profile's own fields, not values of the chart.
        if "properties" not in node or path == ("profile", "overrides"):
            yield path
            return
        for key, below in node.get("properties", {}).items():
            yield from leaves(below, (*path, key))

    told = {path for path, _ in commented((CHART / "values.yaml").read_text("utf-8"))}
    assert set(leaves(schema)) == told
    for path in told:
        node: Any = defaults
        for key in path:
            node = node[key]


def test_the_chart_has_the_version_of_the_package() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.version == chart.metadata["appVersion"] == __version__


def test_the_schema_and_the_plan_agree_on_a_recurring_run() -> None:
    with helm.Chart.load(CHART) as chart:
        assert chart.schema
        item = chart.schema["properties"]["recurring"]["items"]
    assert set(item["properties"]) == set(Recurring.model_fields)
    assert set(item["required"]) == {key for key, field in Recurring.model_fields.items() if field.is_required()}


def test_images_come_from_the_private_registry_by_digest_and_with_its_key() -> None:
    found = objects(render(CHART, values("enterprise")))
    for spec in pods(found).values():
        assert spec["containers"][0]["image"].startswith("registry.example/ml/hone-")
        assert "@sha256:" in spec["containers"][0]["image"]
        assert spec["imagePullSecrets"] == [{"name": "registry-key"}]
    assert named(found, "ServiceAccount", "hone-runner")["imagePullSecrets"] == [{"name": "registry-key"}]


def written(found: list[dict[str, Any]], folder: Path) -> Path:
    """The plan's ConfigMap as the registrar's pod sees it."""
    for name, text in named(found, "ConfigMap", "hone-plan")["data"].items():
        (folder / name).write_text(text, "utf-8")
    return folder / "plan.yaml"


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[kfp_server.Platform]:
    monkeypatch.chdir(ROOT)
    with kfp_server.running() as server:
        yield server


def reconciled(platform: kfp_server.Platform, given: dict[str, Any], folder: Path) -> list[str]:
    plan = load_plan(written(objects(render(CHART, given)), folder))
    return list(reconcile(connect(platform.address), plan, "search"))


def test_no_pod_of_the_chart_gets_a_sidecar_that_would_keep_it_from_ending(
    rendered: tuple[str, list[dict[str, Any]]],
) -> None:
    found = [item for item in rendered[1] if item["kind"] in ("Pod", "Job")]
    for item in found:
        labels = item.get("spec", {}).get("template", item)["metadata"]["labels"]
        assert labels["sidecar.istio.io/inject"] == "false"


def test_pipelines_that_were_compiled_elsewhere_reach_s3_by_the_chart_s_config_maps(
    chart_with_pipelines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mode crd nothing compiles the values in: tasks name ConfigMaps, which the release makes."""
    monkeypatch.chdir(ROOT)
    found = objects(render(chart_with_pipelines, values("airgapped")))
    images = {name: f"r/{name}@sha256:{'a' * 64}" for name in ("cpu", "train")}
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(images), "utf-8")
    compiled("evaluate", "gpu", tmp_path / "out.yaml", tmp_path / "images.yaml")
    pod = list(yaml.safe_load_all((tmp_path / "out.yaml").read_text("utf-8")))[1]["platforms"]["kubernetes"]
    gate = pod["deploymentSpec"]["executors"]["exec-gate"]
    (given,), (mounted,) = gate["configMapAsEnv"], gate["configMapAsVolume"]
    held = named(found, "ConfigMap", given["configMapName"])["data"]
    assert held["AWS_ENDPOINT_URL_S3"] == "https://s3.inside.example"
    assert held["AWS_CA_BUNDLE"] == held["SSL_CERT_FILE"] == f"{mounted['mountPath']}/ca.crt"
    assert set(held) <= {entry["envVar"] for entry in given["keyToEnv"]}
    assert "ca.crt" in named(found, "ConfigMap", mounted["configMapName"])["data"]
    assert given["optional"]
    assert mounted["optional"]


def test_the_registrar_uploads_the_pipelines_for_the_chart_s_profile_and_makes_the_recurring_runs(
    platform: kfp_server.Platform, tmp_path: Path
) -> None:
    told = reconciled(platform, values("enterprise"), tmp_path)
    assert [sentence.partition(":")[2].strip().partition(",")[0] for sentence in told] == ["uploaded"] * 4 + [
        "made"
    ] * 2
    nightly, weekly = platform.held["recurringRuns"]
    assert nightly["trigger"]["cron_schedule"]["cron"] == "0 0 2 * * *"
    assert (nightly["service_account"], nightly["max_concurrency"], nightly["no_catchup"]) == ("hone-runner", 1, True)
    assert weekly["runtime_config"]["parameters"]["settings"].startswith("name: support\n")
    spec, pods = yaml.safe_load_all(platform.uploads[0].partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0])
    distill = pods["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-distill"]
    assert distill["activeDeadlineSeconds"] == str(24 * 3600)
    assert distill["nodeSelector"]["labels"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert distill["podMetadata"]["labels"]["app.kubernetes.io/part-of"] == "hone"
    assert distill["podMetadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "hone"
    assert distill["pvcMount"][0]["constant"] == "team-models"
    image = spec["deploymentSpec"]["executors"]["exec-distill"]["container"]["image"]
    assert image == f"registry.example/ml/hone-train@sha256:{'b' * 64}"


def test_a_domain_s_runs_go_by_an_account_of_its_own_which_may_what_the_runner_s_may(
    platform: kfp_server.Platform, tmp_path: Path
) -> None:
    given = changed("enterprise", "registration", {"pipelines": ["specialize"]})
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/support"}
    given["serviceAccounts"] = {
        **given.get("serviceAccounts", {}),
        "domains": [{"name": "hone-support", "annotations": role}],
    }
    given["recurring"] = [{**given["recurring"][0], "service_account": "hone-support"}, given["recurring"][1]]
    found = objects(render(CHART, given))
    assert named(found, "ServiceAccount", "hone-support")["metadata"]["annotations"] == role
    bound = {one["name"] for one in named(found, "RoleBinding", "hone-runner")["subjects"]}
    assert bound == {"hone-runner", "hone-support"}
    list(reconcile(connect(platform.address), load_plan(written(found, tmp_path)), "search"))
    assert [run["service_account"] for run in platform.held["recurringRuns"]] == ["hone-support", "hone-runner"]


def test_the_runner_may_start_jobs_of_kubeflow_trainer_only_where_asked_for() -> None:
    wanted = {"apiGroups": ["trainer.kubeflow.org"], "resources": ["trainjobs"], "verbs": ["create", "delete", "get"]}
    for enabled in (True, False):
        found = objects(render(CHART, changed("enterprise", "trainer", {"enabled": enabled})))
        assert (wanted in named(found, "Role", "hone-runner")["rules"]) == enabled


def test_a_domain_has_its_own_queue_quotas_secret_and_recurring_run(
    platform: kfp_server.Platform, tmp_path: Path
) -> None:
    given = changed("enterprise", "registration", {"pipelines": ["specialize"]})
    quotas = {"cpu": "16", "nvidia.com/gpu": "1"}
    queues = [{"name": "support", "clusterQueue": "support-gpus", "quotas": quotas}]
    given["kueue"] = {**given.get("kueue", {}), "enabled": True, "clusterQueue": "gpus", "queues": queues}
    secret = {"name": "support-s3", "env": {"id": "AWS_ACCESS_KEY_ID"}}
    own = {"queue": "support", "secrets": [secret]}
    given["recurring"] = [{**given["recurring"][0], "overrides": own}, given["recurring"][1]]
    found = objects(render(CHART, given))
    assert named(found, "LocalQueue", "support")["spec"] == {"clusterQueue": "support-gpus"}
    [group] = named(found, "ClusterQueue", "support-gpus")["spec"]["resourceGroups"]
    assert {one["name"]: one["nominalQuota"] for one in group["flavors"][0]["resources"]} == quotas
    list(reconcile(connect(platform.address), load_plan(written(found, tmp_path)), "search"))
    first, second = (run["pipeline_version_reference"] for run in platform.held["recurringRuns"])
    assert first != second
    texts = [upload.decode("utf-8", "replace") for upload in platform.uploads]
    own_way = [("support-s3" in text, "support" in re.findall("queue-name: (\\S+)", text)) for text in texts]
    assert set(own_way) == {(False, False), (True, True)}


def test_a_recurring_run_of_many_domains_takes_their_addresses(tmp_path: Path) -> None:
    plan = {"profile": "dev-cpu", "pipelines": ["specialize_many", "specialize"]}
    run = {"name": "all", "cron": "0 0 2 * * *", "store": "s3://b/x", "pipeline": "specialize_many"}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**plan, "recurring": [{**run, "domains": ["s3://b/a.yaml", "s3://b/c.yaml"]}]}))
    [found] = load_plan(path).recurring
    assert found.parameters == {"domains": ["s3://b/a.yaml", "s3://b/c.yaml"], "store": "s3://b/x"}
    for wrong in ({}, {"settings": "s3://b/a.yaml"}, {"domains": ["s3://b/a.yaml"], "pipeline": "specialize"}):
        path.write_text(yaml.safe_dump({**plan, "recurring": [{**run, **wrong}]}))
        with pytest.raises(UserError, match="takes settings, and domains only with specialize_many"):
            load_plan(path)


def test_the_registrar_changes_nothing_when_nothing_changed_and_replaces_what_did(
    platform: kfp_server.Platform, tmp_path: Path
) -> None:
    given = changed("enterprise", "registration", {"pipelines": ["evaluate"]})
    for run in given["recurring"]:
        run["pipeline"] = "evaluate"
    reconciled(platform, given, tmp_path)
    before = [dict(run) for run in platform.held["recurringRuns"]]
    assert all(sentence.endswith("exists already") for sentence in reconciled(platform, given, tmp_path))
    assert platform.held["recurringRuns"] == before
    given["recurring"][0]["cron"] = "0 30 4 * * *"
    del given["recurring"][1]
    told = reconciled(platform, given, tmp_path)
    assert sum(sentence.endswith(": deleted") for sentence in told) == 2
    (left,) = platform.held["recurringRuns"]
    assert left["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * *"


def test_tasks_trust_the_chart_s_certificate_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    given = {**values("airgapped"), "registration": {"mode": "api", "pipelines": ["evaluate"]}}
    found = objects(render(CHART, given))
    plan = load_plan(written(found, tmp_path))
    compiled("evaluate", str(plan.profile), tmp_path / "out.yaml")
    spec, platform = yaml.safe_load_all((tmp_path / "out.yaml").read_text("utf-8"))
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-gate"]
    (mounted,) = pod["configMapAsVolume"]
    assert named(found, "ConfigMap", mounted["configMapName"])["data"]["ca.crt"].startswith("-----BEGIN")
    env = spec["deploymentSpec"]["executors"]["exec-gate"]["container"]["env"]
    assert {"name": "AWS_CA_BUNDLE", "value": f"{mounted['mountPath']}/ca.crt"} in env
    assert {"name": "AWS_ENDPOINT_URL_S3", "value": "https://s3.inside.example"} in env


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pipeline": "evaluate"}, "wants evaluate, which is not among the pipelines"),
        ({"settings": "name: x\ndistil: {}\n"}, "distil: unknown setting"),
        ({"settings": "x" * 8_001}, "too long"),
        ({"cron": "nightly"}, "recurring.0.cron"),
    ],
)
def test_a_plan_that_no_run_could_follow_is_refused_before_anything_is_sent(
    change: dict[str, str], message: str, tmp_path: Path
) -> None:
    run = {"name": "x", "cron": "0 0 2 * * *", "settings": "s3://b/s", "store": "s3://b/x", **change}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"profile": "gpu", "recurring": [run]}), "utf-8")
    with pytest.raises(UserError, match=message):
        load_plan(tmp_path / "plan.yaml")


def test_pipelines_as_objects_are_what_was_compiled_with_the_platform_s_own_templates_whole(
    chart_with_pipelines: Path,
) -> None:
    found = objects(render(chart_with_pipelines, values("airgapped")))
    versions = [item for item in found if item["kind"] == "PipelineVersion"]
    assert len(versions) == 4
    for item, name in zip(versions, ("specialize", "specialize_many", "evaluate", "ablate"), strict=True):
        spec, platform = yaml.safe_load_all((chart_with_pipelines / f"files/{name}.yaml").read_text("utf-8"))
        assert item["spec"]["pipelineSpec"] == spec
        assert item["spec"]["platformSpec"] == platform
        assert named(found, "Pipeline", item["spec"]["pipelineName"])
    assert "{{$}}" in str(versions)


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container registry on loopback: Debian's docker-registry."""
    if not shutil.which("docker-registry") and os.geteuid() and not os.environ.get("CI"):
        pytest.skip("apt install docker-registry; `make test` does so as root")
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(folder)}}, "http": {"addr": address}}
    (folder / "config.yml").write_text(yaml.safe_dump(config), "utf-8")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        _until_it_answers(address)
        yield address
    finally:
        server.kill()
        server.wait()


def _until_it_answers(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(address)


def test_the_packaged_chart_goes_to_a_registry_and_comes_back_the_same(registry: str, tmp_path: Path) -> None:
    package = Path(helm.package(CHART, destination=tmp_path))
    with helm.RegistryClient(plain_http=True) as client:
        client.push(package, f"oci://{registry}/charts")
        assert client.tags(f"oci://{registry}/charts/hone") == [__version__]
        (tmp_path / "back").mkdir()
        client.pull(f"oci://{registry}/charts/hone", destination=tmp_path / "back")
    back = tmp_path / "back" / package.name
    assert helm.digest(back) == helm.digest(package)
    assert render(back, values("enterprise")) == render(CHART, values("enterprise"))
