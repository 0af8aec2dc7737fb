"""Progress in a real terminal (a pty) and outside one."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

from hone import progress
from hone.progress import Task, leg, pace, task, tell

LONG = "loss 0.123456, listwise 0.123456, contrast 0.123456, anchor 0.123456, rate 0.0001, norm 1.234"
SCRIPT = f"""
import time
from hone.progress import task
with task("distill: train", 6, "steps") as shown:
    for step in range(6):
        time.sleep(0.11)
        shown.advance(1, {LONG!r})
"""


def in_terminal(code: str, columns: int, **environment: str) -> str:
    """What a Python program writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    usual = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "HONE_PROGRESS")}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env={**usual, **environment}
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        found += piece
    os.close(ours)
    assert child.wait() == 0, found.decode()
    return found.decode()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_line_of_progress_is_never_wider_than_the_terminal(columns: int) -> None:
    written = in_terminal(SCRIPT, columns)
    lines = [line for line in written.split("\r\x1b[2K") if line]
    assert len(lines) > 3
    assert max(len(line.rstrip("\r\n")) for line in lines) < columns
    assert written.count("\n") == 1  # every step was written over, but for the last


def test_hone_progress_off_shows_none() -> None:
    assert in_terminal(SCRIPT, 80, HONE_PROGRESS="off") == ""


def test_outside_a_terminal_there_are_whole_lines_and_no_control_characters() -> None:
    stream = io.StringIO()
    with task("mine: search", 2, "queries", stream) as shown:
        shown.advance(2, LONG)
    assert stream.getvalue().startswith("mine: search: 2/2 queries, ")
    assert stream.getvalue().endswith(f"  {LONG}\n")
    assert "\x1b" not in stream.getvalue()


def test_an_expected_total_is_called_so_and_left_out_once_it_is_known_better() -> None:
    stream = io.StringIO()
    with task("generate", 24, "drafts", stream, expected=True) as shown:
        shown.advance(20)
        shown.show()
        shown.advance(6)
    assert [line.split(",")[0] for line in stream.getvalue().splitlines()] == [
        "generate: 20/~24 drafts",
        "generate: 26 drafts",
    ]


def test_rate_and_time_left_come_from_this_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = Task("distill: train", 120, "steps", stream)
    shown.resume(80)
    now[0] = 20.0
    shown.advance(10)
    said = stream.getvalue().splitlines()
    assert said[0] == "distill: train goes on from step 80 of 120"
    assert said[1] == "distill: train: 90/120 steps, 30.0/min, 1m00s left"


@pytest.mark.parametrize(
    ("rate", "said"), [(1234.5, "1,234.5/s"), (1.0, "1.0/s"), (1 / 43, "1.4/min"), (1 / 90, "40.0/h"), (1e-6, "0.0/h")]
)
def test_slow_work_has_its_pace_by_the_minute_or_the_hour(rate: float, said: str) -> None:
    assert pace(rate) == said


def test_a_unit_that_is_long_in_coming_is_told_of_at_the_innermost_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    stream = io.StringIO()
    tell("nobody is there to hear it")
    with task("score", 2, "queries", stream):
        with task("encode", 1, "docs", stream):
            tell("half of it")
        tell("64 pairs")
    assert [line.split(", in")[0] for line in stream.getvalue().splitlines()] == [
        "encode: 0/1 docs",
        "encode: 0/1 docs",
        "score: 0/2 queries",
        "score: 0/2 queries",
    ]
    assert stream.getvalue().count("  64 pairs\n") == 2


def test_a_stage_says_which_it_is_and_when_all_will_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with leg(3, 9, 300.0):
        shown = Task("mine: search", 40, "queries", stream)
        now[0] = 20.0
        shown.advance(10)
    assert stream.getvalue() == "3/9 mine: search: 10/40 queries, 30.0/min, 1m00s left, 6m00s for all\n"
