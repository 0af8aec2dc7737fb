"""The compiled pipeline in containers: kfp's own Docker runner runs every task, and its result is the laptop's.

Tasks run as user 1001 with a read-only root, no capabilities and 4 GiB; data is in S3. `make e2e` starts the engine and
builds the images before. Most of the time goes into starting tasks: one run is looked at from several sides.
"""

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import docker
import pytest
from docker.models.containers import ContainerCollection
from google.protobuf import json_format
from kfp import local as kfp_local
from kfp.local import status, task_dispatcher
from kfp.local.config import LocalExecutionConfig
from kfp.pipeline_spec import pipeline_spec_pb2
from packaging.utils import canonicalize_name
from packaging.version import Version

import browser
import chain
import given
import ir
from conftest import BUCKET, settings, text
from hone import __version__
from hone.engine import record, runner
from hone.kubeflow import profile as profiles
from hone.kubeflow import settings_text
from hone.kubeflow.compile import compile
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.scratch import scratch_folder
from hone.settings import check
from hone.stages import STAGES
from hone.storage.addresses import open_store
from hone.storage.base import Store
from hone.storage.local import LocalStore
from image_pins import pins

ROOT = Path(__file__).parents[1]
CUDA = ("nvidia-", "cuda-", "triton", "faiss-gpu")


def compiled(pipeline: str, folder: Path) -> dict[str, Any]:
    """A pipeline as compiled for a cluster without GPUs, in two shards."""
    out = folder / f"{pipeline}.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        compile(pipeline, profiles.load("dev-cpu"), out)
    return ir.load(out)[0]


@pytest.fixture(scope="session", autouse=True)
def exit_codes_are_kept() -> Iterator[None]:
    """kfp.local has Docker remove a container as it ends, and takes one that is gone before it asks for a success."""
    run = ContainerCollection.run
    kept: Callable[..., Any] = lambda self, *given, **more: run(self, *given, **{**more, "auto_remove": False})  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ContainerCollection, "run", kept)
        yield


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compiled("specialize", tmp_path_factory.mktemp("compiled"))


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
        """Task by task, its name and whether it succeeded."""

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
        good = ended == status.Status.SUCCESS and (command in ("preflight", "notify") or "prefix" in outputs)
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
    client: Any = boto3.Session().client("s3")

    def there() -> bool:
        found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{run}/").get("Contents", [])
        return any(all(word in item["Key"] for word in words) for item in found)

    return there


