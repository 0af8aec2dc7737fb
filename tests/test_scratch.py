"""Scratch folders go with their process, however it ends; a full or vanished one is one sentence."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hone import scratch
from hone.errors import UserError
from hone.scratch import scratch_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


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


def test_without_a_place_for_scratch_the_user_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place / "nowhere"))
    with pytest.raises(UserError, match=r"cannot make a scratch folder .*TMPDIR"), scratch_folder():
        pass
