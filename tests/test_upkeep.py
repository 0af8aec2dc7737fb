"""What a store tells of itself, and how damage is noticed, named and fixed."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import chain
from hone.backends import encoders
from hone.commands.cli import app
from hone.context import Shard
from hone.engine import garbage, maintenance, record, runner
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.errors import UserError
from hone.kubeflow import attempts, settings_text
from hone.results import kept_vectors
from hone.results.content_cache import ContentCache
from hone.results.manifest import Manifest
from hone.serving.search import top_tens
from hone.stages import stage
from hone.storage.base import Object
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

Done = dict[str, Manifest]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain.home(tmp_path_factory.mktemp("home"), docs=24)


@pytest.fixture(scope="module")
def first(home: Path) -> Done:
    """A finished run; tests work on copies of its store."""
    return chain.run(home, LocalStore(home / "first"))


@pytest.fixture
def store(home: Path, first: Done, tmp_path: Path) -> LocalStore:
    shutil.copytree(home / "first", tmp_path / "store")
    return LocalStore(tmp_path / "store")


def part(store: LocalStore, done: Done, stage: str, name: str) -> Path:
    return store.root / done[stage].prefix / done[stage].outputs[name].parts[0].path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def hone(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command; a mistake of the user counts as its code and sentence."""
    found = CliRunner().invoke(app, list(arguments))
    if isinstance(found.exception, UserError):
        return found.exception.exit_code, f"{found.output}{found.exception}"
    assert found.exception is None or isinstance(found.exception, SystemExit), found.exception
    return found.exit_code, found.output


def snapshot(store: LocalStore) -> dict[str, bytes]:
    return {one.key: store.read(one.key) or b"" for one in store.objects()}


def doubled(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [flip, Path.unlink, doubled, emptied])
@pytest.mark.parametrize(("stage", "name"), [("prepare", "docs"), ("distill", "model"), ("score", "teacher_scores")])
def test_damage_is_named_and_repair_brings_the_same_bytes_back(
    store: LocalStore, first: Done, harm: Callable[[Path], Any], stage: str, name: str
) -> None:
    before = snapshot(store)
    damaged = part(store, first, stage, name)
    harm(damaged)
    (flaw,) = maintenance.flaws(store, first[stage].prefix)
    assert damaged.relative_to(store.root).as_posix() in flaw
    assert f"`hone repair {first[stage].prefix}`" in flaw
    outcomes = dict(maintenance.repair(store, "tiny"))
    assert outcomes.pop(first[stage].prefix) == "made again, the same bytes"
    assert set(outcomes.values()) == {"whole"}
    after = snapshot(store)
    assert {key: data for key, data in after.items() if "/logs/" not in key and "memo/" not in key} == {
        key: data for key, data in before.items() if "/logs/" not in key and "memo/" not in key
    }


def test_repair_of_what_cannot_come_out_the_same_says_so_and_the_run_goes_on_from_there(
    home: Path, store: LocalStore, first: Done
) -> None:
    shutil.rmtree(store.root / first["evaluate"].place("findings"))
    outcomes = dict(maintenance.repair(store, "tiny"))
    assert outcomes[first["evaluate"].prefix].startswith("made again")
    assert maintenance.flaws(store, first["evaluate"].prefix) == []
    assert chain.digests(chain.run(home, store)) == chain.digests(first)


def test_a_run_stops_at_damage_and_says_how_to_mend_it(home: Path, store: LocalStore, first: Done) -> None:
    part(store, first, "mine", "candidates").unlink()
    with pytest.raises(UserError, match=f"missing or cut short; `hone repair {first['mine'].prefix}`"):
        chain.run(home, store)
    code, said = hone("repair", first["mine"].prefix, "--store", store.uri)
    assert code == 0
    assert "made again, the same bytes" in said
    assert chain.run(home, store)["mine"] == first["mine"]


def test_a_removed_result_is_made_again_by_the_run(home: Path, store: LocalStore, first: Done) -> None:
    (store.root / first["curate"].prefix / "manifest.json").write_text("{")
    outcomes = dict(maintenance.repair(store, "tiny"))
    said = outcomes[first["curate"].prefix]
    assert "damaged manifest was moved to" in said
    aside = said.split(" moved to ")[1].split(";")[0]
    assert store.read(aside) == b"{", "it may be the only copy"
    assert chain.digests(chain.run(home, store)) == chain.digests(first)


