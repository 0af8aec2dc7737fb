"""Is what is served what was measured? A served model's vectors beside those of a run's tuned model, and its test
queries searched through it."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from hone import tables
from hone.backends import encoders, search
from hone.backends.encoders.families import doc_text
from hone.context import Job, Shard
from hone.evaluation.metrics import PRIMARY, effectiveness
from hone.evaluation.rankings import answer
from hone.evaluation.test_collections import Judged, read_judged
from hone.progress import task
from hone.results.manifest import Manifest
from hone.results.table_io import Docs, TableReader, fetch_folder
from hone.serving.embedding_endpoint import Endpoint
from hone.serving.endpoint_causes import Cause, Side, encoded, explained, of_length, prefix_of
from hone.serving.finished import finished
from hone.serving.tables import drawn
from hone.stages import evaluate
from hone.storage.base import Store

SEED = 17
DEPTH = 100
"""Documents retrieved for each query, as evaluate does."""
LONGEST = 8
"""Of the sample, so many are the longest documents there are: they show where a server cuts."""
TEXTS_AT_ONCE = 1_024


@dataclass(frozen=True)
class Tolerance:
    """What may differ: 1 - cosine of a text's two vectors, and nDCG@10."""

    vectors: float
    ndcg: float


@dataclass(frozen=True)
class Checked:
    """What was found."""

    sides: tuple[Side, ...]
    causes: dict[Cause, tuple[str, ...]] = field(default_factory=dict[Cause, tuple[str, ...]])
    """With the roles of the texts that it was found for."""
    split: str = ""
    queries: int = 0
    measured: float = 0.0
    """nDCG@10 of the tuned model on these queries, as the report has it."""
    served: float = 0.0
    """The same through the endpoint."""
    differs: bool = False


def check(
    store: Store,
    run_name: str,
    endpoint: Endpoint,
    scratch: Path,
    tolerance: Tolerance,
    *,
    sample: int,
    most_queries: int,
    documents: bool,
) -> Checked:
    """Compares `sample` documents and at most `most_queries` test queries (0: all). With `documents` the endpoint
    encodes the whole corpus for the search, else the queries alone. Raises UserError if the run is not finished."""
    done, plan = finished(store, run_name)
    job, config = Job(plan, store, scratch, Shard()), cast(evaluate.Config, plan.config)
    encoder = encoders.Encoder(fetch_folder(store, done["distill"], "model", scratch), config.student)
    asked = _test_queries(job, config, str(done["evaluate"].facts["split"]), most_queries)
    sides = [_side("document", _sampled(job.table("docs"), sample), endpoint, encoder)]
    checked = Checked(tuple(sides))
    if asked:
        sides.append(_side("query", asked.texts, endpoint, encoder))
        ids, vectors = encoders.encode_by(job, encoder, "check: encode docs", job.table("docs"))
        if documents:
            vectors = _served_docs(job.table("docs"), endpoint, encoder)
        checked = Checked(
            tuple(sides),
            split=asked.sets[0],
            queries=len(asked.ids),
            measured=_measured(job, done["evaluate"], asked),
            served=_searched(asked, ids, sides[1].served, vectors),
        )
    base = lambda: encoders.Encoder(job.source(config.student.model), config.student)  # noqa: E731
    causes: dict[Cause, tuple[str, ...]] = {}
    for side in sides:
        for cause in (*of_length(side, encoder), *explained(side, encoder, endpoint.prompts, base, tolerance.vectors)):
            causes[cause] = (*causes.get(cause, ()), side.role)
    far = abs(checked.served - checked.measured) > tolerance.ndcg
    return replace(checked, causes=causes, differs=bool(causes) or far)


def _side(role: str, texts: list[str], endpoint: Endpoint, encoder: "encoders.Encoder") -> Side:
    return Side(role, texts, _served(role, texts, endpoint, encoder), encoded(encoder, role, texts))


def _served(role: str, texts: Sequence[str], endpoint: Endpoint, encoder: "encoders.Encoder") -> np.ndarray:
    prefix = prefix_of(encoder, role) if endpoint.prompts == "client" else ""
    return endpoint.vectors([prefix + text for text in texts], role)


def _served_docs(docs: Docs, endpoint: Endpoint, encoder: "encoders.Encoder") -> np.ndarray:
    """Every document's vector by the endpoint, in the order of the table."""
    vectors: list[np.ndarray] = []
    with task("check: docs by the endpoint", docs.rows, "docs") as progress:
        for batch in docs.batches(["title", "text"]):
            texts = list(_texts([batch]))
            for at in range(0, len(texts), TEXTS_AT_ONCE):
                vectors.append(_served("document", texts[at : at + TEXTS_AT_ONCE], endpoint, encoder))
                progress.advance(len(vectors[-1]))
    return np.concatenate(vectors)


def _sampled(docs: Docs, count: int) -> list[str]:
    """Texts of documents: the longest few, and others drawn at random, the same each time."""
    longest: list[str] = []
    for text in _texts(docs.batches(["title", "text"])):
        longest = heapq.nlargest(min(LONGEST, count), {*longest, text}, key=lambda text: (len(text), text))
    others = _texts(drawn(docs.batches(["title", "text"]), count).to_batches())
    return [*longest, *(text for text in others if text not in longest)][:count]


def _texts(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    for batch in batches:
        yield from map(doc_text, *(column.to_pylist() for column in batch.columns))


def _test_queries(job: Job, config: evaluate.Config, name: str, most: int) -> Judged | None:
    """At most so many of the queries that the report's first line rests on; None where they are of another corpus."""
    own = next((judged for judged in read_judged(job, (), config.seed, config.same_ids) if name in judged.roles), None)
    if own is None:
        return None
    places = own.of(name)
    if most and len(places) > most:
        places = sorted(np.random.default_rng(SEED).permutation(places)[:most].tolist())
    return replace(
        own,
        ids=[own.ids[at] for at in places],
        texts=[own.texts[at] for at in places],
        sets=[own.sets[at] for at in places],
        judgements=[own.judgements[at] for at in places],
    )


def _measured(job: Job, manifest: Manifest, asked: Judged) -> float:
    """Mean nDCG@10 of the tuned model's vectors on these queries."""
    wanted, name, values = {*asked.ids}, asked.sets[0], list[float]()
    reader = TableReader(tables.MEASURES, manifest.outputs["measures"], manifest.prefix, job.store, job.scratch)
    for batch in reader.batches():
        for row in batch.to_pylist():
            key = row["set"], row["system"], row["measure"]
            if key == (name, "tuned", PRIMARY) and row["query_id"] in wanted:
                values.append(row["value"])
    return float(np.mean(values))


def _searched(asked: Judged, ids: list[str], queries: np.ndarray, vectors: np.ndarray) -> float:
    """Mean nDCG@10 by the dot product of these vectors; 0 where they cannot be compared."""
    if queries.shape[1] != vectors.shape[1]:
        return 0.0
    positions, scores = search.top_k(queries, vectors, DEPTH + 1)
    rankings = [
        answer(asked, at, [ids[place] for place in places], values.tolist(), DEPTH).doc_ids
        for at, (places, values) in enumerate(zip(positions, scores, strict=True))
    ]
    return float(effectiveness(rankings, asked.judgements)[PRIMARY].mean())
