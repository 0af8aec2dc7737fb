"""How often and how long something that failed is tried again: every retry of Hone goes through here."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """At most `attempts` tries; the waits between them double from `first` seconds up to `longest`.

    With `jitter` a wait is any part of that: processes that failed together do not come back together.
    """

    attempts: int
    first: float
    longest: float
    jitter: bool = True

    def wait(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th try, counted from 1."""
        whole = min(self.longest, self.first * 2 ** (attempt - 1))
        return random.uniform(0, whole) if self.jitter else whole


def steady(attempts: int, pause: float) -> Backoff:
    """The same pause after every try, as for something that is polled."""
    return Backoff(attempts, pause, pause, jitter=False)


def retried(
    call: Callable[[], T],
    backoff: Backoff,
    *kinds: type[Exception],
    lasting: Callable[[Exception, int], Exception] | None = None,
    failed: Callable[[Exception, int], None] | None = None,
) -> T:
    """What `call` returns in the end; an error of another kind than `kinds` passes through at once.

    `failed` sees every failure with the number of its try, and ends the tries by raising. After the last try the error
    itself is raised, or what `lasting` makes of it and of the number of tries.
    """
    for attempt in count(1):
        try:
            return call()
        except kinds as error:
            if failed:
                failed(error, attempt)
            if attempt >= backoff.attempts:
                if lasting is None:
                    raise
                raise lasting(error, attempt) from error
        time.sleep(backoff.wait(attempt))
    raise AssertionError("counting does not end")
