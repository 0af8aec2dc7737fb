"""Components derive from the stages, load alone, and run in their containers as the stages do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp import components, dsl

from hone import settings
from hone.engine import record, runner
from hone.errors import TransientError, UserError
from hone.kubeflow import attempts, derive, launcher
from hone.kubeflow.components import COMPONENTS, component, parents, producers
from hone.kubeflow.launcher import launch, local_file
from hone.retry import Backoff
from hone.stages import STAGES, stage
from hone.storage.local import LocalStore
from kfp_task import ROOT, call


def test_every_derived_file_is_fresh() -> None:
    stale = derive.stale(ROOT)
    assert not stale, f"run `make derive`: {', '.join(stale)}"


def test_a_readme_names_the_refusals_of_the_rooms_that_belong_to_its_stage_alone() -> None:
    assert derive.own_modules("generate")[0] == "hone.stages.generate"
    assert {"hone.stages.generate.from_people", "hone.stages.generate.language_model"} < set(
        derive.own_modules("generate")
    )
    assert "hone.inputs.readers" not in derive.own_modules("generate")  # others read files too
    assert "no field … (it has …); set the fields in" in Path("components/generate/README.md").read_text("utf-8")


def test_no_component_is_left_from_a_stage_that_is_gone() -> None:
    assert sorted(path.name for path in (ROOT / "components").iterdir() if path.is_dir()) == sorted(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENTS)
def test_kfp_loads_each_component_alone(name: str) -> None:
    loaded = components.load_component_from_file(str(ROOT / "components" / name / "component.yaml"))
    spec = loaded.component_spec
    assert list(spec.inputs or {}) == [port.name for port in component(name).inputs]
    assert list(spec.outputs or {}) == [port.name for port in component(name).outputs]
    assert spec.implementation.container.command == ["python", "-m", "hone", "launch", name]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_the_results_of_stages_before_it(name: str) -> None:
    assert set(parents(name)) <= set(STAGES[: STAGES.index(name)])
    assert {table for read in parents(name).values() for table in read} == set(stage(name).READS)


def test_every_table_is_written_by_one_stage() -> None:
    assert len(producers()) == sum(len(stage(name).WRITES) for name in STAGES)


def corpus(folder: Path) -> Path:
    folder.mkdir()
    words = ["".join(chr(97 + (n * step) % 26) for step in range(1, 9)) for n in range(30)]
    rows = [{"_id": f"d{n}", "title": word, "text": f"All about {word}, seen by {n}."} for n, word in enumerate(words)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def settings_of(tmp_path: Path) -> dict[str, Any]:
    source = str(corpus(tmp_path / "corpus"))
    return {"name": "small", "preset": "cpu", "student": {"model": source}, "prepare": {"corpus": source}}


def test_a_launched_stage_gives_the_result_of_the_laptop_and_shows_its_manifest(tmp_path: Path) -> None:
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    outputs = call("prepare", tmp_path / "task", settings=json.dumps(data), store=store.uri)
    on_laptop = runner.run(settings.check(data, "settings", tmp_path), LocalStore(tmp_path / "other"), last="prepare")
    assert outputs["prefix"] == on_laptop["prepare"].prefix
    manifest: dsl.Artifact = outputs["manifest"]
    assert json.loads(Path(manifest.path).read_text("utf-8"))["fingerprint"] == on_laptop["prepare"].fingerprint
    assert manifest.metadata["docs_digest"] == on_laptop["prepare"].outputs["docs"].digest
    assert outputs["metrics"].metadata["rows.docs"] == on_laptop["prepare"].outputs["docs"].rows > 20
    assert record.recorded(store, "small") == {"prepare": outputs["prefix"]}


def test_shards_launched_one_by_one_are_joined_to_the_result_of_the_laptop(tmp_path: Path) -> None:
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    given = {"settings": json.dumps(data), "store": store.uri}
    given["prepare"] = call("prepare", tmp_path / "prepare", **given)["prefix"]
    shares = [call("generate", tmp_path / shard, shard=shard, **given)["prefix"] for shard in ("0/2", "1/2")]
    assert not store.read(f"{shares[0]}/manifest.json"), "a share alone is not a result"
    outputs = call("generate", tmp_path / "join", shares=json.dumps(shares), **given)
    other = LocalStore(tmp_path / "other")
    on_laptop = runner.run(settings.check(data, "settings", tmp_path), other, last="generate")["generate"]
    assert outputs["prefix"] == on_laptop.prefix
    assert outputs["manifest"].metadata["queries_digest"] == on_laptop.outputs["queries"].digest


def test_an_input_that_a_component_does_not_know_is_refused(tmp_path: Path) -> None:
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    with pytest.raises(UserError, match=r"prepare: unknown input 'merge'; the inputs are settings, store"):
        call("prepare", tmp_path / "task", settings=json.dumps(data), store=store.uri, merge=2)


def test_a_pipeline_that_trains_refuses_a_model_that_is_taken_as_it_is(tmp_path: Path) -> None:
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    given = {"settings": json.dumps({**data, "distill": {"adopt": data["student"]["model"]}}), "store": store.uri}
    given["prepare"] = call("prepare", tmp_path / "prepare", **given)["prefix"]
    with pytest.raises(UserError, match="takes a model as it is, and this pipeline trains one; run the pipeline eval"):
        call("generate", tmp_path / "generate", shard="0/1", **given)
    assert not list(store.objects("generate"))


def test_a_stage_that_is_no_part_of_a_run_writes_every_declared_output_and_says_why(tmp_path: Path) -> None:
    """As publish without a domain: the platform fails a task whose declared outputs are not there."""
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    results = dict.fromkeys(parents("publish"), "")
    outputs = call("publish", tmp_path / "task", settings=json.dumps(data), store=store.uri, **results)
    assert set(outputs) == {port.name for port in component("publish").outputs}
    assert outputs["prefix"] == ""
    for port in component("publish").outputs:
        if port.type not in ("String",):
            assert outputs[port.name].metadata == {"left_out": "publish.domain is not set"}
            assert Path(outputs[port.name].path).is_file()


def test_a_passing_fault_is_tried_again_in_the_task_and_then_ends_it_and_both_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    given: dict[str, Any] = {"settings": json.dumps(data), "store": store.uri, "attempt": "run-1"}
    faults = [TransientError("S3 was gone"), TransientError("S3 was still gone")]

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return run_stage(*args, **kwargs)

    run_stage = runner.run_stage
    monkeypatch.setattr(runner, "run_stage", flaky)
    monkeypatch.setattr(launcher, "PATIENCE", Backoff(attempts=3, first=0.0, longest=0.0))
    call("prepare", tmp_path / "task", **given)
    assert capsys.readouterr().out.count("tried again in 0 s") == 2
    assert [(note.task, note.state) for note in attempts.notes(store, "run-1")] == [("prepare", "done")]
    faults += [TransientError(f"S3 was gone {n}") for n in range(3)]
    with pytest.raises(TransientError, match="S3 was gone 2"):
        call("prepare", tmp_path / "again", **given)
    (note,) = attempts.notes(store, "run-1")
    assert (note.state, note.code, note.error) == ("failed", 75, "S3 was gone 2")


def test_notify_tells_what_the_tasks_of_this_very_run_came_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, store = settings_of(tmp_path), LocalStore(tmp_path / "store")
    given: dict[str, Any] = {"settings": json.dumps(data), "store": store.uri}
    status = {"state": "RUNNING", "error": {}, "pipelineTaskName": "run"}
    call("prepare", tmp_path / "one", attempt="run-1", **given)
    with pytest.raises(UserError):
        call("generate", tmp_path / "two", attempt="run-2", prepare="prepare/none", **given)
    for attempt, outcome, error in (
        ("run-1", "unknown", "the run ended after prepare; its page on the platform says why"),
        ("run-2", "failed", "generate: there is no finished prepare at 'prepare/none' in"),
        ("run-3", "unknown", "the run ended before any task began"),
    ):
        capsys.readouterr()
        call("notify", tmp_path / attempt, attempt=attempt, status=status, **given)
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (told["run"], told["outcome"]) == ("small", outcome)
        assert told["error"].startswith(error)


def test_a_task_without_an_input_or_with_an_unfinished_one_is_refused(tmp_path: Path) -> None:
    data, root = settings_of(tmp_path), tmp_path / "task"
    given = {"settings": json.dumps(data), "store": str(tmp_path / "store")}
    with pytest.raises(UserError, match="no finished prepare at 'prepare/none'"):
        call("generate", root, shard="0/1", prepare="prepare/none", **given)
    with pytest.raises(UserError, match="no value for the input store"):
        launch("prepare", json.dumps({"inputs": {"parameterValues": {"settings": "x"}}, "outputs": {}}))
    with pytest.raises(UserError, match="not one of Kubeflow"):
        launch("prepare", "{}")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("uri", ["s3://bucket/a/b", "gs://bucket/a", "minio://bucket/a/b", "/tmp/a/b"])
def test_artifacts_lie_where_kfp_looks_for_them(uri: str) -> None:
    assert str(local_file(uri)) == dsl.Artifact(uri=uri).path


@pytest.mark.slow
def test_a_changed_default_is_shown_everywhere_after_make_derive_and_stale_files_are_found(tmp_path: Path) -> None:
    """Done to a copy of the repository: one setting's default changes in one stage's file, and nothing else does."""
    for name in ("src", "components", "helm"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    module = tmp_path / "src/hone/stages/mine.py"
    text = module.read_text("utf-8")
    assert text.count("top_k: int = Field(default=100,") == 1
    module.write_text(text.replace("top_k: int = Field(default=100,", "top_k: int = Field(default=123,"), "utf-8")
    code = """
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from hone.engine.schema import schema_json
from hone.kubeflow.derive import stale, write
root = Path.cwd()
found = {"before": sorted(stale(root)), "written": sorted(map(str, write(root))), "after": sorted(stale(root))}
print(json.dumps({**found, "schema": json.loads(schema_json())}))
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src")}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=True)
    found = json.loads(ran.stdout)
    changed = ["components/mine/README.md", "components/mine/component.yaml"]
    assert found["before"] == changed
    assert found["written"] == [str(tmp_path / name) for name in changed]
    assert found["after"] == []
    assert found["schema"]["properties"]["mine"]["properties"]["top_k"]["default"] == 123
    for name in changed:
        old, new = ((root / name).read_text("utf-8").split("\n") for root in (ROOT, tmp_path))
        assert [line for line in new if line not in old] == [line for line in new if "123" in line] != []
