"""Queries and documents that share an id: taken for the same only where they are."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from hone import tables
from hone.evaluation.rankings import answer
from hone.evaluation.test_collections import Judged, SameIds, themselves

LONG = "homework should be banned because it takes the time of children " * 6
DOCS = [
    ("1", "", "the fee for a parking space"),
    ("2", "Homework", LONG),
    ("3", "Lift", "a wing that is swept"),
    ("4", "", "a wing that stalls"),
    ("5", "", "heat"),
]
ASKED = {
    "1": "how long is a wing",
    "2": f"Homework {LONG} and more than the document was cut to",
    "3": "A wing that is swept!",
    "4": "a wing that stalls",
    "x": "heat",
}


def judged(judgements: dict[str, dict[str, int]]) -> Judged:
    rows = tables.DOCS.of(*zip(*[(*doc, False) for doc in DOCS], strict=True))

    def batches(columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from rows.select(columns).to_batches()

    docs: Any = SimpleNamespace(rows=len(DOCS), batches=batches)
    known = [judgements.get(query_id, {}) for query_id in ASKED]
    return Judged(docs, {"test": "domain"}, list(ASKED), list(ASKED.values()), ["test"] * len(ASKED), known)


@pytest.mark.parametrize(
    ("same_ids", "left_out"),
    [("same text", {"2", "3"}), ("leave out", {"1", "2", "3", "4"}), ("keep", set())],
)
def test_a_document_is_the_query_only_where_its_text_is_too_and_nobody_judged_it_relevant(
    same_ids: SameIds, left_out: set[str]
) -> None:
    found = themselves(judged({"4": {"4": 1}, "3": {"3": 0, "1": 1}}), same_ids)
    assert found.itself == left_out
    for at, query_id in enumerate(found.ids):
        ranked = answer(found, at, ["5", "4", "3", "2", "1"], [5.0, 4.0, 3.0, 2.0, 1.0], 10).doc_ids
        assert (query_id in ranked) is (query_id != "x" and query_id not in left_out)
