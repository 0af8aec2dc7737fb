"""Progress of long work: a bar with rate and time left in a terminal, a line every ten seconds in a log."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

from hone.launch import is_helper

LOG_EVERY_SECONDS = 10.0


class Task:
    """One measured piece of work. `advance` is cheap and may be called for every row."""

    def __init__(self, name: str, total: int, unit: str, stream: TextIO) -> None:
        self.name, self.total, self.unit, self.stream = name, total, unit, stream
        self.done = 0
        self.note = ""
        self.started = self.shown = time.monotonic()
        self.terminal = stream.isatty()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts `count` more units; `note` is a short text shown at the end of the line, such as a loss."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self.shown >= (0.1 if self.terminal else LOG_EVERY_SECONDS):
            self.shown = now
            self.show()

    def say(self, text: str) -> None:
        """A line of its own above the progress."""
        if not is_helper():
            self.stream.write(f"\r\x1b[2K{text}\n" if self.terminal else f"{text}\n")
            self.stream.flush()

    def show(self, *, last: bool = False) -> None:
        if is_helper():
            return
        seconds = time.monotonic() - self.started
        rate = self.done / seconds if seconds > 0 else 0.0
        share = self.done / self.total if self.total else float(last)
        count = f"{self.done:,}/{self.total:,}" if self.total else f"{self.done:,}"
        line = f"{self.name}: {count} {self.unit}, {rate:,.1f}/s, {self._clock(seconds, rate, last=last)}"
        line += f"  {self.note}" if self.note else ""
        if self.terminal:
            bar = "━" * round(20 * min(1.0, share))
            self.stream.write(f"\r\x1b[2K{bar:·<20} {line}" + ("\n" if last else ""))
        else:
            self.stream.write(line + "\n")
        self.stream.flush()

    def _clock(self, seconds: float, rate: float, *, last: bool) -> str:
        if last or not (self.total and rate):
            return f"in {_clock(seconds)}"
        return f"{_clock(max(0, self.total - self.done) / rate)} left"


@contextmanager
def task(name: str, total: int, unit: str, stream: TextIO | None = None) -> Generator[Task]:
    """Shows the progress of `total` units of work (0: nobody knows how many) while the block runs."""
    running = Task(name, total, unit, stream or sys.stderr)
    yield running
    running.show(last=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
