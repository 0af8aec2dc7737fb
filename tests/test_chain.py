"""The whole chain on a tiny corpus with a tiny random student: what runs again, what does not, and that it repeats."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import corpora
import tiny
from chain import digests
from hone import context as job_module
from hone import settings
from hone.commands.cli import app
from hone.context import Shard
from hone.engine import record, runner
from hone.errors import UserError
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import fetch_folder
from hone.serving.search import top_tens
from hone.stages import STAGES, stage
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

TOPICS = ("wing lift drag stall flap slat", "engine thrust fan core inlet nozzle", "sea wave tide reef shore foam")
RUN = tuple(name for name in STAGES if name not in ("publish", "encode"))
"""What runs of itself: nothing is published but where the settings say so."""
COMMON = "test flow data speed angle model value case"


def documents(count: int) -> list[dict[str, str]]:
    """Documents of one topic each, no two alike."""
    draw = random.Random(7)
    topics = [draw.choice(TOPICS).split() for _ in range(count)]
    texts = [" ".join(draw.choices([*topic, *COMMON.split()], k=24)) for topic in topics]
    return [{**doc, "title": topic[0]} for doc, topic in zip(corpora.docs(*texts), topics, strict=True)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus with judgements, a student and the settings of a run."""
    folder = tmp_path_factory.mktemp("home")
    docs = documents(120)
    asked = {f"q{n}": " ".join(docs[n]["text"].split()[3:8]) for n in range(24)}
    qrels = {split: [(f"q{n}", f"d{n}", 1) for n in range(at, 24, 2)] for at, split in enumerate(("dev", "test"))}
    corpora.beir(folder / "corpus", docs, asked, **qrels)
    tiny.student(folder / "student", vocab_texts=[*TOPICS, COMMON])
    written(folder / "tiny.yaml", {})
    return folder


def written(path: Path, changes: dict[str, Any]) -> Path:
    """A settings file beside the corpus and the student."""
    base: dict[str, Any] = {
        "name": "tiny",
        "student": {"model": "student"},
        "prepare": {"corpus": "corpus"},
        "generate": {"extractive": {"styles": {"search": 1}}},
        "mine": {"top_k": 20},
        "teacher": {"kind": "fusion"},
        "curate": {"min_docs": 6, "list_size": 6, "outscored": "relabel", "weak_percentile": 5, "dev_share": 0},
        "distill": {"list_size": 6, "batch_size": 16, "max_steps": 6, "learning_rate": 0.001},
        "evaluate": {"permutations": 200, "bootstrap": 50},
    }
    path.write_text(yaml.safe_dump(settings.overlay(base, changes)), "utf-8")
    return path


def run(path: Path, store: LocalStore, **how: Any) -> tuple[dict[str, Manifest], list[str]]:
    """The manifests of a run, and the stages that were not up to date."""
    ran: list[str] = []
    done = runner.run(
        settings.load(path), store, tell=lambda step: ran.append(step.stage) if step.reason else None, **how
    )
    return done, ran


def files(store: LocalStore) -> dict[str, int]:
    """Everything but the leases, which say when a result was last needed."""
    found = {path.relative_to(store.root).as_posix(): path.stat().st_mtime_ns for path in store.root.rglob("*")}
    return {name: time for name, time in found.items() if not name.startswith("leases")}


