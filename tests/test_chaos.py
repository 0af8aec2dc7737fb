"""Killed at any moment, raced by others, among many: every run ends with the bytes of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import chaos

pytestmark = pytest.mark.long


@pytest.fixture
def folder(tmp_path: Path) -> Generator[Path]:
    """A folder in memory where there is one: a hundred runs wait long for a disk to sync."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as made:
        yield Path(made)


def told(what: str, folder: Path, *more: str) -> list[dict[str, Any]]:
    """What a process that forks its runs (`tests/support/chaos.py`) says about each of them."""
    command = [sys.executable, chaos.__file__, what, str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_run_that_was_killed_at_any_of_a_hundred_moments_ends_with_the_same_bytes(folder: Path) -> None:
    runs = told("kill", folder)
    assert len(runs) == chaos.KILLS
    assert_whole(runs)
    assert sum(run["ended"] == signal.SIGKILL for run in runs) >= 70
    assert sum(run["ended"] == signal.SIGPROF for run in runs) >= 10
    assert len({len(run["done"]) for run in runs}) >= 5


def test_a_run_over_s3_that_was_killed_ends_with_the_same_bytes(folder: Path, bucket: str) -> None:
    runs = told("kill", folder, f"{bucket}/{folder.name}", str(chaos.KILLS_OVER_S3))
    assert len(runs) == chaos.KILLS_OVER_S3
    assert_whole(runs)
    killed = Counter(signal.Signals(run["ended"]).name for run in runs if run["ended"] > 0)
    print({"runs": len(runs), **killed, "stages done when killed": Counter(len(run["done"]) for run in runs)})
    assert killed.total() >= len(runs) * 2 // 3
    assert len({len(run["done"]) for run in runs}) >= 3


def assert_whole(runs: list[dict[str, Any]]) -> None:
    """No manifest stood for what was not there, and the next run came to the same end and left nothing."""
    for run in runs:
        assert run["orphans"] == [], run
        assert run["rerun"] == 0, run
        assert run["differs"] == [], run
        assert run["after"] == [], run
        assert run["left"] == 0, run
        assert run["scratch"] == [], run


def test_eight_racers_for_one_output_are_one_winner_and_seven_who_adopt_its_result(folder: Path) -> None:
    (found,) = told("race", folder)
    assert found["ended"] == [0] * chaos.RACERS
    assert found["same"]
    for stage in ("prepare", "generate", "mine", "score", "curate", "distill", "evaluate"):
        # A racer that came late found the result before it began, and says nothing of it.
        assert found["won"][stage] == 1, stage
        assert found["lost"].get(stage, 0) <= chaos.RACERS - 1, stage


def test_twenty_runs_at_once_in_one_store_do_not_touch_each_other(folder: Path) -> None:
    *runs, store = told("together", folder)
    assert [run["ended"] for run in runs] == [0] * chaos.TOGETHER
    assert [run["differs"] for run in runs] == [[]] * chaos.TOGETHER
    assert store["runs"] == sorted(f"run-{number}" for number in range(chaos.TOGETHER))
    assert store["orphans"] == []
    assert store["kinds"] == chaos.VARIANTS
