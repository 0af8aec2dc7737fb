"""Why something was left out: a fixed phrase, the same for all that one rule drops, and what in particular."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rejection:
    """Why a draft is dropped: a fixed phrase, and what in particular."""

    reason: str
    detail: str


EXAMPLES_KEPT = 3


def note_drop(facts: dict[str, Any], source: str, style: str, fault: Rejection) -> None:
    """Counts a dropped query in the facts, by source, style and reason, with a few examples."""
    reasons = facts.setdefault("dropped", {}).setdefault(source, {}).setdefault(style, {})
    reason = reasons.setdefault(fault.reason, {"count": 0, "examples": []})
    reason["count"] += 1
    if len(reason["examples"]) < EXAMPLES_KEPT:
        reason["examples"].append(fault.detail)
