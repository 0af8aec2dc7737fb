"""Is the teacher better than the student? A wrong teacher ruins a run, so this is asked before the bulk is paid for."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from hone.evaluation.metrics import PRIMARY, effectiveness, trec_order
from hone.evaluation.statistics import ALPHA, bootstrap_interval, randomisation_test

SATURATED = 0.5
"""A teacher with this share of its scores at the two ends of their range tells too few documents apart."""
HALVINGS = 100
PERMUTATIONS = 10_000
RESAMPLES = 10_000
SEED = 17


@dataclass(frozen=True)
class Qualification:
    """The finding, with its figures."""

    judged: str
    """human: dev judgements. synthetic: nobody judged; the document that a query was made from is its one answer."""
    measure: str
    student: float
    teacher: float
    """Where the queries chose among several, what their choices reach on queries that had no part in them."""
    p_value: float
    """Of the difference between the two, by the paired randomisation test, two-sided."""
    queries: int
    qualified: bool
    reason: str
    caution: str = ""
    """Why the figures may flatter the teacher, if they may."""
    kind: str = ""
    """What the queries are."""
    ci95: tuple[float, float] = (0.0, 0.0)
    """Of the difference between the two: how sure it is, on queries of this kind."""

    def as_fact(self) -> dict[str, object]:
        return {**asdict(self), "ci95": list(self.ci95)}  # as JSON gives it back


def qualify(
    judged: str,
    lists: Sequence[Sequence[str]],
    scores: Sequence[np.ndarray],
    relevant: Sequence[Mapping[str, int]],
    caution: str = "",
    unseen: np.ndarray | None = None,
    kind: str = "",
) -> Qualification:
    """Compares the student's lists, best first, with the same lists in the order of the teacher's scores.

    `relevant` are doc_id to relevance of each query; `caution` and `kind` are handed on. If these queries chose the
    teacher out of several, it is held to `unseen` [q], the result of `cross_fitted`.
    """
    if not lists:
        return Qualification("none", PRIMARY, 0.0, 0.0, 1.0, 0, False, "there are no queries to compare them on")
    of_student = effectiveness(lists, relevant)[PRIMARY]
    of_teacher = reached(lists, scores, relevant) if unseen is None else unseen
    student, teacher = float(of_student.mean()), float(of_teacher.mean())
    p_value = randomisation_test(of_teacher - of_student, PERMUTATIONS, SEED)
    reason = flaw_of(scores)
    if not reason and teacher <= student:
        reason = f"its {PRIMARY} of {teacher:.4f} is not above the student's {student:.4f}"
        if unseen is not None:
            reason += " on queries that had no part in choosing it"
        backwards = float(reached(lists, [-values for values in scores], relevant).mean())
        if backwards > student:
            reason += f"; its scores are reversed: lowest first it reaches {backwards:.4f}"
    elif not reason and p_value > ALPHA:
        chance = f"that it is better on {len(lists)} queries may be chance (p = {p_value:.2f}): judge more"
        caution = f"{caution}; {chance}" if caution else chance
    low, high = bootstrap_interval(of_teacher - of_student, RESAMPLES, SEED)
    figures = (round(student, 6), round(teacher, 6), round(p_value, 6))
    ci95 = (round(low, 6), round(high, 6))
    return Qualification(judged, PRIMARY, *figures, len(lists), not reason, reason, caution, kind, ci95)


def reached(
    lists: Sequence[Sequence[str]], scores: Sequence[np.ndarray], relevant: Sequence[Mapping[str, int]]
) -> np.ndarray:
    """[q] what the measure gives each list in the order of its scores; one that is not a number comes last."""
    worst = [np.nan_to_num(values, nan=-np.inf) for values in scores]
    ranked = [trec_order(ids, values.tolist())[0] for ids, values in zip(lists, worst, strict=True)]
    return effectiveness(ranked, relevant)[PRIMARY]


def best_choice(choices: np.ndarray, further: np.ndarray | None = None) -> int:
    """The row of [c, q], what each choice reached on each query, that has the best mean, ties by order.

    `further` [c] says how much of a choice is not the student's own opinion, from which a student learns nothing: of
    the choices that are within one standard error of the best, query by query, the one with most of it is taken, of
    equals the first: what queries cannot tell apart they shall not choose by.
    """
    queries = max(1, choices.shape[1])
    means = choices.sum(axis=1) / queries
    best = int(means.argmax())
    if further is None or queries == 1:
        return best
    error = (choices[best] - choices).std(axis=1) / math.sqrt(queries)
    near = np.flatnonzero(means[best] - means <= error)
    return int(min(near, key=lambda row: (-further[row], row)))


def cross_fitted(choices: np.ndarray, further: np.ndarray | None = None) -> np.ndarray:
    """[c, q] what each choice reached on each query to [q] what the query reaches with the `best_choice` of others.

    The best of several is best by luck too, on the queries that chose it. Here no query has a say in what it is
    measured with: the queries are halved at random, each half is measured with what the other half chose, and so on a
    hundred times, of which this is the mean: repeated two-fold cross-validation.
    """
    random, reached = np.random.default_rng(SEED), np.zeros(choices.shape[1])
    for _ in range(HALVINGS):
        halves = np.array_split(random.permutation(choices.shape[1]), 2)
        for chosen_by, measured in (halves, halves[::-1]):
            reached[measured] += choices[best_choice(choices[:, chosen_by], further), measured]
    return reached / HALVINGS


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
