"""The documents of a job as its searchers and teachers see them: ids and vectors held, texts read from disk."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa

from hone.backends.vectors import encode_docs
from hone.core.families import Student, doc_text
from hone.job import Job


class Texts(Sequence[str]):
    """Title and body of every document by its position, memory-mapped: a reader pays for what it touches."""

    def __init__(self, job: Job) -> None:
        path = job.scratch / f"texts-{uuid.uuid4().hex}.arrow"
        _write(job, path)
        self._column: pa.ChunkedArray = pa.ipc.open_file(pa.memory_map(str(path))).read_all()["text"]

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._column[index]
        return found.to_pylist() if isinstance(index, slice) else found.as_py()

    def at(self, positions: Sequence[int] | np.ndarray) -> list[str]:
        """The texts at these positions."""
        return self._column.take(pa.array(positions, pa.int64())).to_pylist()


class Corpus:
    """Ids, texts and the student's unit vectors [n, d], all by position."""

    def __init__(self, job: Job, student: Student, label: str, token_budget: int) -> None:
        self.ids, self.vectors = encode_docs(job, student, student.model, label, token_budget)
        self.texts = Texts(job)
        self._places = {doc_id: position for position, doc_id in enumerate(self.ids)}

    def places(self, doc_ids: Sequence[str]) -> np.ndarray:
        """[n] int64 positions of documents. Raises KeyError for one that is not there."""
        return np.array([self._places[doc_id] for doc_id in doc_ids], dtype=np.int64)


def _write(job: Job, path: Path) -> None:
    schema = pa.schema([("text", pa.large_string())])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in job.table("docs").batches(["title", "text"]):
            titles, texts = (column.to_pylist() for column in batch.columns)
            joined = [doc_text(title, text) for title, text in zip(titles, texts, strict=True)]
            writer.write_batch(pa.record_batch([pa.array(joined, pa.large_string())], schema=schema))
