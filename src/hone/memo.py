"""Results that are paid for once: embeddings, teacher scores and generated text, kept in the store by content.

A memo belongs to one identity (a model's digest and the parameters that shape its answers) and maps the hash of a text
to its result. A changed corpus pays only for changed texts, and a killed stage goes on at the last finished chunk.
"""

import hashlib
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hone.log import log
from hone.progress import Task
from hone.store import Store, sha256_of

FETCHES = 8
SUFFIX = ".arrow"


class Memo:
    """One memo; parts are small Arrow files that any number of writers add to without meeting."""

    def __init__(self, store: Store, name: str, identity: str, type: pa.DataType, scratch: Path) -> None:
        self.store, self.scratch = store, scratch
        self.folder = f"memo/{name}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self.schema = pa.schema([("key", pa.uint64()), ("value", type)])
        with ThreadPoolExecutor(FETCHES) as pool:
            parts = list(pool.map(self._open, [found.key for found in store.objects(self.folder)]))
        self.known = pa.concat_tables([self.schema.empty_table(), *parts])
        self._index()

    def compute(
        self,
        keys: Sequence[str],
        work: Callable[[list[int]], pa.Array],
        chunk: int = 1024,
        task: Task | None = None,
    ) -> pa.ChunkedArray:
        """The value of every key, in order; `work(positions)` gives those that are not known yet.

        Chunks are cut from all keys, not from the missing ones, so that a resumed run batches as an uninterrupted one.
        """
        hashes = np.array([_hash(key) for key in keys], dtype=np.uint64)
        for start in range(0, len(hashes), chunk):
            part = hashes[start : start + chunk]
            first = np.sort(np.unique(part, return_index=True)[1])
            missing = first[~self._knows(part[first])]
            if len(missing):
                values = work([start + int(position) for position in missing])
                self._add(part[missing], values)
            if task:
                task.advance(len(part))
        return self.known["value"].take(pa.array(self._rows(hashes)))

    def _knows(self, hashes: np.ndarray) -> np.ndarray:
        if not len(self.sorted):
            return np.zeros(len(hashes), dtype=bool)
        places = np.minimum(np.searchsorted(self.sorted, hashes), len(self.sorted) - 1)
        return self.sorted[places] == hashes

    def _rows(self, hashes: np.ndarray) -> np.ndarray:
        return self.order[np.searchsorted(self.sorted, hashes)] if len(hashes) else np.zeros(0, np.int64)

    def _add(self, hashes: np.ndarray, values: pa.Array | pa.ChunkedArray) -> None:
        table = pa.Table.from_arrays([pa.array(hashes), values], schema=self.schema)
        path = self.scratch / f"memo-{uuid.uuid4().hex}{SUFFIX}"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self.schema) as writer:
            writer.write_table(table)
        self.store.put(f"{self.folder}/{sha256_of(path)}{SUFFIX}", path)
        self.known = pa.concat_tables([self.known, table])
        self._index()

    def _index(self) -> None:
        keys = np.asarray(pc.cast(self.known["key"], pa.uint64()))
        self.order = np.argsort(keys, kind="stable")
        self.sorted = keys[self.order]

    def _open(self, key: str) -> pa.Table:
        """One part, which is named by its sha256. A damaged one is left out: what it held is paid for again."""
        path = self.store.fetch(key, self.scratch)
        if f"{sha256_of(path)}{SUFFIX}" != key.rpartition("/")[2]:
            log.warning("memo part damaged", part=key)
            return self.schema.empty_table()
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().cast(self.schema)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
