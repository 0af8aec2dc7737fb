"""Measures are those of trec_eval to the last digits."""

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from hone.evaluation.metrics import MEASURES, effectiveness, trec_order

DOCS = st.sampled_from([f"d{number}" for number in range(30)] + ["é", "z", "Z", "文"])
QRELS = st.dictionaries(DOCS, st.integers(-1, 3), min_size=1, max_size=15)
# Few distinct scores make ties; the close pair differs in double precision only.
RUN = st.dictionaries(DOCS, st.sampled_from([0.0, 0.25, 0.5, 0.5 + 1e-12, -1.0, 3.0]), max_size=25)
TREC = {"nDCG@10": "ndcg_cut_10", "Recall@100": "recall_100", "MRR@10": "recip_rank", "MAP@100": "map_cut_100"}


def ours(run: dict[str, dict[str, float]], qrels: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    rankings = [trec_order(list(run.get(query, {})), list(run.get(query, {}).values()))[0] for query in qrels]
    values = effectiveness(rankings, list(qrels.values()))
    return {query: {name: values[name][row] for name in MEASURES} for row, query in enumerate(qrels)}


@settings(deadline=None)
@given(st.lists(st.tuples(QRELS, RUN), min_size=1, max_size=4))
def test_every_measure_equals_trec_eval_with_ties_grades_and_unjudged_documents(
    queries: list[tuple[dict[str, int], dict[str, float]]],
) -> None:
    qrels = {f"q{number}": judged for number, (judged, _) in enumerate(queries)}
    run = {f"q{number}": found for number, (_, found) in enumerate(queries) if found}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut", "recall", "recip_rank", "map_cut"}).evaluate(run)
    for query, values in ours(run, qrels).items():
        for name, value in values.items():
            expected = theirs[query][TREC[name]] if query in run else 0.0
            if name == "MRR@10" and expected < 1 / 10:
                expected = 0.0
            assert value == pytest.approx(expected, abs=1e-12), (query, name)


@given(QRELS, RUN)
def test_ndcg_equals_its_definition_written_out(judged: dict[str, int], found: dict[str, float]) -> None:
    ranking = sorted(found, key=lambda doc: (np.float32(found[doc]), doc), reverse=True)[:10]
    dcg = sum(max(0, judged.get(doc, 0)) / math.log2(rank + 1) for rank, doc in enumerate(ranking, 1))
    best = sorted((max(0, grade) for grade in judged.values()), reverse=True)[:10]
    ideal = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(best, 1))
    value = ours({"q": found}, {"q": judged})["q"]["nDCG@10"]
    assert value == pytest.approx(dcg / ideal if ideal else 0.0)


def test_a_query_without_results_counts_as_zero() -> None:
    values = effectiveness([[], ["a"]], [{"a": 1}, {"a": 1}])
    assert [values[name].tolist() for name in MEASURES] == [[0.0, 1.0]] * len(MEASURES)


def test_a_query_without_relevant_documents_counts_as_zero() -> None:
    assert all(value.tolist() == [0.0] for value in effectiveness([["a"]], [{"a": 0}]).values())


def test_the_first_relevant_document_at_rank_eleven_does_not_count_for_mrr_at_ten() -> None:
    ranking = [f"d{number}" for number in range(100)]
    assert effectiveness([ranking], [{"d10": 1}])["MRR@10"][0] == 0
    assert effectiveness([ranking], [{"d9": 1}])["MRR@10"][0] == pytest.approx(0.1)


def test_no_queries_give_no_values() -> None:
    assert {len(value) for value in effectiveness([], []).values()} == {0}
