"""Progress of long work: one line that stays in place in a terminal or notebook, a line every ten seconds elsewhere.

HONE_PROGRESS=off shows none. A line is never wider than the terminal.
"""

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TextIO

from hone.launch import is_helper
from hone.spent import growing

LOG_EVERY_SECONDS = 10.0
REDRAW_SECONDS = 0.1
BAR = 16
USUAL_WIDTH = 80
CLEAR = "\r\x1b[2K"
_leg: ContextVar["Leg | None"] = ContextVar("leg", default=None)
_innermost: ContextVar["Task | None"] = ContextVar("innermost", default=None)


@dataclass(frozen=True)
class Leg:
    """Where on a longer way the work of a block is: stage `number` of `count`, and the seconds that come after it."""

    number: int
    count: int
    seconds_after: float | None = None


@contextmanager
def leg(number: int, count: int, seconds_after: float | None = None) -> Generator[None]:
    """Every line of progress in the block begins with `number/count`, and says when all of it will be done."""
    mark = _leg.set(Leg(number, count, seconds_after))
    try:
        yield
    finally:
        _leg.reset(mark)


class Task:
    """One measured piece of work. `advance` is cheap and may be called for every row."""

    def __init__(self, name: str, total: int, unit: str, stream: TextIO, *, expected: bool = False) -> None:
        self.name, self.total, self.unit, self.stream, self.expected = name, total, unit, stream, expected
        self.done = self.skipped = 0
        self.note = ""
        self.started = self.shown = time.monotonic()
        self.live = stays_in_place(stream)
        self.silent = is_helper() or os.environ.get("HONE_PROGRESS") == "off"

    def advance(self, count: int = 1, note: str = "") -> None:
        """Counts `count` more units; `note` is a short text shown at the end of the line, such as a loss."""
        self.done += count
        self.note = note or self.note
        now = time.monotonic()
        if now - self.shown >= (REDRAW_SECONDS if self.live else LOG_EVERY_SECONDS):
            self.shown = now
            self.show()

    def say(self, text: str) -> None:
        """Its own line above the progress."""
        self._write(f"{CLEAR if self.live else ''}{text}\n")

    def skip(self, count: int) -> None:
        """Counts units that an earlier run did: they are done, and say nothing about the rate."""
        self.skipped += count
        self.advance(count)

    def resume(self, done: int) -> None:
        """Says that an earlier run came this far, and goes on from there."""
        if done:
            self.skip(done)
            self._write(f"{self._label()} goes on from {self.unit.removesuffix('s')} {done:,} of {self.total:,}\n")

    def show(self, *, last: bool = False) -> None:
        seconds = time.monotonic() - self.started
        fresh = self.done - self.skipped
        rate = fresh / seconds if seconds > 0 else 0.0
        parts = [f"{self._count(last=last)} {self.unit}"]
        parts += [pace(rate)] if fresh else []
        parts.append(self._times(seconds, rate, last=last))
        line = f"{self._label()}: {', '.join(parts)}"
        line += f"  {self.note}" if self.note else ""
        if not self.live:
            self._write(f"{line}\n")
            return
        share = self.done / self.total if self.total else float(last)
        bar = "━" * round(BAR * min(1.0, share))
        # One column less than there are: a full line would make some terminals begin a new one.
        whole = f"{bar:·<{BAR}} {line}"[: width(self.stream) - 1]
        self._write(f"{CLEAR}{whole}" + ("\n" if last else ""))

    def _count(self, *, last: bool) -> str:
        if not self.total or (self.expected and (last or self.done > self.total)):
            return f"{self.done:,}"
        return f"{self.done:,}/{'~' * self.expected}{self.total:,}"

    def _label(self) -> str:
        where = _leg.get()
        return f"{where.number}/{where.count} {self.name}" if where else self.name

    def _times(self, seconds: float, rate: float, *, last: bool) -> str:
        if last or not (self.total and rate):
            return f"in {clock(seconds)}"
        left = max(0, self.total - self.done) / rate
        where = _leg.get()
        if where is None or not where.seconds_after:
            return f"{clock(left)} left"
        return f"{clock(left)} left, {clock(left + where.seconds_after)} for all"

    def _write(self, text: str) -> None:
        if not self.silent:
            self.stream.write(text)
            self.stream.flush()


@contextmanager
def task(name: str, total: int, unit: str, stream: TextIO | None = None, *, expected: bool = False) -> Generator[Task]:
    """Shows the progress of `total` units of work (0: nobody knows how many) while the block runs, whose seconds are
    noted as growing with that unit. An `expected` total is what chance gives on average."""
    running = Task(name, total, unit, stream or sys.stderr, expected=expected)
    mark = _innermost.set(running)
    try:
        with growing(unit):
            yield running
    finally:
        _innermost.reset(mark)
    running.show(last=True)


def tell(note: str) -> None:
    """Shows a short text at the end of the line of whatever is under way, whose next unit may be long in coming."""
    if running := _innermost.get():
        running.advance(0, note)


def stays_in_place(stream: TextIO) -> bool:
    """Whether a line can be written over: in a terminal, and in a notebook."""
    return stream.isatty() or "ipykernel" in sys.modules


def width(stream: TextIO) -> int:
    """Columns of the terminal that a stream writes to; the usual ones if it is none or does not say."""
    if given := os.environ.get("COLUMNS", ""):
        return int(given) if given.isdecimal() and int(given) > 1 else USUAL_WIDTH
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL_WIDTH
    except (OSError, ValueError):
        return USUAL_WIDTH


def pace(rate: float) -> str:
    """Units a second as `2.5/s`, of slow work as `1.4/min` or `2.0/h`."""
    per, unit = next(((per, unit) for per, unit in ((1, "s"), (60, "min")) if rate * per >= 1), (3600, "h"))
    return f"{rate * per:,.1f}/{unit}"


def clock(seconds: float) -> str:
    """Seconds as `13s`, `2m05s` or `1h20m`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
