"""Compiled pipelines: what every task asks for, the paths through the DAG, and the same result as on the laptop."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import chain
import compiling
import ir
from hone import settings
from hone.engine import ablation, record, runner
from hone.errors import UserError
from hone.kubeflow import attempts, settings_text
from hone.kubeflow import profile as profiles
from hone.kubeflow.compile import compile
from hone.kubeflow.notify import summary
from hone.kubeflow.study import study_of
from hone.report.ablation import ablation_markdown
from hone.stages import STAGES
from hone.storage.local import LocalStore
from kfp_task import call as launched

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
GOLDEN = Path(__file__).parent / "golden"
PIPELINES = sorted(path.stem for path in (ROOT / "pipelines").glob("*.py"))
PROFILES = sorted(path.stem for path in (ROOT / "pipelines/profiles").glob("*.yaml"))
IMAGES = {
    name: f"registry.example/hone-{name}@sha256:{mark * 64}"
    for name, mark in zip(("cpu", "train", "vllm"), "abc", strict=True)
}


SETTINGS = "name: {name}\npreset: cpu\nstudent: {{model: /models/student}}\nprepare: {{corpus: s3://hone/{name}}}\n"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.yaml"
    path.write_text(yaml.safe_dump(IMAGES), "utf-8")
    return path


def compiled(pipeline: str, profile: str, folder: Path, images: Path | None = None) -> Path:
    return compiling.compiled(pipeline, profile, folder / f"{pipeline}-{profile}.yaml", images)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_task_asks_for_what_it_asked_for_before(
    pipeline: str, profile: str, tmp_path: Path, images: Path
) -> None:
    """HONE_GOLDEN=write pytest tests/test_pipelines.py renews the files; read their difference."""
    found = yaml.safe_dump(dict(ir.asks(compiled(pipeline, profile, tmp_path, images))), sort_keys=False)
    golden = GOLDEN / f"{pipeline}-{profile}.yaml"
    if os.environ.get("HONE_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found, "utf-8")
    assert found == golden.read_text("utf-8")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_task_has_a_timeout_shared_memory_scratch_space_and_a_user_that_is_not_root(
    profile: str, tmp_path: Path, images: Path
) -> None:
    for name, wanted in ir.asks(compiled("specialize", profile, tmp_path, images)):
        assert wanted["timeout"] > 0
        assert "memory" in wanted["/dev/shm"]
        assert wanted["/tmp"]
        assert wanted["user"] == {"runAsGroup": "1001", "runAsUser": "1001", "runAsNonRoot": True}
        assert wanted["retries"] or name == "notify"


def test_compiling_gives_the_same_bytes_in_any_process_and_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from hone.commands.cli import app; app(standalone_mode=False); assert 'torch' not in sys.modules"
    )
    outs = [tmp_path / f"{seed}.yaml" for seed in (1, 2)]
    for seed, out in enumerate(outs):
        command = [sys.executable, "-c", code, "compile", "specialize", "--out", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)})
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("profile", "change", "message"),
    [
        ("a100", {}, "wants images by digest and cpu is not given"),
        ("a100", {"images": {"cpu": "hone-cpu:latest"}}, "cpu is 'hone-cpu:latest'"),
        ("dev-cpu", {"by_task": {"distil": {}}}, "by_task.distil: no such task"),
        ("dev-cpu", {"shards": 64}, "shards: must be less than or equal to 32, not 64"),
        ("dev-cpu", {"every": {"memory": "2G"}}, "every.memory: String should match"),
        ("dev-cpu", {"by_task": {"mine": {"timeout": "soon"}}}, r"mine\.timeout: "),
        ("dev-cpu", {"gpu": 1}, "gpu: Extra inputs are not permitted"),
    ],
)
def test_a_profile_that_cannot_be_meant_is_refused(
    profile: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    below = yaml.safe_load((ROOT / f"pipelines/profiles/{profile}.yaml").read_text("utf-8"))
    path = ROOT / "pipelines/profiles" / f"{profile}.yaml"
    changed = tmp_path / path.name
    below.pop("extends", None)
    changed.write_text(yaml.safe_dump(settings.overlay({**below, "digests": profile != "dev-cpu"}, change)), "utf-8")
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        compile("specialize", profiles.load(str(changed)), tmp_path / "out.yaml")
    assert not (tmp_path / "out.yaml").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines/settings").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_example_settings_are_settings(path: Path) -> None:
    assert settings.load(path).stages.keys() == set(STAGES)


def pretend(
    verdict: str, fails: Callable[[str, dict[str, Any]], bool], vectors: str
) -> tuple[list[tuple[str, Any]], ir.Run]:
    """A run of a task that only notes it, with a verdict, failures and a place for vectors of our choice."""
    seen: list[tuple[str, Any]] = []

    def run(name: str, component: Any, executor: Any, given: dict[str, Any]) -> dict[str, Any] | None:
        command = executor["container"]["command"][-1]
        seen.append((command, given.get("shard") or given.get("shares") or given.get("status", {}).get("state", "")))
        return None if fails(command, given) else {"prefix": f"{command}/0", "verdict": verdict, "vectors": vectors}

    return seen, run


def follow(
    verdict: str, fails: Callable[[str, dict[str, Any]], bool], tmp_path: Path, vectors: str = "wanted"
) -> tuple[str, list[tuple[str, Any]]]:
    spec, _ = ir.load(compiled("specialize", "dev-cpu", tmp_path))
    seen, run = pretend(verdict, fails, vectors)
    return ir.interpret(spec, run, {"settings": "{}", "store": "s3://bucket/x"}), seen


def test_a_promoted_model_is_published_after_every_stage_has_run_once(tmp_path: Path) -> None:
    state, seen = follow("promote", lambda name, given: False, tmp_path)
    assert state == "SUCCEEDED"
    assert seen[-1] == ("notify", "COMPLETE")
    order = [name for name, _ in seen]
    assert list(dict.fromkeys(order)) == ["preflight", *STAGES, "notify"]
    assert [how for name, how in seen if name == "score"] == ["0/2", "1/2", ["score/0", "score/0"]]


def test_where_no_vectors_are_wanted_no_task_is_started_for_them(tmp_path: Path) -> None:
    state, seen = follow("promote", lambda name, given: False, tmp_path, vectors="")
    assert (state, seen[-2:]) == ("SUCCEEDED", [("publish", ""), ("notify", "RUNNING")])


@pytest.mark.parametrize("verdict", ["hold", "reject"])
def test_a_model_that_is_not_promoted_is_not_published_and_the_run_ends_well(verdict: str, tmp_path: Path) -> None:
    state, seen = follow(verdict, lambda name, given: False, tmp_path)
    assert (state, seen[-1]) == ("SUCCEEDED", ("notify", "RUNNING"))
    assert "publish" not in dict(seen)


@pytest.mark.parametrize("out", ["vectors", ""])
def test_the_pipeline_writes_the_vectors_of_what_it_published_as_the_laptop_does(out: str, tmp_path: Path) -> None:
    home, store, seen = chain.home(tmp_path / "home"), LocalStore(tmp_path / "store"), list[str]()
    place = f"{tmp_path}/{out}" if out else ""
    changes = {**chain.PROMOTED, "student": {"model": f"{home}/student"}, "prepare": {"corpus": f"{home}/corpus"}}
    text = chain.settings_file(home, **changes, encode={"out": place}).read_text("utf-8")

    def run(name: str, component: Any, executor: Any, given: dict[str, Any]) -> dict[str, Any] | None:
        seen.append(executor["container"]["command"][-1])
        return launched(seen[-1], tmp_path / f"task-{len(seen)}", **given) if seen[-1] != "notify" else {}

    spec, _ = ir.load(compiled("specialize", "dev-cpu", tmp_path))
    assert ir.interpret(spec, run, {"settings": text, "store": store.uri}) == "SUCCEEDED"
    assert seen[-3:] == (["publish", "encode", "notify"] if out else ["report", "publish", "notify"])
    done = record.results(store, "tiny")
    on_laptop = chain.checked(home, "tiny", **changes, encode={"out": place and f"{place}-of-the-laptop"})
    alone = runner.run(on_laptop, LocalStore(tmp_path / "laptop"))
    assert ("encode" in done, "encode" in alone) == (bool(out), bool(out))
    [parts, same] = [
        [path.read_bytes() for path in sorted(tmp_path.glob(f"{name}/tiny/*/*.parquet"))]
        for name in ("vectors", "vectors-of-the-laptop")
    ]
    assert parts == same
    assert len(parts) == bool(out)


def test_a_shard_that_keeps_failing_fails_the_run_and_is_told(tmp_path: Path) -> None:
    state, seen = follow("promote", lambda name, given: given.get("shard") == "1/2", tmp_path)
    assert (state, seen[-1]) == ("FAILED", ("notify", "FAILED"))
    assert [how for name, how in seen if name == "generate"] == ["0/2", "1/2", "1/2", "1/2"]
    assert "mine" not in dict(seen)


def test_a_task_that_fails_once_is_run_again(tmp_path: Path) -> None:
    failed: list[str] = []

    def once(name: str, given: dict[str, Any]) -> bool:
        first = name == "distill" and not failed
        failed.extend([name] if first else [])
        return first

    state, seen = follow("promote", once, tmp_path)
    assert (state, [name for name, _ in seen].count("distill")) == ("SUCCEEDED", 2)


def test_a_model_from_elsewhere_is_judged_without_training_as_on_the_laptop(tmp_path: Path) -> None:
    home = chain.home(tmp_path / "home")
    model = str(shutil.copytree(home / "student", tmp_path / "elsewhere"))
    text, store = chain.settings_file(home).read_text("utf-8"), LocalStore(tmp_path / "store")
    text = text.replace("corpus: corpus", f"corpus: {home}/corpus").replace("model: student", f"model: {home}/student")
    seen: list[str] = []

    def run(name: str, component: Any, executor: Any, given: dict[str, Any]) -> dict[str, Any] | None:
        seen.append(executor["container"]["command"][-1])
        return {} if seen[-1] == "notify" else launched(seen[-1], tmp_path / f"task-{len(seen)}", **given)

    spec, _ = ir.load(compiled("evaluate", "dev-cpu", tmp_path))
    assert ir.interpret(spec, run, {"settings": text, "store": store.uri, "model": model}) == "SUCCEEDED"
    assert seen == ["preflight", "prepare", "distill", "evaluate", "gate", "report", "notify"]
    done = record.results(store, "tiny")
    assert done["evaluate"].facts["tuned"] == done["evaluate"].facts["base"], "the same weights, from elsewhere"
    assert done["gate"].facts["verdict"] == "hold"
    adopting = chain.checked(home, "laptop", distill={**chain.SETTINGS["distill"], "adopt": model})
    laptop = LocalStore(tmp_path / "laptop")
    assert chain.digests(runner.run(adopting, laptop)) == chain.digests(done)
    assert not any(step.reason for step in runner.explain_run(adopting, laptop))


def test_an_ablation_fans_out_over_the_variants_and_says_what_the_laptop_says(tmp_path: Path) -> None:
    home = chain.home(tmp_path / "home")
    text, store = chain.settings_file(home).read_text("utf-8"), LocalStore(tmp_path / "store")
    text = text.replace("corpus: corpus", f"corpus: {home}/corpus").replace("model: student", f"model: {home}/student")
    seen: list[tuple[str, dict[str, Any]]] = []

    def run(name: str, component: Any, executor: Any, given: dict[str, Any]) -> dict[str, Any]:
        command = executor["container"]["command"][-1]
        found = {} if command == "notify" else launched(command, tmp_path / f"task-{len(seen)}", **given)
        seen.append((command, found))
        return found

    spec, _ = ir.load(compiled("ablate", "dev-cpu", tmp_path))
    given = {"settings": text, "store": store.uri, "over": "loss", "seeds": 1}
    assert ir.interpret(spec, run, given) == "SUCCEEDED"
    assert [name for name, _ in seen] == ["preflight", *["variant"] * 4, "ablation", "notify"]
    assert seen[1][1]["variants"] == ["listwise alone", "InfoNCE alone", "listwise + 0.1 InfoNCE"]
    shown = Path(seen[-2][1]["summary"].path).read_text("utf-8")
    laptop = ablation.ablate(study_of(text, store), ["loss"], [17], 1, tmp_path, lambda line: None)
    assert shown == ablation_markdown(laptop)
    assert "<svg" in Path(seen[-2][1]["report"].path).read_text("utf-8")


def test_a_variant_or_group_that_is_not_known_is_refused(tmp_path: Path) -> None:
    home = chain.home(tmp_path / "home")
    text = chain.settings_file(home).read_text("utf-8").replace("corpus: corpus", f"corpus: {home}/corpus")
    text = text.replace("model: student", f"model: {home}/student")
    given = {"settings": text, "store": LocalStore(tmp_path / "store").uri, "seeds": 1}
    with pytest.raises(UserError, match="no such group; choose from loss"):
        launched("variant", tmp_path / "task", over="nothing", **given)
    with pytest.raises(UserError, match="there is no variant 'none' in loss"):
        launched("variant", tmp_path / "task", over="loss", variant="none", **given)
    assert not (tmp_path / "store").exists()


def test_a_run_that_preflight_stops_does_nothing_but_tell(tmp_path: Path) -> None:
    state, seen = follow("promote", lambda name, given: name == "preflight", tmp_path)
    assert state == "FAILED"
    assert set(dict(seen)) == {"preflight", "notify"}


def test_a_domain_that_fails_ends_its_own_chain_and_no_other_and_one_summary_tells(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    spec, _ = ir.load(compiled("specialize_many", "dev-cpu", tmp_path))
    [loop] = [task for dag in dags(spec) for task in dag["tasks"].values() if task.get("iteratorPolicy")][:1]
    assert loop["iteratorPolicy"] == {"parallelismLimit": 4}
    texts = {name: SETTINGS.format(name=name) for name in ("a", "b", "c")}
    addresses = {name: settings_text.keep(store, text) for name, text in texts.items()}
    seen: dict[str, list[str]] = {}
    told: list[dict[str, Any]] = []

    def run(name: str, component: Any, executor: Any, given: dict[str, Any]) -> dict[str, Any] | None:
        command = executor["container"]["command"][-1]
        if command == "notify":
            told.append(summary(given["domains"], store, given))
            return {}
        seen.setdefault(given["settings"], []).append(command)
        try:
            with attempts.noting(store, given["attempt"], command, given.get("shard", ""), given["settings"]):
                if command == "mine" and given["settings"] == addresses["b"]:
                    raise UserError("the corpus of b is empty")
        except UserError:
            return None
        return {"prefix": f"{command}/0", "verdict": "hold"}

    parameters = {"domains": list(addresses.values()), "store": store.uri}
    assert ir.interpret(spec, run, parameters) == "FAILED"
    for name in ("a", "c"):
        assert list(dict.fromkeys(seen[addresses[name]])) == ["preflight", *STAGES[: STAGES.index("publish")]]
    assert set(seen[addresses["b"]]) == {"preflight", "prepare", "generate", "mine"}
    [found] = told
    assert [(row["domain"], row["outcome"]) for row in found["domains"]] == [
        ("a", "unknown"), ("b", "failed"), ("c", "unknown"),
    ]  # fmt: skip
    assert found["domains"][1]["error"] == "mine: the corpus of b is empty"
    assert found["outcome"] == "1 failed, 2 unknown"


def dags(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