def test_changed_sources_under_the_same_name_are_noticed(
    home: Path, store: LocalStore, first: Done, tmp_path: Path
) -> None:
    moved = shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("first"))
    assert [step.stage for step in runner.explain_run(chain.checked(moved), store) if step.reason] == []
    corpus = moved / "corpus" / "corpus.jsonl"
    corpus.write_text(corpus.read_text("utf-8").replace("wing", "tail", 1), "utf-8")
    steps = runner.explain_run(chain.checked(moved), store)
    assert steps[0].reason.endswith("has other content")
    assert steps[0].manifest is None


def test_a_run_that_was_stopped_early_with_other_settings_answers_nothing_of_the_one_before(
    home: Path, store: LocalStore
) -> None:
    runner.run(chain.checked(home, seed=5), store, last="mine")
    for command, said in (
        (["search", "tiny", "wing"], "is not finished"),
        (["gate", "tiny"], "has no verdict yet"),
        (["compare", "tiny", "tiny"], "has not been evaluated"),
    ):
        code, sentence = hone(*command, "--store", store.uri)
        assert (code, said in sentence) == (2, True), sentence


@pytest.mark.parametrize(
    ("command", "code"),
    [(["search", "tiny", "wing"], 2), (["gate", "tiny"], 2), (["compare", "tiny", "tiny"], 2),
     (["encode", "tiny", "--out", "vectors"], 2), (["show", "tiny", "docs"], 0), (["store", "ls"], 0),
     (["store", "verify"], 0),
     (["store", "diff", "tiny", "tiny"], 0), (["store", "gc", "--results"], 0), (["repair", "tiny"], 0)],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)  # fmt: skip
def test_a_record_that_names_another_prepare_is_taken_as_far_as_it_goes(
    home: Path, store: LocalStore, command: list[str], code: int
) -> None:
    """Version 0.1.0 wrote such records: what was made from the other prepare is not shown."""
    other = chain.run(home, store, "other", prepare={**chain.SETTINGS["prepare"], "max_chars": 40})["prepare"]
    known = record.recorded(store, "tiny")
    assert other.prefix != known["prepare"]
    store.replace("runs/tiny.json", json.dumps({**known, "prepare": other.prefix}).encode())
    found, said = hone(*command, "--store", store.uri)
    assert found == code, said
    assert (found == 0) != ("`hone run` its settings first" in said)


def test_ls_shows_runs_and_damage(store: LocalStore, first: Done) -> None:
    assert "whole" in hone("store", "ls", "--store", store.uri)[1]
    part(store, first, "distill", "model").unlink()
    assert "damaged: hone repair tiny" in hone("store", "ls", "--store", store.uri)[1]


def test_verify_reads_every_part(store: LocalStore, first: Done) -> None:
    code, said = hone("store", "verify", "--store", store.uri)
    assert (code, said.strip()) == (0, f"{len(first)} results of 1 runs are whole, and so is all that is published.")
    flip(part(store, first, "distill", "model"))
    code, said = hone("store", "verify", "tiny", "--store", store.uri)
    assert code == 2
    assert first["distill"].place("model") in said
    assert hone("store", "verify", "unknown", "--store", store.uri)[0] == 2


def test_diff_says_what_differs(home: Path, store: LocalStore) -> None:
    mine = {**chain.SETTINGS["mine"], "top_k": 8}
    chain.run(home, store, "other", mine=mine)
    code, said = hone("store", "diff", "tiny", "other", "--store", store.uri)
    assert code == 0
    assert "top_k 10 -> 8" in said
    assert "prepare" not in said
    assert "same results" in hone("store", "diff", "tiny", "tiny", "--store", store.uri)[1]


