"""The benchmark for one GPU, whole, with shapes that a CPU runs in seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def ran(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", out, "--tiny", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )


def test_the_benchmark_for_a_gpu_runs_whole_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "encode.json").write_text('[{"what": "kept", "unit": "documents/s", "ours": 2, "theirs": 1}]', "utf-8")
    first = ran(tmp_path)
    assert first.returncode == 0, first.stderr[-600:]
    assert [line.partition(":")[0] for line in first.stdout.splitlines()] == ["peak", "score", "distil", "search"]
    whole = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert (whole["card"], whole["tiny"]) == ("no GPU", True)
    rows = {name: [row["what"] for row in part] for name, part in whole["parts"].items()}
    assert rows == {
        "peak": ["product of matrices, bf16"],
        "encode": ["kept"],
        "score": ["cross-encoder, 32 x 1", "query likelihood"],
        "distil": ["step of 4 lists x 20", "the same"],
        "search": ["search 500 x 32"],
    }
    assert all(row["ours"] > 0 for part in whole["parts"].values() for row in part)
    assert "| kept | documents/s | 2.0 | 1.0 | 2.00 |" in (tmp_path / "gpu.md").read_text("utf-8")
    assert "Self CPU" in (tmp_path / "distil-profile.txt").read_text("utf-8")
