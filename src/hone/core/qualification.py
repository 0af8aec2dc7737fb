"""Is the teacher better than the student? A wrong teacher ruins a run, so this is asked before the bulk is paid for."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hone.core.metrics import PRIMARY, effectiveness, trec_order

SATURATED = 0.5
"""A teacher with this share of its scores at the two ends of their range tells too few documents apart."""


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
    caution: str = ""
    """Why the figures may flatter the teacher, if they may."""

    def as_fact(self) -> dict[str, object]:
        return asdict(self)


def qualify(
    judged: str,
    lists: Sequence[Sequence[str]],
    scores: Sequence[np.ndarray],
    relevant: Sequence[Mapping[str, int]],
    caution: str = "",
) -> Qualification:
    """Compares the student's lists, best first, with the same lists in the order of the teacher's scores.

    `relevant` are doc_id to relevance of each query; `caution` is handed on.
    """
    if not lists:
        return Qualification("none", PRIMARY, 0.0, 0.0, 0, False, "there are no queries to compare them on")
    student, teacher, reversed_teacher = (
        float(np.mean(effectiveness(rankings, relevant)[PRIMARY]))
        for rankings in (lists, _ranked(lists, scores, 1), _ranked(lists, scores, -1))
    )
    reason = flaw_of(scores)
    if not reason and teacher <= student:
        reason = f"its {PRIMARY} of {teacher:.4f} is not above the student's {student:.4f}"
        if reversed_teacher > student:
            reason += f"; its scores are reversed: lowest first it reaches {reversed_teacher:.4f}"
    return Qualification(judged, PRIMARY, round(student, 6), round(teacher, 6), len(lists), not reason, reason, caution)


def flaw_of(scores: Sequence[np.ndarray]) -> str:
    """What is wrong with a teacher's scores in themselves, or an empty string."""
    every = np.concatenate([np.asarray(part, dtype=np.float64) for part in scores]) if scores else np.zeros(0)
    if len(every) == 0:
        return "it scored nothing"
    if not np.isfinite(every).all():
        return f"{int((~np.isfinite(every)).sum())} of its {len(every)} scores are not finite"
    constant = sum(bool(np.ptp(part) == 0) for part in scores if len(part) > 1)
    if constant > len(scores) / 2:
        return f"it gives one and the same score to all documents of {constant} of {len(scores)} queries"
    margin = 1e-6 * np.ptp(every)
    ends = int(((every <= every.min() + margin) | (every >= every.max() - margin)).sum())
    if ends > SATURATED * len(every) and len(every) > 2:
        return f"it is saturated: {ends} of its {len(every)} scores are {every.min():.6g} or {every.max():.6g}"
    return ""


def _ranked(lists: Sequence[Sequence[str]], scores: Sequence[np.ndarray], sign: int) -> list[list[str]]:
    worst = [np.nan_to_num(sign * values, nan=-np.inf) for values in scores]
    return [trec_order(ids, values.tolist())[0] for ids, values in zip(lists, worst, strict=True)]
