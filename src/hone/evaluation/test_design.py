"""What is kept out of training for a test: its queries always, their documents where enough others stay."""

from typing import Literal

Design = Literal["documents", "queries"]
ENOUGH = 0.2
"""Least share of the documents that must stay for training. Where nearly every document is judged relevant for some
test query (complete judgements), holding them out would leave nothing to learn from."""


def design(docs: int, relevant: int) -> Design:
    """documents: those relevant for test queries are held out too. queries: only the test queries are."""
    return "documents" if docs - relevant >= ENOUGH * docs else "queries"
