"""The documents of a job as its searchers and teachers see them: ids and vectors held, texts read from disk."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from hone.backends.encoders.families import BiEncoder, doc_text
from hone.backends.encoders.vectors import encode_docs
from hone.context import Job
from hone.results.mmap_column import MmapColumn
from hone.spent import growing


class Corpus:
    """Ids, texts and the student's unit vectors [n, d], all by position."""

    def __init__(self, job: Job, student: BiEncoder, label: str, token_budget: int) -> None:
        self.ids, self.vectors = encode_docs(job, student, student.model, label, token_budget)
        with growing("docs"):
            self.texts = MmapColumn[str](job.scratch, pa.large_string(), _texts(job))
            self._places = {doc_id: position for position, doc_id in enumerate(self.ids)}

    def places(self, doc_ids: Sequence[str]) -> np.ndarray:
        """[n] int64 positions of documents. Raises KeyError for one that is not there."""
        return np.array([self._places[doc_id] for doc_id in doc_ids], dtype=np.int64)


def _texts(job: Job) -> Iterator[pa.Array]:
    """Title and body of every document, some thousand at a time."""
    for batch in job.table("docs").batches(["title", "text"]):
        titles, texts = (column.to_pylist() for column in batch.columns)
        yield pa.array([doc_text(*pair) for pair in zip(titles, texts, strict=True)], pa.large_string())
