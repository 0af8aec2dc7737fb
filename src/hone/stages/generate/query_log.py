"""A log of real queries without judgements: how often each was asked, and which were first asked lately."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from hone.core.hashing import drawn
from hone.core.query_text import comparable
from hone.core.rejection import Rejection
from hone.inputs.readers.times import Moment, moment, seconds
from hone.stages.generate.settings import Log

REMEMBERED = 20_000
"""So many of the latest different queries are hashed once."""


@dataclass(frozen=True)
class QueryLog:
    """What one pass over a log yields, in 24 bytes per distinct query.

    `keys` [n] float64, sorted, are hashes of the comparable queries; `counts` [n] int64 how often each was asked;
    `firsts` [n] int64 its first place in the order of time; `rows` all queries of the log.
    """

    keys: np.ndarray
    counts: np.ndarray
    firsts: np.ndarray
    rows: int

    @classmethod
    def read(cls, rows: Iterable[tuple[str, str, Any]], settings: Log) -> "QueryLog":
        """From (where, query, time) in any order; equal times, and none at all, keep the order of the log. Raises
        UserError naming the line of what is not a time."""
        hashes: list[float] = []
        key = lru_cache(REMEMBERED)(_key)
        moments: list[Moment] = []
        places: list[str] = []
        for where, text, time in rows:
            hashes.append(key(text))
            if settings.time_field:
                moments.append(moment(time, where, settings.time_format))
                places.append(where)
        times = seconds(moments, places) if settings.time_field else np.arange(len(hashes))
        by_time = np.argsort(times, kind="stable")
        ordered = np.array(hashes, dtype=np.float64)[by_time]
        keys, firsts, counts = np.unique(ordered, return_index=True, return_counts=True)
        return cls(keys, counts, firsts, len(hashes))

    def fault(self, text: str, min_count: int, holdout: float) -> Rejection | None:
        """Why a query of the log is left out: it was asked too rarely, or first in the last `holdout` share of the
        log, which is kept for measuring."""
        at = int(np.searchsorted(self.keys, _key(text)))
        if self.firsts[at] >= round(self.rows * (1 - holdout)):
            return Rejection("held out: first asked lately", text)
        if self.counts[at] < min_count:
            return Rejection("asked too rarely", f"{self.counts[at]} of {min_count} times: {text}")
        return None


def _key(text: str) -> float:
    return drawn(comparable(text))