@dataclass(frozen=True)
class Followed:
    """A run of the pipeline in containers: how it ended, its tasks, what they printed, and its store."""

    state: str
    seen: list[tuple[str, bool]]
    printed: str
    store: Store

    @property
    def tasks(self) -> list[str]:
        return [name for name, _ in self.seen]

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the tasks logged under this name."""
        lines = [line for line in self.printed.splitlines() if f'"event": "{name}"' in line]
        return [json.loads(line[line.index("{") :]) for line in lines]


def follow(
    spec: dict[str, Any], data: dict[str, Any], folder: Path, s3: dict[str, str], store: str = "", **given: str
) -> Followed:
    """Runs a pipeline with these settings, in its own store unless one is named."""
    address = f"s3://{BUCKET}/{store or data['name']}"
    return interpreted(spec, {"settings": text(data), "store": address, **given}, folder, s3)


def interpreted(
    spec: dict[str, Any], parameters: dict[str, Any], folder: Path, s3: dict[str, str], policy: str = "Always"
) -> Followed:
    containers, printed = Containers(folder / "tasks", s3), io.StringIO()
    with redirect_stdout(printed):
        state = ir.interpret(spec, containers, parameters, policy)
    print(printed.getvalue())
    return Followed(state, containers.seen, printed.getvalue(), open_store(parameters["store"]))


@pytest.fixture(scope="session")
def on_laptop(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Manifest]]:
    """The same run without containers, on files."""
    store = LocalStore(tmp_path_factory.mktemp("laptop"))
    return store, runner.run(check(settings("laptop", str(home), {}), "settings", home), store)


@pytest.fixture(scope="session")
def whole(
    spec: dict[str, Any], home: Path, s3: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Followed, list[str]]:
    """The run in containers, and the container of its training that was killed."""
    with killer("distill", 1, stored("whole", "distill/", "checkpoints/", ".json")) as killed:
        data = settings("whole", f"s3://{BUCKET}/in", {})
        return follow(spec, data, tmp_path_factory.mktemp("whole"), s3), killed


def scores(store: Store, manifest: Manifest) -> dict[str, dict[str, float]]:
    """The teacher's scores of each query's documents."""
    rows = sorted(given.rows(store, manifest, "teacher_scores"), key=lambda row: row["query_id"])
    return {row["query_id"]: dict(zip(row["doc_ids"], row["scores"], strict=True)) for row in rows}


def test_containers_make_the_tables_and_the_model_of_the_laptop_and_publish_it(
    whole: tuple[Followed, list[str]], on_laptop: tuple[Store, dict[str, Manifest]]
) -> None:
    (run, _), (files, alone) = whole, on_laptop
    assert run.state == "SUCCEEDED"
    assert list(dict.fromkeys(run.tasks)) == ["preflight", *STAGES, "notify"]
    done = record.results(run.store, "whole")
    exact = ("prepare", "generate", "mine")
    assert chain.digests({name: done[name] for name in exact}) == chain.digests({name: alone[name] for name in exact})
    # Scores come of vectors, whose last bit is another library build's to choose; so is what is trained on them.
    here, there = scores(files, alone["score"]), scores(run.store, done["score"])
    assert list(here) == list(there)
    assert all(there[query] == pytest.approx(known, abs=1e-5) for query, known in here.items())
    assert {name: done[name].outputs.keys() for name in STAGES} == {name: alone[name].outputs.keys() for name in STAGES}
    assert done["curate"].outputs["lists"].rows == alone["curate"].outputs["lists"].rows
    assert '"outcome": "published"' in run.printed


def test_a_training_killed_in_its_container_is_retried_and_goes_on_at_its_checkpoint(
    whole: tuple[Followed, list[str]],
) -> None:
    run, killed = whole
    assert len(killed) == 1
    assert [good for name, good in run.seen if name == "distill"] == [False, True]
    resumed = [event["step"] for event in run.events("resumed") if event["stage"] == "distill" and "cache" not in event]
    assert len(resumed) == 1
    assert resumed[0] >= 2, "the log says which steps were not trained again"


def test_the_report_of_the_containers_opens_in_a_browser(whole: tuple[Followed, list[str]]) -> None:
    run, _ = whole
    done = record.results(run.store, "whole")
    picture = ROOT / "build/e2e/report.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as scratch, browser.opened() as page:
        browser.show(page, fetch_folder(run.store, done["report"], "report", scratch) / "report.html")
        assert page.locator("h1").count() == 1
        page.screenshot(path=picture, full_page=True)


def test_a_model_that_the_gate_does_not_promote_is_not_published_and_nothing_else_is_computed_again(
    whole: tuple[Followed, list[str]], spec: dict[str, Any], s3: dict[str, str], tmp_path: Path
) -> None:
    changes = {"gate": {"min_gain": 0.9, "min_lists": 0}}
    run = follow(spec, settings("held", f"s3://{BUCKET}/in", changes), tmp_path, s3, store="whole")
    assert run.state == "SUCCEEDED"
    assert "publish" not in run.tasks
    assert record.results(run.store, "held")["gate"].facts["verdict"] in ("hold", "reject")
    assert [event["stage"] for event in run.events("finished")] == ["gate", "report"]
    # All but preflight, the joining of two fan-outs, gate, report and notify.
    assert run.printed.count("was finished already, nothing is computed again") == len(run.tasks) - 6


def test_a_shard_that_is_killed_every_time_fails_the_run_and_notify_says_so(
    spec: dict[str, Any], home: Path, s3: dict[str, str], tmp_path: Path
) -> None:
    with killer("generate", 3):
        run = follow(spec, settings("failing", f"s3://{BUCKET}/in", {}), tmp_path, s3)
    assert run.state == "FAILED"
    # Three tries of the share that is killed, and the other one: a failing item of a fan-out stops no other.
    assert run.tasks == ["preflight", "prepare", *["generate"] * 4, "notify"]
    assert '"outcome": "stopped"' in run.printed
    assert "generate 0/2 was stopped from outside" in run.printed
    assert set(record.results(run.store, "failing")) == {"prepare"}


def test_of_many_domains_one_fails_the_others_are_published_and_one_summary_tells(
    home: Path, s3: dict[str, str], tmp_path: Path
) -> None:
    """Domain after domain, as a bound of 1 has it; on a cluster whose Argo starts no failed task again."""
    changes: dict[str, dict[str, Any]] = {
        "apps": {},
        "billing": {"prepare": {"corpus": f"s3://{BUCKET}/in/gone"}},
        "careers": {"distill": {"list_size": 6, "batch_size": 16, "max_steps": 12, "learning_rate": 0.001}},
    }
    address = f"s3://{BUCKET}/many"
    told = [
        settings_text.keep(
            open_store(address), text(settings(name, f"s3://{BUCKET}/in", {**own, "publish": {"domain": name}}))
        )
        for name, own in changes.items()
    ]
    many = compiled("specialize_many", tmp_path)
    run = interpreted(many, {"domains": told, "store": address}, tmp_path, s3, ir.STOCK["2.17"])
    assert run.state == "FAILED", "the platform calls a run with one failed domain failed"
    assert [name for name, good in run.seen if not good] == ["preflight"]
    assert run.tasks.count("preflight") == len(changes)
    assert run.tasks.count("publish") == len(changes) - 1
    [line] = [line for line in run.printed.splitlines() if '"domains": [{' in line]
    summary = json.loads(line[line.index("{") :])
    assert summary["outcome"] == "1 failed, 2 published"
    apps, billing, careers = summary["domains"]
    assert [one["domain"] for one in (apps, billing, careers)] == list(changes)
    assert apps["version"] != careers["version"]
    assert billing["outcome"] == "failed"
    assert f"s3://{BUCKET}/in/gone" in billing["error"]
    done = [record.results(run.store, name) for name in ("apps", "careers")]
    assert done[0]["curate"].prefix == done[1]["curate"].prefix, "what domains have in common is done once"
    assert done[0]["distill"].prefix != done[1]["distill"].prefix


@pytest.mark.parametrize("name", ["cpu", "train"])
def test_the_list_of_what_an_image_holds_names_every_pinned_distribution(name: str) -> None:
    """Built here, an image has a torch and a FAISS without CUDA; all else is as pinned."""
    # From the file itself: what a container printed may be read before all of it is written to its log.
    container = docker.from_env().containers.create(f"hone-{name}:{__version__}", "true")
    chunks, _ = container.get_archive("/opt/hone/sbom.cdx.json")
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        told = archive.extractfile("sbom.cdx.json")
        assert told
        components = json.load(told)["components"]
    container.remove()
    listed = {canonicalize_name(part["name"]): Version(part["version"]) for part in components}
    assert str(listed.pop("hone-retrieval")) == __version__
    pinned = pins(name)
    without_cuda = {package: version for package, version in listed.items() if package != "faiss-cpu"}
    assert {package: version.public for package, version in without_cuda.items()} == {
        package: pinned[package].public for package in without_cuda
    }
    missing = [package for package in pinned.keys() - listed.keys() if not package.startswith(CUDA)]
    assert not missing
