"""The compiled pipeline in containers: kfp's own Docker runner runs every task, and its result is the laptop's.

Tasks run as user 1001 with a read-only root, no capabilities and 4 GiB; data is in S3. `make e2e` starts the engine and
builds the images before.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
from google.protobuf import json_format
from kfp import local as kfp_local
from kfp.local import status, task_dispatcher
from kfp.local.config import LocalExecutionConfig
from kfp.pipeline_spec import pipeline_spec_pb2

import browser
import chain
import ir
from conftest import BUCKET, settings, text
from hone import local
from hone.kubeflow import profile as profiles
from hone.kubeflow.compile import compile
from hone.manifest import Manifest
from hone.parts import fetch_folder
from hone.settings import check
from hone.stage import scratch_folder
from hone.stages import STAGES
from hone.store import LocalStore, Store, open_store

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The specialize pipeline as compiled for a cluster without GPUs, in two shards."""
    out = tmp_path_factory.mktemp("compiled") / "specialize.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        compile("specialize", profiles.load("dev-cpu"), out)
    return ir.load(out)[0]


class Containers:
    """Runs the tasks of a pipeline as containers and keeps what they printed."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o777)  # tasks run as another user
        kfp_local.init(
            runner=kfp_local.DockerRunner(
                network_mode="host",
                user="1001:1001",
                read_only=True,
                tmpfs={"/tmp": "mode=1777,size=8g"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                mem_limit="4g",
                environment={**environment, "OMP_NUM_THREADS": "1"},
            ),
            pipeline_root=str(folder),
            raise_on_error=False,
        )
        self.seen: list[tuple[str, bool]] = []

    def __call__(
        self, name: str, component: dict[str, Any], executor: dict[str, Any], given: dict[str, Any]
    ) -> dict[str, Any] | None:
        config = LocalExecutionConfig.instance
        command = executor["container"]["command"][-1]
        outputs, ended = task_dispatcher.run_single_task_implementation(
            pipeline_resource_name="e2e",
            component_name=f"comp-{command}-{len(self.seen)}",
            component_spec=json_format.ParseDict(component, pipeline_spec_pb2.ComponentSpec()),
            executor_spec=json_format.ParseDict(executor, pipeline_spec_pb2.PipelineDeploymentConfig.ExecutorSpec()),
            arguments=given,
            pipeline_root=config.pipeline_root,
            runner=config.runner,
            raise_on_error=False,
            block_input_artifact=True,
            unique_pipeline_id="e2e",
        )
        # The runner takes a container that was gone before it looked for one that succeeded.
        good = ended == status.Status.SUCCESS and (command in ("preflight", "notify", "publish") or "prefix" in outputs)
        self.seen.append((command, good))
        return outputs if good else None


@contextmanager
def killer(stage: str, times: int, ready: Callable[[], bool] = lambda: True) -> Iterator[list[str]]:
    """Kills the containers of a stage with SIGKILL, the first `times` of them, once they print and it is time."""
    client, killed, stop = docker.from_env(), list[str](), threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            for container in client.containers.list(filters={"status": "running"}, ignore_removed=True):
                command = container.attrs["Config"]["Cmd"]
                new = stage in command and container.id not in killed and len(killed) < times
                if new and container.logs() and ready():
                    killed.append(container.id)
                    container.kill("SIGKILL")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield killed
    stop.set()
    thread.join()


def stored(run: str, *words: str) -> Callable[[], bool]:
    """Whether the store of a run holds an object whose name has all these words."""
    client: Any = boto3.client("s3")

    def there() -> bool:
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{run}/").get("Contents", [])
        return any(all(word in item["Key"] for word in words) for item in found)

    return there


def follow(
    spec: dict[str, Any], data: dict[str, Any], folder: Path, s3: dict[str, str]
) -> tuple[str, Containers, Store]:
    """Runs the pipeline with these settings in a store of its own."""
    containers = Containers(folder / "tasks", s3)
    store = f"s3://{BUCKET}/{data['name']}"
    state = ir.interpret(spec, containers, {"settings": text(data), "store": store})
    return state, containers, open_store(store)


@pytest.fixture(scope="session")
def on_laptop(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """The same run without containers, on files."""
    store = LocalStore(tmp_path_factory.mktemp("laptop"))
    return local.run(check(settings("laptop", str(home), {}), "settings", home), store)


def test_containers_make_the_tables_and_the_model_of_the_laptop_and_publish_it(
    spec: dict[str, Any], home: Path, s3: dict[str, str], on_laptop: dict[str, Manifest], tmp_path: Path, capfd: Any
) -> None:
    state, containers, store = follow(spec, settings("whole", f"s3://{BUCKET}/in", {}), tmp_path, s3)
    printed = capfd.readouterr().out
    assert state == "SUCCEEDED", printed[-4000:]
    done = local.results(store, "whole")
    assert list(dict.fromkeys(name for name, _ in containers.seen)) == ["preflight", *STAGES, "notify"]
    assert chain.digests(done) == chain.digests(on_laptop)
    assert done["distill"].prefix == on_laptop["distill"].prefix
    assert store.read("runs/whole.json")
    assert '"state": "SUCCEEDED"' in printed
    picture = ROOT / "build/e2e/report.png"
    with scratch_folder() as scratch, browser.opened() as page:
        browser.show(page, fetch_folder(store, done["evaluate"], "report", scratch) / "report.html")
        assert page.locator("h1").count() == 1
        picture.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=picture, full_page=True)
    again, _, _ = follow(spec, settings("whole", f"s3://{BUCKET}/in", {}), tmp_path / "again", s3)
    assert again == "SUCCEEDED"
    assert capfd.readouterr().out.count("was finished already, nothing is computed again") >= len(STAGES) - 1


def test_a_training_killed_in_its_container_goes_on_at_its_checkpoint_to_the_same_model(
    spec: dict[str, Any], home: Path, s3: dict[str, str], on_laptop: dict[str, Manifest], tmp_path: Path, capfd: Any
) -> None:
    data = settings("killed", f"s3://{BUCKET}/in", {})
    data["distill"]["checkpoint_every"] = 2
    with killer("distill", 1, stored("killed", "distill/", "checkpoints/", ".json")) as killed:
        state, containers, store = follow(spec, data, tmp_path, s3)
    printed = capfd.readouterr().out
    assert len(killed) == 1
    assert [good for name, good in containers.seen if name == "distill"] == [False, True]
    assert state == "SUCCEEDED", printed[-4000:]
    resumed = [json.loads(line[line.index("{") :]) for line in printed.splitlines() if '"event": "resumed"' in line]
    assert next(event["step"] for event in resumed if "step" in event and event["stage"] == "distill") >= 2
    assert chain.digests(local.results(store, "killed")) == chain.digests(on_laptop)


def test_a_shard_that_is_killed_every_time_fails_the_run_and_notify_says_so(
    spec: dict[str, Any], home: Path, s3: dict[str, str], tmp_path: Path, capfd: Any
) -> None:
    with killer("generate", 3):
        state, containers, store = follow(spec, settings("failing", f"s3://{BUCKET}/in", {}), tmp_path, s3)
    assert state == "FAILED"
    assert [name for name, _ in containers.seen] == ["preflight", "prepare", *["generate"] * 3, "notify"]
    assert '"state": "FAILED"' in capfd.readouterr().out
    assert set(local.results(store, "failing")) == {"prepare"}


def test_a_model_that_the_gate_does_not_promote_is_not_published(
    spec: dict[str, Any], home: Path, s3: dict[str, str], tmp_path: Path
) -> None:
    changes = {"gate": {"min_gain": 0.9, "min_lists": 0}}
    state, containers, store = follow(spec, settings("held", f"s3://{BUCKET}/in", changes), tmp_path, s3)
    assert state == "SUCCEEDED"
    assert "publish" not in [name for name, _ in containers.seen]
    assert local.results(store, "held")["gate"].facts["verdict"] in ("hold", "reject")