def hone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a person runs it, in its own process."""
    command = [sys.executable, "-m", "hone", *map(str, arguments)]
    # Sums in another number of threads differ in their last bits, and so would the bytes: one, as in this process.
    env = {**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def first(home: Path) -> tuple[LocalStore, dict[str, Manifest]]:
    store = LocalStore(home / "store")
    done, ran = run(home / "tiny.yaml", store)
    assert ran == list(RUN)
    return store, done


First = tuple[LocalStore, dict[str, Manifest]]


def test_the_command_gives_the_same_tables_and_weights_in_another_store_and_then_has_nothing_to_do(
    home: Path, first: First, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path / "store")
    made = hone("run", home / "tiny.yaml", "--store", store.root)
    assert made.returncode == 0, made.stderr
    assert "Loading weights" not in made.stderr
    assert "nDCG@10" in made.stdout
    assert f"{store.root}/report/" in made.stdout
    done = record.results(store, "tiny")
    assert digests(done) == digests(first[1])
    assert done["distill"].outputs["model"] == first[1]["distill"].outputs["model"]
    before = files(store)
    again = hone("run", home / "tiny.yaml", "--store", store.root)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("up to date") == len(RUN) + 1
    assert "Everything is up to date: nothing was run." in again.stdout
    assert files(store) == before


def test_work_and_what_is_around_it_are_the_whole_time_of_a_run(home: Path, tmp_path: Path) -> None:
    store, started = LocalStore(tmp_path / "store"), time.monotonic()
    done = runner.run(settings.load(home / "tiny.yaml"), store, shards=2)
    whole = time.monotonic() - started
    assert all(one.overhead > 0 for one in done.values())
    assert 0.8 * whole < sum(one.seconds + one.overhead for one in done.values()) < whole
    page = fetch_folder(store, done["report"], "report", tmp_path / "report") / "report.html"
    assert "around the work" in page.read_text("utf-8")


def test_one_shard_and_seven_give_the_same_tables_facts_and_costs(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "ROWS_PER_BUCKET", 8)
    runs = [run(home / "tiny.yaml", LocalStore(tmp_path / str(count)), shards=count)[0] for count in (1, 7)]
    one, seven = runs
    assert len(seven["score"].outputs["teacher_scores"].parts) > 1
    assert digests(seven) == digests(one)
    for name in RUN[:-2]:  # gate and report read how long queries took
        assert seven[name].prefix == one[name].prefix
        assert seven[name].facts == one[name].facts


def test_a_run_that_keeps_no_query_ends_with_the_reasons_and_leaves_what_was_dropped(
    home: Path, tmp_path: Path
) -> None:
    store, checked = LocalStore(tmp_path), settings.load(written(home / "none.yaml", {"generate": {"min_words": 60}}))
    said = r"kept no query: all [\d,]+ drafts were dropped: [\d,]+ too short, such as '.*'; correct"
    with pytest.raises(UserError, match=said):
        runner.run(checked, store)
    made = record.results(store, "tiny")["generate"]
    assert made.outputs["dropped_by_generate"].rows
    with pytest.raises(UserError, match=said):
        runner.run_stage("mine", checked.stages["mine"], {"queries": made}, store, Shard())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"generate": {"extractive": {"styles": {"search": 2}}}}, RUN[1:]),
        ({"curate": {"high_percentile": 90}}, RUN[4:]),
        ({"evaluate": {"permutations": 201}}, RUN[6:]),
        # Another setting with the same documents: what follows is not run again.
        ({"prepare": {"dedupe_window": 11}}, RUN[:1]),
        # A resource shapes no result.
        ({"mine": {"token_budget": 4096}, "distill": {"token_budget": 4096}}, ()),
        ({"name": "another"}, ()),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_setting_runs_only_what_depends_on_it(
    home: Path, first: First, tmp_path: Path, change: dict[str, Any], expected: tuple[str, ...]
) -> None:
    store = LocalStore(shutil.copytree(first[0].root, tmp_path / "store"))
    path = written(home / f"{tmp_path.name}.yaml", change)
    steps = {step.stage: step.reason for step in runner.explain_run(settings.load(path), store)}
    done, ran = run(path, store)
    assert tuple(ran) == expected
    if expected:
        assert next(name for name, reason in steps.items() if reason) == expected[0]
        section = change[expected[0]]
        assert f"{next(iter(section))}" in steps[expected[0]]
    assert run(path, store)[1] == []
    assert set(done) == set(RUN)


def test_results_that_were_made_from_equal_tables_of_another_result_belong_to_the_run(home: Path, first: First) -> None:
    """Another setting of prepare makes the same documents: nothing else runs, and the run is as finished as before."""
    same = written(home / "same.yaml", {"name": "same", "prepare": {"corpus": "corpus", "min_chars": 2}})
    done, ran = run(same, first[0])
    assert ran == ["prepare"]
    assert done["prepare"].prefix != first[1]["prepare"].prefix
    known = record.results(first[0], "same")
    assert known == done
    assert list(known) == list(RUN)
    assert [step.reason for step in runner.explain_run(settings.load(same), first[0])] == [""] * len(STAGES)


def test_explaining_changes_nothing_and_names_the_setting(home: Path, first: First) -> None:
    before = files(first[0])
    path = written(home / "explained.yaml", {"mine": {"top_k": 21}, "curate": {"min_docs": 7}})
    said = hone("run", path, "--store", first[0].root, "--explain")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert lines[0].split() == [f"1/{len(STAGES)}", "prepare", "up", "to", "date"]
    assert lines[2].split(maxsplit=1)[1] == "mine      runs: top_k 20 -> 21"
    assert lines[4].split(maxsplit=1)[1] == "curate    runs: reads teacher_scores, which will be made anew"
    assert len(lines) == len(STAGES)
    assert files(first[0]) == before


def test_a_changed_corpus_is_seen_by_its_content_wherever_it_lies(home: Path, first: First, tmp_path: Path) -> None:
    moved = shutil.copytree(home / "corpus", tmp_path / "moved")
    path = written(home / "moved.yaml", {"prepare": {"corpus": str(moved)}})
    assert [step.reason for step in runner.explain_run(settings.load(path), first[0])] == [""] * len(STAGES)
    with (moved / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "new", "text": "a new document about the sea and its foam"}\n')
    reason = runner.explain_run(settings.load(path), first[0])[0].reason
    assert reason == f"{moved} has other content"


def test_a_run_goes_on_where_until_stopped_it(home: Path, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    assert run(home / "tiny.yaml", store, last="generate")[1] == ["prepare", "generate"]
    with pytest.raises(UserError, match="mine has no result for these settings; run without --from score"):
        run(home / "tiny.yaml", store, first="score")
    assert run(home / "tiny.yaml", store, first="mine", last="mine")[1] == ["mine"]
    with pytest.raises(UserError, match="prepare comes before mine; nothing would run"):
        run(home / "tiny.yaml", store, first="mine", last="prepare")


def test_each_stage_by_itself_makes_what_the_run_makes(home: Path, first: First, tmp_path: Path) -> None:
    found: dict[str, str] = {}
    for name in RUN:
        inputs = [part for table in stage(name).READS for part in ("--input", f"{table}={found[table]}")]
        arguments = ["stage", name, "--config", str(home / "tiny.yaml"), "--store", str(tmp_path / "store"), *inputs]
        said = CliRunner().invoke(app, arguments, catch_exceptions=False)
        prefix = said.stdout.strip()
        if name not in ("gate", "report"):  # they read the findings, which say how long things took
            assert prefix == first[1][name].prefix
        found |= dict.fromkeys(stage(name).WRITES, prefix)
    verdict = load_manifest(LocalStore(tmp_path / "store"), f"{found['verdict']}/manifest.json")
    assert verdict is not None
    assert digests({"gate": verdict}) == digests({"gate": first[1]["gate"]})


def test_a_search_shows_both_top_tens_and_what_moved(first: First) -> None:
    store, _ = first
    base, tuned = top_tens(store, "tiny", "wing [lift]")
    assert len(base) == len(tuned) == 10
    assert [hit.score for hit in tuned] == sorted((hit.score for hit in tuned), reverse=True)
    ranks = {hit.doc_id: rank for rank, hit in enumerate(base, 1)}
    assert [hit.other_rank for hit in tuned] == [ranks.get(hit.doc_id, 0) for hit in tuned]
    assert base != tuned
    shown = CliRunner().invoke(app, ["search", "tiny", "wing [lift]", "--store", str(store.root)])
    assert shown.exit_code == 0
    assert "wing [lift]" in shown.stdout
    assert all(hit.doc_id in shown.stdout for hit in (*base, *tuned))


def test_the_model_loads_with_sentence_transformers_and_gives_the_same_vectors(home: Path, first: First) -> None:
    from sentence_transformers import SentenceTransformer

    from hone.backends.encoders.encoder import Encoder
    from hone.backends.encoders.families import Student

    store, done = first
    folder = fetch_folder(store, done["distill"], "model", home)
    assert "base_model: student" in (folder / "README.md").read_text()
    texts = [doc["text"] for doc in documents(20)]
    tuned, base = (Encoder(at, Student(model=str(at))).docs(texts) for at in (folder, home / "student"))
    loaded = SentenceTransformer(str(folder), device="cpu").encode(texts)
    assert np.allclose(loaded, tuned, atol=1e-6)
    assert not np.allclose(base, tuned, atol=1e-3)
