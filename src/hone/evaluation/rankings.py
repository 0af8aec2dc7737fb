"""What systems retrieved for the queries of a test collection, and how well that was."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from hone.evaluation.metrics import effectiveness, trec_order
from hone.evaluation.summary import Measured, Values
from hone.evaluation.test_collections import SYNTHETIC, Judged
from hone.spent import growing

DOCUMENT_FACTS = ("judged_docs", "judged_docs_dropped", "held_out")
"""What a set's part of metrics.json says of its documents."""


@dataclass(frozen=True)
class Ranking:
    """One system's answer to one query, in trec_eval's order."""

    doc_ids: list[str]
    scores: list[float]


Answers = dict[str, dict[int, Ranking]]
"""System to position of a query to what it retrieved; a system may have been asked some queries only."""


@dataclass(frozen=True)
class Result:
    """What every system retrieved for one test set; positions count the queries of this set."""

    name: str
    judged: Judged
    answers: Answers
    opinions: Mapping[int, Ranking]
    """The teacher's ranking of what the base retrieved, for those of the queries that it was asked about."""

    @cached_property
    def values(self) -> Values:
        """System to measure to values [q], nan where a system was not asked."""
        return {system: self._measured(answers) for system, answers in self.answers.items()}

    def measured(self) -> Measured:
        """The set as the summary wants it."""
        judged = self.judged
        return Measured(
            self.name, judged.roles[self.name], self.name == SYNTHETIC, judged.texts, self.values, judged.judged_by,
            self._documents(),
        )  # fmt: skip

    @growing("docs")
    def _documents(self) -> dict[str, Any]:
        """How many documents are judged and how many of them are not in what is searched; for the corpus itself, the
        test design: whether training went without the test queries alone or without the relevant documents too."""
        judged = {doc_id for grades in self.judged.judgements for doc_id in grades}
        relevant = {doc_id for grades in self.judged.judgements for doc_id, grade in grades.items() if grade > 0}
        there = trained_on = 0
        for batch in self.judged.docs.batches(["doc_id", "held_out"]):
            for doc_id, held_out in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                there += doc_id in judged
                trained_on += doc_id in relevant and not held_out
        design = "" if not self.judged.own else "queries" if trained_on else "documents"
        return dict(zip(DOCUMENT_FACTS, (len(judged), len(judged) - there, design), strict=True))

    def _measured(self, answers: Mapping[int, Ranking]) -> dict[str, np.ndarray]:
        asked = sorted(answers)
        values = effectiveness([answers[at].doc_ids for at in asked], [self.judged.judgements[at] for at in asked])
        whole = {name: np.full(len(self.judged.ids), np.nan) for name in values}
        for name, column in values.items():
            whole[name][asked] = column
        return whole


def ranking(doc_ids: Sequence[str], scores: Sequence[float], depth: int, left_out: str = "") -> Ranking:
    """The first `depth` documents, without the one that is the query itself."""
    pairs = [pair for pair in zip(doc_ids, scores, strict=True) if pair[0] != left_out]
    ids, values = trec_order([doc_id for doc_id, _ in pairs], [score for _, score in pairs])
    return Ranking(ids[:depth], values[:depth])


def answer(judged: Judged, at: int, doc_ids: Sequence[str], scores: Sequence[float], depth: int) -> Ranking:
    """What a system retrieved for the query at this position: the first `depth` documents."""
    query_id = judged.ids[at]
    return ranking(doc_ids, scores, depth, query_id if query_id in judged.itself else "")


def extremes(base: np.ndarray, tuned: np.ndarray, most: int) -> tuple[list[int], list[int]]:
    """Positions of the queries that gained most and of those that lost most, at most so many of each."""
    order = sorted(range(len(base)), key=lambda at: base[at] - tuned[at])
    won = [at for at in order if tuned[at] > base[at]]
    lost = [at for at in reversed(order) if tuned[at] < base[at]]
    return won[:most], lost[:most]


def by_set(judged: Judged, answers: Answers, opinions: Mapping[int, Ranking]) -> Iterator[Result]:
    """The results of each set apart."""
    for name in judged.roles:
        places = judged.of(name)
        parts = {
            system: {new: rankings[old] for new, old in enumerate(places) if old in rankings}
            for system, rankings in answers.items()
        }
        own = replace(
            judged,
            ids=[judged.ids[at] for at in places],
            texts=[judged.texts[at] for at in places],
            sets=[name] * len(places),
            judgements=[judged.judgements[at] for at in places],
        )
        yield Result(name, own, parts, {new: opinions[old] for new, old in enumerate(places) if old in opinions})