def test_gc_removes_what_nothing_refers_to_only_when_told_and_only_when_old(
    home: Path, store: LocalStore, first: Done
) -> None:
    whole = snapshot(store)
    prefix = first["mine"].prefix
    store.replace(f"{prefix}/candidates/00000-00000-deadbeef.parquet", b"killed before its manifest")
    store.replace("mine/0123456789abcdef/candidates/part.parquet", b"never finished")
    (store.root / prefix / f".hone-{'0' * 32}").write_bytes(b"half")
    everything = snapshot(store)
    assert "Nothing to remove" in hone("store", "gc", "--store", store.uri)[1]
    code, said = hone("store", "gc", "--older-than", "0", "--store", store.uri)
    assert code == 0
    assert "3 objects" in said
    assert "--delete removes them" in said
    assert snapshot(store) == everything
    hone("store", "gc", "--older-than", "0", "--delete", "--store", store.uri)
    assert snapshot(store) == whole
    assert list(store.unfinished()) == []


def test_gc_leaves_checkpoints_and_finished_shards_of_what_is_unfinished(
    store: LocalStore, first: Done, tmp_path: Path
) -> None:
    checkpoint = "distill/0123456789abcdef/checkpoints/00000001.json"
    store.replace(checkpoint, b"{}")
    config = stage("score").Config.model_validate({**first["score"].config, "seed": 5})
    read = {table: found for table, found in runner.outputs_of(first).items() if table in stage("score").READS}
    todo = plan("score", config, read, tmp_path)
    shard, _ = execute(todo, store, tmp_path, Shard(0, 2))
    kept = {checkpoint, f"{todo.prefix}/shard-00000-of-00002.json"}
    kept |= {f"{todo.prefix}/{part.path}" for output in shard.outputs.values() for part in output.parts}
    for one in (*store.objects(todo.prefix), *store.objects("distill/0123456789abcdef")):
        os.utime(store.root / one.key, (0, 0))
    hone("store", "gc", "--older-than", "24", "--delete", "--store", store.uri)
    assert kept <= set(snapshot(store))
    record.record(store, "busy", {}, at=todo.prefix)
    record.record(store, "training", {}, at="distill/0123456789abcdef")
    for one in store.objects("leases/last"):
        store.delete(one)
    hone("store", "gc", "--results", "--older-than", "24", "--delete", "--store", store.uri)
    assert kept <= set(snapshot(store)), "runs stand for them"
    for name in ("busy", "training"):
        store.delete(Object(f"runs/{name}.json", 0, 0.0))
    hone("store", "gc", "--results", "--older-than", "24", "--delete", "--store", store.uri)
    assert kept & set(snapshot(store)) == set()


