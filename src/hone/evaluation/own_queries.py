"""Queries on which a teacher is tried where nobody has judged any; each is answered by its document.

Queries that training sees too would flatter the teacher most, and those cut from documents flatter one that matches
words. So where all of a run's queries are such extracts, new ones of another style are drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hone.context import Job
from hone.core import extractive

EXTRACTS = "extractive"
"""The source of queries that copy words of their document."""
FURTHEST_FIRST = ("search", "sentence", "span", "title")
"""Styles of extracts, those first that copy the least of their document's order of words."""


@dataclass(frozen=True)
class OwnQueries:
    """Queries by position, each with the document it was made from."""

    texts: list[str]
    doc_ids: list[str]
    kind: str
    """What they are, as a person reads it."""
    copied: bool
    """Whether any copies words of its document."""


def own_queries(job: Job, seed: int, most: int) -> OwnQueries:
    """At most so many of the run's own queries, or of extracts in a style that the run does not have. The same for
    every shard."""
    rows = [row for row in job.table("queries").read().to_pylist() if row["doc_id"]]
    written = [row for row in rows if row["source"] != EXTRACTS]
    styles = {row["style"] for row in rows if row["source"] == EXTRACTS}
    other = next((style for style in FURTHEST_FIRST if style not in styles), "")
    if rows and not written and other:
        drawn = dict(_extracts(job, other, seed, most))
        if drawn:
            kind = f"queries cut from documents, in a style that is not trained on ({other})"
            return OwnQueries(list(drawn.values()), list(drawn), kind, copied=True)
    there = written or rows
    order = np.random.default_rng(seed).permutation(len(there))[:most]
    chosen = [there[at] for at in sorted(order)]
    copied = any(row["source"] == EXTRACTS for row in chosen)
    kind = "queries of its own, which are trained on too"
    return OwnQueries([str(row["text"]) for row in chosen], [str(row["doc_id"]) for row in chosen], kind, copied)


def _extracts(job: Job, style: str, seed: int, most: int) -> Iterator[tuple[str, str]]:
    """doc_id and extract of documents drawn at random, held-out ones aside."""
    free: list[str] = []
    for batch in job.table("docs").batches(["doc_id", "held_out"]):
        free += [row["doc_id"] for row in batch.to_pylist() if not row["held_out"]]
    chosen = {free[at] for at in np.random.default_rng(seed).permutation(len(free))[:most]}
    for batch in job.table("docs").batches(["doc_id", "title", "text"]):
        for row in batch.to_pylist():
            if row["doc_id"] in chosen:
                words, doc_id = (row["title"], row["text"]), row["doc_id"]
                text = extractive.draw(style, *words, seed=seed, doc_id=doc_id, number=0)
                if text:
                    yield doc_id, text
