"""A student over the documents of a run, for whoever asks it queries: vectors mapped, no torch where that can be.

The first time, the student is loaded in full, and what it makes of the corpus is kept in the store. After that nothing
is encoded, copied or imported again: vectors are mapped from the store, and a query goes through `NumpyEncoder`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from hone.backends import encoders, search
from hone.backends.encoders.families import BiEncoder
from hone.context import Job
from hone.results import kept_vectors

IDENTITY = set(BiEncoder.model_fields) - {"model", "packed"}
"""The settings that shape a student's vectors, beside the model's own content."""


class QueryEncoder(Protocol):
    """What makes vectors of queries."""

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Queries to [n, d] float32 vectors."""
        ...


@dataclass(frozen=True)
class Retriever:
    """A student over documents: `vectors` [n, d] float32 are theirs, in the order of `ids`."""

    encoder: QueryEncoder
    ids: pa.Array
    vectors: np.ndarray

    def best(self, query: str, most: int) -> list[tuple[str, float]]:
        """The documents of largest inner product and their scores, best first, ties by position."""
        positions, scores = search.best_of(self.vectors @ self.encoder.queries([query])[0], most)
        return [
            (self.ids[place].as_py(), score) for place, score in zip(positions.tolist(), scores.tolist(), strict=True)
        ]


def retriever(job: Job, student: BiEncoder, model: Path, digest: str) -> Retriever:
    """A student with the weights in the folder `model`, whose content has this digest, over the job's documents."""
    docs = job.table("docs")
    made_from = docs.output.digest, digest
    place = kept_vectors.place(made_from, student.model_dump(mode="json", include=IDENTITY))
    if known := kept_vectors.fetched(job.store, place, job.scratch):
        file, form = known
        return Retriever(
            encoders.NumpyEncoder(model, form) if form else encoders.Encoder(model, student), *_mapped(file)
        )
    encoder = encoders.Encoder(model, student)
    made = job.scratch / f"search-{digest}"
    file, form = made.with_suffix(".arrow"), made.with_suffix(".safetensors")
    _write(file, *encoders.encode_by(job, encoder, "search: encode docs", docs))
    alone = encoders.write_numpy_form(encoder, model, form)
    kept_vectors.keep(job.store, place, made_from, file, *([form] if alone else []))
    return Retriever(encoders.NumpyEncoder(model, form) if alone else encoder, *_mapped(file))


def _write(file: Path, ids: Sequence[str], vectors: np.ndarray) -> None:
    """Ids and vectors in one piece, so that both can be mapped."""
    flat = pa.array(np.ascontiguousarray(vectors).ravel(), pa.float32())
    rows = pa.record_batch(
        {
            "doc_id": pa.array(ids, pa.large_string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_batch(rows)


def _mapped(file: Path) -> tuple[pa.Array, np.ndarray]:
    """Ids, and vectors [n, d] that stay on disk until they are looked at."""
    rows = pa.ipc.open_file(pa.memory_map(str(file))).get_batch(0)
    vectors = rows["vector"]
    shape = len(vectors), vectors.type.list_size
    # Not by `to_numpy`, which imports pandas where it is installed: as long as all the rest.
    return rows["doc_id"], np.frombuffer(vectors.values.buffers()[1], np.float32, shape[0] * shape[1]).reshape(shape)
