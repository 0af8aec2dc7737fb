"""Is the teacher better than the student? A wrong teacher ruins a run, so this is asked before the bulk is paid for."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class Qualification:
    """The finding, with its figures."""

    judged: str
    """human: dev judgements. synthetic: source documents of its own queries."""
    measure: str
    student: float
    teacher: float
    queries: int
    qualified: bool
    reason: str

    def as_fact(self) -> dict[str, object]:
        return asdict(self)


def qualify(judged: str, measure: str, student: np.ndarray, teacher: np.ndarray, flaw: str = "") -> Qualification:
    """Compares per-query effectiveness [q] of student and teacher; `flaw` names a defect of the scores themselves."""
    before, after = float(np.mean(student)), float(np.mean(teacher))
    reason = flaw or ("" if after > before else f"its {measure} of {after:.4f} is not above the student's {before:.4f}")
    return Qualification(judged, measure, round(before, 6), round(after, 6), len(student), not reason, reason)


def flaw_of(scores: Sequence[np.ndarray]) -> str:
    """What is wrong with a teacher's scores in themselves, or an empty string."""
    every = np.concatenate([np.asarray(part, dtype=np.float64) for part in scores]) if scores else np.zeros(0)
    if len(every) == 0:
        return "it scored nothing"
    if not np.isfinite(every).all():
        return f"{int((~np.isfinite(every)).sum())} of its scores are not finite"
    constant = sum(bool(np.ptp(part) == 0) for part in scores if len(part) > 1)
    if constant > len(scores) / 2:
        return f"it gives one and the same score to all documents of {constant} of {len(scores)} queries"
    return ""
