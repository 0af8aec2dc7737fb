"""Hybrid search: how two rankings become one."""

import pytest

from hone.evaluation.hybrid import best_weight, fused
from hone.evaluation.rankings import Ranking

DENSE = Ranking(["a", "b", "c"], [0.9, 0.8, 0.1])
LEXICAL = Ranking(["c", "d"], [12.0, 4.0])


def test_reciprocal_ranks_ignore_scores_and_count_from_60() -> None:
    found = fused(DENSE, LEXICAL, 3)
    assert found.doc_ids == ["c", "a", "d"]
    assert found.scores == pytest.approx([1 / 63 + 1 / 61, 1 / 61, 1 / 62], abs=1e-6)


def test_weights_add_scores_of_which_each_list_is_scaled_to_0_and_1() -> None:
    found = fused(DENSE, LEXICAL, 4, 0.25)
    assert dict(zip(found.doc_ids, found.scores, strict=True)) == pytest.approx(
        {"a": 0.75, "b": 0.75 * 0.875, "c": 0.25, "d": 0.0}, abs=1e-6
    )
    assert fused(Ranking([], []), Ranking(["d"], [3.0]), 4, 0.25) == Ranking(["d"], [0.25])


def test_dev_queries_choose_the_least_share_of_bm25_that_is_best() -> None:
    assert best_weight([DENSE], [LEXICAL], [{"a": 1}], 10) == 0.1
    assert best_weight([DENSE], [LEXICAL], [{"c": 1}], 10) == 0.5
