"""Registering and submitting, against a server that speaks the platform's API as kfp's client calls it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import kfp_server
from hone.engine import record
from hone.errors import TransientError, UserError
from hone.kubeflow import submit
from hone.kubeflow.profile import load
from hone.results.manifest import Manifest
from hone.storage.base import LocalStore, open_store

ROOT = Path(__file__).parents[1]
SETTINGS = "name: handbook\npreset: cpu\nstudent: {model: /models/student}\nprepare: {corpus: s3://hone/handbook}\n"


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[kfp_server.Platform]:
    monkeypatch.chdir(ROOT)
    with kfp_server.running() as server:
        yield server


def submitted(platform: kfp_server.Platform, tmp_path: Path, **how: Any) -> int:
    path = tmp_path / "settings.yaml"
    path.write_text(how.pop("text", SETTINGS), "utf-8")
    client = submit.connect(platform.host, "")
    place = submit.Place(service_account="hone-runner")
    given = {"store": str(tmp_path / "store"), **({"model": how["model"]} if "model" in how else {})}
    what = (how.get("pipeline", "specialize"), load("dev-cpu"))
    return submit.main(client, what, path, given, place, wait=how.get("wait", True), pause=0)


def decided(tmp_path: Path, verdict: str) -> None:
    """What the tasks of a finished run leave in the store."""
    store = LocalStore(tmp_path / "store")
    facts = {"evaluate": {"finding": "Tuned is better: nDCG@10 0.400 → 0.450"}, "gate": {"verdict": verdict}}
    rest: dict[str, Any] = {"code": "", "version": "", "config": {}, "sources": {}, "inputs": {}, "input_digests": {}}
    done = {
        name: Manifest(stage=name, fingerprint="0" * 16, outputs={}, facts=facts[name], cost={}, seconds=1.0, **rest)
        for name in facts
    }
    for manifest in done.values():
        store.create(f"{manifest.prefix}/manifest.json", manifest.model_dump_json().encode())
    record.record(store, "handbook", done)


@pytest.mark.parametrize(("verdict", "code"), [("promote", 0), ("hold", 3), ("reject", 4)])
def test_a_run_is_followed_to_its_verdict_which_is_the_exit_code(
    verdict: str, code: int, platform: kfp_server.Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(tmp_path, verdict)
    assert submitted(platform, tmp_path) == code
    printed = capsys.readouterr().out
    assert "RUNNING: 1 running, 1 succeeded; now mine" in printed
    assert f"{verdict}: Tuned is better: nDCG@10 0.400 → 0.450" in printed
    (run,) = platform.held["runs"]
    assert run["runtime_config"]["parameters"] == {"settings": SETTINGS, "store": str(tmp_path / "store")}
    assert run["service_account"] == "hone-runner"
    assert run["display_name"].startswith("hone-specialize-dev-cpu-handbook-")


def test_the_same_run_is_adopted_and_the_same_version_is_not_uploaded_again(
    platform: kfp_server.Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(tmp_path, "promote")
    for _ in range(2):
        assert submitted(platform, tmp_path) == 0
    assert len(platform.held["runs"]) == len(platform.held["versions"]) == len(platform.held["pipelines"]) == 1
    assert "is there already" in capsys.readouterr().out
    assert submitted(platform, tmp_path, text=SETTINGS + "seed: 3\n", wait=False) == 0
    assert len(platform.held["runs"]) == 2
    assert len(platform.held["versions"]) == 1


def test_a_model_from_elsewhere_is_a_parameter_and_another_one_another_run(
    platform: kfp_server.Platform, tmp_path: Path
) -> None:
    for model in ("s3://hone/one", "s3://hone/other", "s3://hone/one"):
        assert submitted(platform, tmp_path, pipeline="evaluate", model=model, wait=False) == 0
    assert [run["runtime_config"]["parameters"]["model"] for run in platform.held["runs"]] == [
        "s3://hone/one", "s3://hone/other",
    ]  # fmt: skip


def test_a_failed_run_ends_with_1_and_is_not_adopted(platform: kfp_server.Platform, tmp_path: Path) -> None:
    platform.ends = "FAILED"
    assert submitted(platform, tmp_path) == 1
    assert submitted(platform, tmp_path, wait=False) == 0
    assert len(platform.held["runs"]) == 2


def test_settings_that_no_task_would_take_are_refused_before_anything_is_sent(
    platform: kfp_server.Platform, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="distil: unknown setting; did you mean distill"):
        submitted(platform, tmp_path, text=SETTINGS + "distil: {}\n")
    assert not platform.held["runs"]


def test_a_platform_that_does_not_answer_is_a_passing_fault() -> None:
    with pytest.raises(TransientError, match="does not answer"):
        submit.connect("http://127.0.0.1:9", "")


def test_a_run_that_never_reached_the_gate_has_no_verdict(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(UserError, match="no run called"):
        submit.verdict(store, SETTINGS)
