"""Documents, queries and candidates for the stage that scores."""

import random

import pyarrow as pa

from hone import tables

WORDS = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock", "wedge", "heat"]
DOCS, QUERIES, DEPTH = 60, 90, 6


def world(*, log: int = 0) -> dict[str, pa.Table]:
    """Documents of very different lengths, queries of words of one, and candidates that hold it; `log` without it."""
    draw = random.Random(5)
    texts = [" ".join(draw.choices(WORDS, k=draw.choice((3, 12, 40)))) for _ in range(DOCS)]
    ids = [f"d{number}" for number in range(DOCS)]
    queries = [(f"q{n}", ids[n % DOCS], " ".join(draw.choices(texts[n % DOCS].split(), k=4))) for n in range(QUERIES)]
    lists = [draw.sample([doc_id, *draw.sample([i for i in ids if i != doc_id], DEPTH - 1)], DEPTH)
             for _, doc_id, _ in queries]  # fmt: skip
    sources = ["" if number < log else doc_id for number, (_, doc_id, _) in enumerate(queries)]
    names, texts_of = [query_id for query_id, _, _ in queries], [text for *_, text in queries]
    return {
        "docs": tables.DOCS.of(ids, [""] * DOCS, texts, [False] * DOCS),
        "judged_queries": tables.JUDGED_QUERIES.of([], [], []),
        "qrels": tables.QRELS.of([], [], []),
        "queries": tables.QUERIES.of(names, texts_of, sources, ["x"] * QUERIES, ["search"] * QUERIES),
        "candidates": tables.CANDIDATES.of(names, lists, [[0.5] * DEPTH] * QUERIES, [[]] * QUERIES),
    }
