"""Benchmarks whose stages read what other stages say: a change of these must not break them unnoticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import chain

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]


def ran(name: str, *arguments: str | Path) -> str:
    """What a benchmark of this repository prints."""
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments]
    made = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert made.returncode == 0, made.stderr[-600:]
    return made.stdout


def test_memory_is_measured_of_every_stage_that_grows_with_the_corpus() -> None:
    lines = ran("memory", "300").splitlines()[1:]
    assert [line.split()[1] for line in lines] == ["prepare", "generate", "mine", "curate"]
    assert all(float(line.split()[3]) >= float(line.split()[2]) > 0 for line in lines)


def test_a_query_log_is_measured_beside_every_row_looked_at_by_itself(tmp_path: Path) -> None:
    said = ran("query_log", chain.home(tmp_path) / "corpus", "--rows", "200", "--each", "50")
    rows = [line for line in said.splitlines() if "│ 200 " in line]
    assert [row.split("│")[-2].strip() for row in rows] == ["yes"] * 3


def test_documents_are_searched_by_their_beginnings_and_by_their_passages(tmp_path: Path) -> None:
    home = chain.home(tmp_path)
    where = ("--student", home / "student", "--store", tmp_path / "store")
    said = ran("passages", home / "corpus", *where, "--words", "10", "--overlap", "2")
    rows = [line.split("|")[2:-1] for line in said.splitlines()[2:]]
    assert [(way.strip(), int(count)) for way, count, *_ in rows] == [
        ("their beginnings", 40),
        ("the best passage", 120),
    ]
    assert all(0 < float(figure) <= 1 for _, _, *figures, _ in rows for figure in figures)