def test_gc_removes_the_vectors_of_a_model_that_no_run_has_any_more_and_no_others(
    home: Path, store: LocalStore, first: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> set[str]:
        return {key for key in snapshot(store) if key.startswith(f"{kept_vectors.FOLDER}/")}

    before = top_tens(store, "tiny", "wing lift")
    needed = kept()
    chain.run(home, store, "other", distill={**chain.SETTINGS["distill"], "max_steps": 2})
    top_tens(store, "other", "wing lift")
    whole = kept()
    assert {key.split("/")[2] for key in needed} < {key.split("/")[2] for key in whole}
    for one in store.objects():
        os.utime(store.root / one.key, (0, 0))
    for one in (*store.objects("leases/last"), Object("runs/other.json", 0, 0.0)):
        store.delete(one)
    hone("store", "gc", "--older-than", "24", "--delete", "--store", store.uri)
    assert kept() == whole, "only --results looks for them"
    said = hone("store", "gc", "--results", "--older-than", "24", "--delete", "--store", store.uri)[1]
    assert kept() == needed
    assert said.count("no run has the documents and the model") == len(whole - needed)
    monkeypatch.setattr(encoders, "encode_by", None)
    assert top_tens(store, "tiny", "wing lift") == before


def test_gc_removes_vectors_and_tokens_that_no_stage_has_used_for_long_and_a_stage_says_what_it_uses(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path / "store")

    def cache(name: str, identity: str) -> ContentCache:
        return ContentCache(store, name, identity, pa.float32(), tmp_path)

    for name, identity in (
        ("vectors", "last month's"),
        ("vectors", "the base"),
        ("tokens", "old"),
        ("answers", "paid"),
    ):
        cache(name, identity).add(["text"], pa.array([1.0], pa.float32()))
    for one in store.objects():
        os.utime(store.root / one.key, (0, 0))
    assert cache("vectors", "the base").missing(["text"]) == []
    used = snapshot(store)
    assert cache("vectors", "the base").missing(["text"]) == []
    assert snapshot(store) == used, "noted once a day"
    assert list(garbage.garbage(store, 0.0)) == [], "only --results looks for them"
    gone = {one.stored.key for one in garbage.collect(store, 0.0, results=True)}
    assert {key.split("/")[1] for key in gone} == {"vectors", "tokens"}
    assert len(gone) == 2
    assert cache("vectors", "the base").missing(["text"]) == cache("answers", "paid").missing(["text"]) == []
    assert cache("vectors", "last month's").missing(["text"]) == [0]


def test_gc_goes_by_the_clock_of_the_store_and_not_by_its_own(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.replace("mine/0123456789abcdef/candidates/part.parquet", b"of a run that is about to end")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 48 * 3_600)
    assert [one.stored.key for one in garbage.collect(store, 24.0, results=True)] == []


def test_gc_removes_settings_and_notes_of_runs_on_kubeflow_that_nothing_used_for_long(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for text, attempt in (("name: old", "run-old"), ("name: new", "run-new")):
        address = settings_text.keep(store, text)
        with attempts.noting(store, attempt, "prepare", "0/2"):
            settings_text.renew(store, address)
    kept = {one.key for one in store.objects()}
    for path in (file for file in store.root.rglob("*") if file.is_file()):
        os.utime(path, (0, 0))
    used = settings_text.keep(store, "name: new")
    with attempts.noting(store, "run-new", "mine", ""):
        pass
    gone = {
        one.stored.key for one in garbage.collect(store, 0.0) if one.stored.key.startswith(("settings", "attempts"))
    }
    digest = hashlib.sha256(b"name: old").hexdigest()
    assert gone == {f"settings/{digest}.yaml", "attempts/run-old/prepare-0-2.json"} < kept
    assert settings_text.fetch(used) == "name: new"
    assert [note.task for note in attempts.notes(store, "run-new")] == ["prepare", "mine"]


def test_a_task_that_starts_keeps_its_settings_from_gc(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    address = settings_text.keep(store, "name: weekly")
    file = Path(address.partition("@")[0])
    os.utime(file, (0, 0))
    settings_text.renew(store, f"{tmp_path}/elsewhere/settings/x.yaml")
    assert file.stat().st_mtime == 0
    settings_text.renew(store, address)
    assert "settings" not in {one.stored.key.partition("/")[0] for one in garbage.garbage(store, 0.0)}
    assert settings_text.fetch(address) == "name: weekly"


def test_gc_finds_uploads_of_a_result_of_which_nothing_else_was_stored(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    left = store.root / f"mine/0123456789abcdef/candidates/.hone-{'0' * 32}"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert [one.reason for one in garbage.collect(store, 0.0)] == ["an upload that never ended"]
    assert not left.exists()


def test_gc_of_results_keeps_what_runs_stand_for(home: Path, store: LocalStore, first: Done) -> None:
    chain.run(home, store, "tiny", seed=5)
    old = {one.stored.key for one in garbage.garbage(store, 0.0, results=True)}
    assert f"{first['distill'].prefix}/manifest.json" in old
    for one in garbage.garbage(store, 0.0, results=True):
        store.delete(one.stored)
    assert all(maintenance.flaws(store, prefix) == [] for prefix in maintenance.prefixes_of(store, "tiny"))
    left = garbage.garbage(store, 0.0, results=True)
    assert {one.reason for one in left} == {"it is about a result that is gone"}


def test_what_a_stage_logged_lies_beside_its_result(store: LocalStore, first: Done) -> None:
    (log,) = (store.root / first["mine"].prefix / "logs").iterdir()
    events = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [event["event"] for event in events] == ["started", "finished"]
    assert {(event["run"], event["stage"], event["shard"]) for event in events} == {("tiny", "mine", "0/1")}
