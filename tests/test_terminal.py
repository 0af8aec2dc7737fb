"""What people see of a run: within 80 columns, without JSON, with the next step; and reading tables."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import chain
from hone.report.next_step import next_step, queries_for
from hone.stages import STAGES

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "hone")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = chain.home(tmp_path_factory.mktemp("home"))
    chain.settings_file(home, store="place")
    return home


def hone(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    usual = {**os.environ, "COLUMNS": "80", **environment}
    return subprocess.run([*COMMAND, *arguments], cwd=home, capture_output=True, text=True, env=usual)


def test_a_run_tells_its_store_its_stages_and_queries_and_no_events(home: Path) -> None:
    done = hone(home, "run", "tiny.yaml", "--log-file", "log.jsonl")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"run tiny, store {home / 'place'}"
    assert lines[1] == f" 1/{len(STAGES)} prepare   runs: no result yet"
    table = lines[lines.index(next(line for line in lines if line.startswith("style"))) :]
    assert sum(line.startswith("search ") for line in table) == 10
    narrow = [line for line in lines if not line.startswith(("run ", "report:", "model:", "  "))]
    assert max(map(len, narrow)) <= 80
    assert "{" not in done.stderr
    assert {json.loads(line)["event"] for line in (home / "log.jsonl").read_text().splitlines()} >= {"started"}
    quiet = hone(home, "run", "tiny.yaml", "-q")
    assert quiet.stderr == ""
    assert "up to date" not in quiet.stdout


def test_show_reads_a_table_as_text_csv_and_json(home: Path) -> None:
    hone(home, "run", "tiny.yaml", "-q")
    assert len(hone(home, "show", "tiny", "queries", "--sample", "3", "--store", "place").stdout.splitlines()) >= 4
    rows = hone(home, "show", "tiny", "lists", "--json", HONE_STORE="place").stdout.splitlines()
    assert {"query_id", "doc_ids", "scores"} <= set(json.loads(rows[0]))
    csv = hone(home, "show", "tiny", "dropped", "--format", "csv", "--store", "place").stdout.splitlines()
    assert csv[0] == "id,stage,reason,detail"
    refused = hone(home, "show", "tiny", "docs", "--style", "x", "--store", "place")
    assert refused.returncode == 2
    assert "the table docs has no style; it has doc_id" in refused.stderr


def test_json_of_verdict_and_store(home: Path) -> None:
    hone(home, "run", "tiny.yaml", "-q")
    assert json.loads(hone(home, "gate", "tiny", "--json", "--store", "place").stdout)["verdict"]
    assert json.loads(hone(home, "store", "ls", "--json", "--store", "place").stdout)[0]["run"] == "tiny"
    missing = hone(home, "store", "verify", "--store", "nowhere")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "there is nothing in the store" in missing.stderr


def test_a_setting_on_the_command_line_stands_in_for_the_file_s(home: Path) -> None:
    hone(home, "run", "tiny.yaml", "-q")
    changed = hone(home, "run", "tiny.yaml", "--explain", "--set", "mine.top_k=9").stdout
    assert f"3/{len(STAGES)} mine      runs: top_k 10 -> 9" in changed
    refused = hone(home, "run", "tiny.yaml", "--set", "mine.top_k")
    assert refused.stderr == "hone: --set mine.top_k: write KEY=VALUE, such as mine.top_k=50\n"


def test_an_interrupted_run_says_where_the_next_one_goes_on(home: Path) -> None:
    child = subprocess.Popen(
        [*COMMAND, "run", "tiny.yaml", "--store", "other"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert child.stdout
    while "mine" not in child.stdout.readline():
        pass
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    rest, errors = child.communicate()
    assert child.returncode == 130, errors
    assert f"it goes on from what is finished, which lies in {home / 'other'}." in rest
    assert "Traceback" not in errors


def test_a_hold_names_the_queries_it_takes() -> None:
    main = {"queries": 100, "minimal_detectable_effect": 0.04}
    assert queries_for(0.02, main) == 400
    synthetic = {"queries": 100, "synthetic": True, "split": "synthetic", "sets": {"synthetic": main}}
    said = next_step(synthetic, "hold", "docs")
    assert "`hone serve docs`" in said
    assert "about 400 queries to see a gain of 2 points, about 1,600 queries to see a gain of 1 point" in said
    assert next_step(synthetic, "promote", "docs") == ""
    human = {**synthetic, "synthetic": False, "delta": {"nDCG@10": 0.02}, "p_value": 0.2}
    assert "About 300 more judged queries" in next_step(human, "hold", "docs")
    # Nobody judges a hundred thousand queries for a tenth of a point.
    hardly = next_step({**human, "delta": {"nDCG@10": 0.001}}, "hold", "docs")
    assert "about 1,600 queries to see a gain of 1 point; there are 100." in hardly
    assert "000" not in hardly
    many = {
        **human,
        "queries": 2_000,
        "sets": {"synthetic": {**main, "queries": 2_000, "minimal_detectable_effect": 0.009}},
    }
    small = next_step({**many, "delta": {"nDCG@10": 0.006}}, "hold", "docs")
    assert "About 2,500 more judged queries would show whether 0.6 points are real" in small
