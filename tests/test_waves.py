"""Early exit: what is kept, and its scores, are those of scoring everything."""

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hone.core.early_exit import beats, best_first, score_in_waves

SCORES = st.one_of(st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf]), st.floats(width=32))
IDS = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "z", "é", "d1", "d10"])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[str]], list[str], list[np.ndarray]]:
    """Candidates, sources and the score of every candidate: few distinct values, so that many tie."""
    lists = draw(st.lists(st.lists(IDS, unique=True, max_size=12), max_size=6))
    sources = [draw(st.sampled_from(["", "elsewhere", *ids, *ids[-1:]])) for ids in lists]
    scores = [np.array(draw(st.lists(SCORES, min_size=len(ids), max_size=len(ids))), np.float32) for ids in lists]
    return lists, sources, scores


def exhaustive(lists: list[list[str]], sources: list[str], scores: list[np.ndarray]) -> list[np.ndarray | None]:
    """The slow, readable twin: score all, sort, look whether the source is first."""
    kept: list[np.ndarray | None] = []
    for ids, source, values in zip(lists, sources, scores, strict=True):
        comparable = [math.inf if math.isnan(value) else -value for value in values.tolist()]
        ranked = sorted(zip(np.isnan(values).tolist(), comparable, ids, strict=True))
        first = ranked[0][2] if ranked else ""
        kept.append(values if not source or first == source else None)
    return kept


@given(problems(), st.lists(st.integers(1, 4), max_size=4))
def test_early_exit_keeps_the_queries_and_scores_that_exhaustive_scoring_keeps(
    problem: tuple[list[list[str]], list[str], list[np.ndarray]], waves: Sequence[int]
) -> None:
    lists, sources, scores = problem
    asked: list[tuple[int, int]] = []

    def score(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        asked.extend(pairs)
        return np.array([scores[query][at] for query, at in pairs], dtype=np.float32)

    found = score_in_waves(lists, sources, score, waves)
    for own, expected in zip(found, exhaustive(lists, sources, scores), strict=True):
        assert (own is None) == (expected is None)
        if own is not None:
            np.testing.assert_array_equal(own, expected)
    assert len(asked) == len(set(asked))
    for query, source in enumerate(sources):
        if source and source not in lists[query]:
            assert not any(pair[0] == query for pair in asked)


@given(st.lists(st.tuples(IDS, SCORES), min_size=1, max_size=12, unique_by=lambda pair: pair[0]))
def test_the_first_of_a_list_is_the_one_that_no_other_beats(pairs: list[tuple[str, float]]) -> None:
    ids = [doc_id for doc_id, _ in pairs]
    scores = np.array([score for _, score in pairs], dtype=np.float32)
    first = best_first(scores, ids)[0]
    others = [at for at in range(len(ids)) if at != first]
    assert not any(beats(scores[at], ids[at], scores[first], ids[first]) for at in others)


def test_a_loser_costs_two_pairs_and_a_winner_all() -> None:
    asked: list[tuple[int, int]] = []

    def score(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
        asked.extend(pairs)
        return np.array([{("s", 0): 1.0, ("s", 1): 9.0}.get((lists[query][at], query), 5.0) for query, at in pairs])

    lists = [[f"d{n}" for n in range(99)] + ["s"]] * 2
    lost, kept = score_in_waves(lists, ["s", "s"], score)
    assert lost is None
    assert kept is not None
    assert [sum(query == own for query, _ in asked) for own in (0, 1)] == [2, 100]
