"""How much of the documents a student reads. What lies beyond its limit is neither searched nor trained on."""

from collections.abc import Iterable
from typing import NamedTuple

TOLD_FROM = 0.1
"""Share of longer documents from which on it is told."""


class Reading(NamedTuple):
    """What a student reads of a sample of documents."""

    docs: int
    limit: int
    """The most tokens that it reads of one."""
    longer: float
    """The share of documents that have more."""
    unread: float
    """The share of all tokens that lie beyond."""

    @classmethod
    def of(cls, lengths: Iterable[tuple[int, int]], limit: int) -> "Reading":
        """By how many tokens of each document are read, and how many it has."""
        docs, longer, read, every = 0, 0, 0, 0
        for kept, whole in lengths:
            docs, longer, read, every = docs + 1, longer + (kept < whole), read + kept, every + whole
        return cls(docs, limit, _share(longer, docs), _share(every - read, every))

    @property
    def told(self) -> str:
        """What to say of it; nothing where few are cut."""
        if self.longer < TOLD_FROM:
            return ""
        return (
            f"{self.longer:.0%} of the documents are longer than the {self.limit:,} tokens that the student reads: "
            f"{self.unread:.0%} of the text is neither searched nor trained on; give passages instead of whole "
            "documents"
        )


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
