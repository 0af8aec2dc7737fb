"""Scratch folders go with their process, however it ends; a full or vanished one is one sentence."""

import errno
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

import tiny
from hone import scratch
from hone.errors import UserError
from hone.scratch import scratch_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_an_empty_folder_of_a_process_killed_before_it_had_the_lock_is_swept(place: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ours, theirs = (f"{scratch.PREFIX}{node}-{ended.pid}-x" for node in (platform.node(), "elsewhere"))
    living, kept = (f"{scratch.PREFIX}{platform.node()}-{pid}-y" for pid in (os.getpid(), ended.pid))
    for name in (ours, theirs, living, kept):
        (place / name).mkdir()
        (place / name / f"{scratch.OWNER}-new").touch()
    (place / kept / "work").touch()
    scratch._sweep.cache_clear()
    with scratch_folder():
        pass
    assert folders(place) == sorted([theirs, living, kept])


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_uses_is_not(place: Path) -> None:
    work = (
        "import time; from hone.scratch import scratch_folder\n"
        "with scratch_folder() as folder:\n"
        "    (folder / 'large').write_bytes(bytes(1000)); print(folder, flush=True); time.sleep(60)"
    )
    command, environment = [sys.executable, "-c", work], {**os.environ, "TMPDIR": str(place), "HONE_LOG": "off"}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    made = [Path(str(one.stdout.readline()).strip()) for one in running if one.stdout]
    try:
        running[0].send_signal(signal.SIGKILL)
        running[0].wait()
        scratch._sweep.cache_clear()
        with scratch_folder() as own:
            assert folders(place) == sorted([made[1].name, own.name])
            assert (made[1] / "large").is_file()
    finally:
        running[1].kill()
        running[1].wait()
    scratch._sweep.cache_clear()
    with scratch_folder():
        pass
    assert folders(place) == []


def test_a_folder_of_another_machine_or_program_is_left_alone(place: Path) -> None:
    for name, owner in (("hone-other", "another machine"), ("hone-program", None)):
        (place / name).mkdir()
        if owner:
            (place / name / scratch.OWNER).write_text(owner)
    scratch._sweep.cache_clear()
    with scratch_folder():
        pass
    assert folders(place) == ["hone-other", "hone-program"]


def test_a_folder_that_somebody_removed_is_one_sentence(place: Path) -> None:
    def lose() -> None:
        with scratch_folder() as folder:
            shutil.rmtree(folder)
            (folder / "file").write_text("lost")

    with pytest.raises(UserError, match="was removed while it was in use; set TMPDIR"):
        lose()


def test_a_full_disk_is_one_sentence_and_any_other_missing_file_is_not(place: Path) -> None:
    with pytest.raises(UserError, match="the disk is full"), scratch_folder():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), scratch_folder() as folder:
        (folder / "never").read_text()


@pytest.mark.parametrize("write", ["weights", "tokenizer", "table", "text"])
def test_a_full_disk_is_one_sentence_whatever_library_was_writing(place: Path, write: str) -> None:
    """A file that may not grow stands for the disk: what the system answers differs in its number alone."""
    tokenizer = tiny.word_pieces([f"word{number}" for number in range(2_000)])
    uses: dict[str, Callable[[Path], object]] = {
        "weights": lambda path: save_file({"a": torch.zeros(10_000)}, path),
        "tokenizer": lambda path: tokenizer.save_pretrained(path),
        "table": lambda path: pq.write_table(pa.table({"a": np.random.default_rng(7).random(10_000)}), path),
        "text": lambda path: path.write_text("a" * 20_000),
    }
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, most[1]))
    try:
        said = rf"the disk is full \({place}.*\); free space and run again"
        with pytest.raises(UserError, match=said), scratch_folder() as folder:
            uses[write](folder / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)


def test_without_a_place_for_scratch_the_user_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    with pytest.raises(UserError, match=r"cannot make a scratch folder .*TMPDIR"), scratch_folder():
        pass
