"""Preflight: each thing that would fail a run after hours is found in a minute and told in one sentence."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import ir
import tiny
from hone import settings
from hone.errors import UserError
from hone.inputs import references
from hone.kubeflow import preflight
from hone.kubeflow import profile as profiles
from hone.kubeflow.compile import compile
from hone.kubeflow.preflight import Needs
from hone.storage.addresses import open_store
from hone.storage.local import LocalStore
from loopback import Handler, Server, running

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    """Settings of which everything is there."""
    for name in ("corpus", "student"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name, "utf-8")
    for name, content in (("config.json", b"{}"), ("tokenizer.json", b"{}"), ("model.safetensors", tiny.NO_WEIGHTS)):
        (tmp_path / "student" / name).write_bytes(content)
    student, corpus = str(tmp_path / "student"), str(tmp_path / "corpus")
    return {"name": "run", "preset": "cpu", "student": {"model": student}, "prepare": {"corpus": corpus}}


def check(data: dict[str, Any], tmp_path: Path, store: str = "", **needs: Any) -> None:
    checked = settings.check(data, "settings", tmp_path)
    preflight.check(checked, LocalStore(Path(store or tmp_path / "store")), Needs(**needs))


def refusal(data: dict[str, Any], tmp_path: Path, store: str = "", **needs: Any) -> str:
    with pytest.raises(UserError) as refused:
        check(data, tmp_path, store, **needs)
    return str(refused.value)


def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """An nvidia-smi that prints these lines, as the driver's own prints name and MiB."""
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_is_all_right_is_told_check_by_check(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu(tmp_path, monkeypatch, "NVIDIA H100 80GB HBM3, 81559")
    monkeypatch.setenv("HONE_THERE", "x")
    corpus = data["prepare"]["corpus"]
    digests = json.dumps({corpus: references.content_digest(Path(corpus))})
    check(data, tmp_path, gpus=1, gpu_gib=76, environment="HONE_THERE", digests=digests)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert all(line.startswith("preflight: ") and line.endswith(": all right") for line in lines)


def test_a_store_that_cannot_be_written_is_told(data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    assert "cannot write to the store" in refusal(data, tmp_path, str(tmp_path / "taken"))


def test_a_place_that_no_vectors_can_go_to_is_told(
    bucket: str, data: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    data["encode"] = {"out": str(tmp_path / "taken")}
    check(data, tmp_path)
    assert "taken" not in capsys.readouterr().out, "nothing is published, so nothing is written there"
    data["publish"] = {"domain": "tiny"}
    assert refusal(data, tmp_path).startswith("encode.out: cannot write to the store")
    checked = settings.check(data, "settings", tmp_path)
    with pytest.raises(UserError, match=r"encode\.out: .*taken is a folder of a task, which is gone when that ends"):
        preflight.check(checked, open_store(f"{bucket}/store"), Needs())
    data["encode"] = {"out": f"{bucket}/vectors"}
    check(data, tmp_path)


@pytest.mark.parametrize("key", ["student", "prepare"])
def test_a_missing_model_or_corpus_is_told_with_its_place(key: str, data: dict[str, Any], tmp_path: Path) -> None:
    field = {"student": "model", "prepare": "corpus"}[key]
    data[key][field] = str(tmp_path / "gone")
    assert refusal(data, tmp_path) == f"{tmp_path}/gone does not exist; correct the path in the settings"


def test_other_content_than_declared_is_told_with_both_digests(data: dict[str, Any], tmp_path: Path) -> None:
    corpus = data["prepare"]["corpus"]
    found = refusal(data, tmp_path, digests=json.dumps({corpus: "0" * 64}))
    assert found == f"{corpus} has the digest {references.content_digest(Path(corpus))}, not the declared {'0' * 64}"


@pytest.mark.parametrize("digests", ["{", "[]"])
def test_digests_that_are_no_mapping_are_refused(digests: str, data: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(data, tmp_path, digests=digests).startswith("digests is not")


def test_a_secret_that_is_not_set_is_told_by_name(data: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(data, tmp_path, environment="HONE_NOT_THERE") == (
        "the environment variable HONE_NOT_THERE is not set"
    )


def test_no_gpu_is_told(data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = refusal(data, tmp_path, gpus=1)
    assert found.startswith("no GPU is visible (")
    assert found.endswith("); ask for one in the profile")


def test_a_gpu_that_is_too_small_or_too_few_are_told(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu(tmp_path, monkeypatch, "NVIDIA L4, 23034")
    assert refusal(data, tmp_path, gpus=1, gpu_gib=76) == ("1 GPU of 76 GiB are needed; there is NVIDIA L4 with 22 GiB")
    assert refusal(data, tmp_path, gpus=2, gpu_gib=22).startswith("2 GPU of 22 GiB are needed")


MIG = "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)"


def sliced(folder: Path, monkeypatch: pytest.MonkeyPatch, *slices: str) -> None:
    """An nvidia-smi as it prints inside a container that has slices of a GPU."""
    listed = "\n".join([MIG, *(f"  MIG {name}     Device  {n}: (UUID: MIG-{n})" for n, name in enumerate(slices))])
    tool = folder / "nvidia-smi"
    whole = "echo 'NVIDIA A100-SXM4-80GB, [N/A]'"
    tool.write_text(f'#!/bin/sh\n[ "$1" = -L ] && cat <<END && exit\n{listed}\nEND\n{whole}\n', "utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_a_slice_of_a_gpu_has_the_memory_that_its_profile_names(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sliced(tmp_path, monkeypatch, "3g.40gb", "1g.10gb+me")
    check(data, tmp_path, gpus=1, gpu_gib=38)
    assert refusal(data, tmp_path, gpus=2, gpu_gib=38) == (
        "2 GPU of 38 GiB are needed; there is MIG 3g.40gb with 40 GiB, MIG 1g.10gb+me with 10 GiB"
    )


def test_memory_that_the_driver_does_not_tell_is_said_and_taken_on_trust(
    data: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sliced(tmp_path, monkeypatch)
    check(data, tmp_path, gpus=1, gpu_gib=38)
    assert "nvidia-smi does not say how much memory the GPU has" in capsys.readouterr().out


def test_too_little_scratch_space_is_told(data: dict[str, Any], tmp_path: Path) -> None:
    assert refusal(data, tmp_path, scratch_gib=1 << 30).endswith(f"{1 << 30} GiB are needed")


@pytest.fixture
def server() -> Iterator[str]:
    """A server that refuses everything: it is there."""

    class Refusing(Handler):
        def do_GET(self) -> None:
            self.send_error(401)

    with running(Server(Refusing)) as server:
        yield server.address


def test_an_endpoint_must_answer_and_any_answer_will_do(data: dict[str, Any], tmp_path: Path, server: str) -> None:
    data["teacher"] = {"kind": "endpoint", "server": {"url": server, "model": "reranker"}}
    data["score"] = {"early_exit": False}
    check(data, tmp_path)
    data["teacher"]["server"]["url"] = "http://127.0.0.1:9/v1"
    assert refusal(data, tmp_path).startswith("http://127.0.0.1:9/v1 does not answer (")


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_written(data: dict[str, Any], tmp_path: Path) -> None:
    data["prepare"]["corpus"] = str(tmp_path / "gone")
    found = refusal(data, tmp_path, environment="HONE_NOT_THERE", scratch_gib=1 << 30)
    assert found.count("; ") >= 2
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_the_profile_tells_preflight_what_its_tasks_will_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    images = {name: f"registry.example/{name}@sha256:{'a' * 64}" for name in ("cpu", "train")}
    (tmp_path / "images.yaml").write_text(yaml.safe_dump(images), "utf-8")
    compile("evaluate", profiles.load("a100", tmp_path / "images.yaml"), tmp_path / "out.yaml")
    spec, _ = ir.load(tmp_path / "out.yaml")
    dags = [found["dag"]["tasks"] for found in spec["components"].values() if "dag" in found]
    given = next(tasks["preflight"] for tasks in dags if "preflight" in tasks)["inputs"]["parameters"]
    assert {key: value["runtimeValue"]["constant"] for key, value in given.items() if "runtimeValue" in value} == {
        "gpus": 1,
        "gpu_gib": 76,
        "scratch_gib": 200,
        "environment": "",
        "attempt": "{{$.pipeline_job_uuid}}",
    }
