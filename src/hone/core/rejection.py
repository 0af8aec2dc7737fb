"""Why something was left out: a fixed phrase, the same for all that one rule drops, and what in particular."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rejection:
    """Why a draft is dropped: a fixed phrase, and what in particular."""

    reason: str
    detail: str
