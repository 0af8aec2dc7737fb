"""A launch of several processes of which one is killed: started again, it ends as if nothing had happened."""

import subprocess
import sys
from pathlib import Path

import pytest

import killed
import tiny
import twin

pytestmark = pytest.mark.long


def test_a_rank_that_is_killed_leaves_checkpoints_from_which_the_launch_ends_with_the_same_bytes(
    tmp_path: Path,
) -> None:
    student = tiny.student(tmp_path / "student", dim=16, layers=1, vocab_texts=twin.WORDS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launch, killed.__file__, str(student), str(tmp_path)]
    assert subprocess.run(command, timeout=600).returncode
    saved = (tmp_path / "torn" / "store" / "distill" / "x" / "checkpoints").glob("*.json")
    assert max(int(path.stem) for path in saved) == killed.DIES_AT // killed.EVERY * killed.EVERY
    subprocess.run([*command, "again"], check=True, timeout=600)
    whole, torn = (tmp_path / home / "model" / "model.safetensors" for home in ("whole", "torn"))
    assert whole.read_bytes() == torn.read_bytes()
    assert whole.read_bytes() != (student / "model.safetensors").read_bytes()
