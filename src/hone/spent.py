"""What the seconds of a stage go into: a fixed part, such as imports and loading models, and parts that grow with an
amount, such as the documents. A run is forecast from those of an earlier one."""

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

FIXED = "fixed"
COMPARISONS = "comparisons"
"""Of every query with every document."""
Spent = tuple[float, float]
"""Seconds of the clock, and processor seconds of this process and of those it has waited for."""
_ledger: ContextVar["Ledger | None"] = ContextVar("ledger", default=None)


class Ledger:
    """Seconds by what they grow with. A block within another one counts once, as the inner one's; what other threads do
    meanwhile counts as what the first one waits for."""

    def __init__(self) -> None:
        self.seconds: dict[str, Spent] = {}
        self.thread = threading.get_ident()
        self._open, self._last = [FIXED], _now()

    def enter(self, unit: str) -> None:
        self._close()
        self._open.append(unit)

    def leave(self) -> None:
        self._close()
        self._open.pop()

    def _close(self) -> None:
        """Notes what passed since the last change."""
        now, unit = _now(), self._open[-1]
        before = self.seconds.get(unit, (0.0, 0.0))
        self.seconds[unit] = before[0] + now[0] - self._last[0], before[1] + now[1] - self._last[1]
        self._last = now


@contextmanager
def noted() -> Generator[dict[str, Spent]]:
    """Notes what a block takes: the dictionary is whole when it ends. One within another one counts by itself."""
    ledger = Ledger()
    mark = _ledger.set(ledger)
    try:
        yield ledger.seconds
    finally:
        _ledger.reset(mark)
        ledger.leave()


@contextmanager
def growing(unit: str) -> Generator[None]:
    """What this block, or the function that it decorates, takes grows with `unit`, such as docs, queries, comparisons
    or steps. Every progress bar is such a block. Where nobody notes it, and in other threads, nothing happens."""
    ledger = _ledger.get()
    if ledger is None or ledger.thread != threading.get_ident():
        yield
        return
    ledger.enter(unit)
    try:
        yield
    finally:
        ledger.leave()


def _now() -> Spent:
    used = os.times()
    return time.monotonic(), used.user + used.system + used.children_user + used.children_system
