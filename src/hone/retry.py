"""How often and how long something that failed is tried again: every retry of Hone goes through here."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
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


def retried(
    call: Callable[[], T], backoff: Backoff, failed: Callable[[Exception, int], None], *kinds: type[Exception]
) -> T:
    """What `call` returns in the end.

    After a failure of one of `kinds`, `failed` is given it with the number of the try: it raises what ends the tries,
    and must do so after the last.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return call()
        except kinds as error:
            failed(error, attempt)
        time.sleep(backoff.wait(attempt))
