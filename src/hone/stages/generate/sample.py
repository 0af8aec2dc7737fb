"""Which documents are asked about."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hone.backends.encoders.families import doc_text
from hone.context import Job
from hone.core.hashing import hashed
from hone.spent import growing


@dataclass(frozen=True)
class Doc:
    """A document that is asked about."""

    doc_id: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        return doc_text(self.title, self.text)


@dataclass(frozen=True)
class Sample:
    """Which documents are asked about: not held out, and among the `size` smallest hashes of seed and id."""

    seed: int
    size: int
    limit: int
    shared_titles: Set[int]

    @classmethod
    @growing("docs")
    def draw(cls, job: Job, seed: int, most: int) -> "Sample":
        """One pass over the corpus that keeps 8 bytes per document: every shard draws the same sample."""
        hashes: list[np.ndarray] = []
        titles: list[np.ndarray] = []
        for batch in job.table("docs").batches(["doc_id", "title", "held_out"]):
            ids, names, held_out = (column.to_pylist() for column in batch.columns)
            free = [doc_id for doc_id, held in zip(ids, held_out, strict=True) if not held]
            hashes.append(np.array([hashed(seed, doc_id) for doc_id in free], dtype=np.uint64))
            titles.append(np.array([hashed("title", name) for name in names if name], dtype=np.uint64))
        order = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
        size = min(most, len(order))
        return cls(seed, size, int(order[size - 1]) if size else -1, _repeated(titles))

    def chosen(self, rows: pa.Table) -> Iterator[Doc]:
        """The sampled documents among rows of docs. A title that several documents share tells none of them apart and
        is left out."""
        columns = (rows[name].to_pylist() for name in ("doc_id", "title", "text", "held_out"))
        for doc_id, title, text, held_out in zip(*columns, strict=True):
            if not held_out and hashed(self.seed, doc_id) <= self.limit:
                yield Doc(doc_id, "" if hashed("title", title) in self.shared_titles else title, text)


def _repeated(titles: list[np.ndarray]) -> Set[int]:
    values, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *titles]), return_counts=True)
    return set(values[counts > 1].tolist())
