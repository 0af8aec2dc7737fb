"""Results paid for once: token ids, embeddings, teacher scores and generated text, kept in the store by content.

A cache belongs to one identity (a model's digest and the parameters that shape its answers) and maps the hash of a text
to its result. A changed corpus pays only for changed texts, and a killed stage goes on at the last finished chunk.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from hone.log import log
from hone.progress import Task
from hone.storage.base import Object, ReadOnlyError, Store, sha256_of

USED = "used"
"""Beside the parts: when a cache was last opened, to the day."""
DAY = 86_400.0
FETCHES = 8
SUFFIX = ".arrow"
ROW_BITS = 32
"""A place is the number of a part and, in its lower bits, a row of it."""


class ContentCache:
    """The cache of one identity; parts are small Arrow files that any number of writers add to without meeting."""

    def __init__(self, store: Store, name: str, identity: str, type: pa.DataType, scratch: Path) -> None:
        self.store, self.scratch = store, scratch
        self.folder = f"memo/{name}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self.schema = pa.schema([("key", pa.uint64()), ("value", type)])
        self._parts: list[pa.ChunkedArray] = []
        self._index = Index()
        self._seen: set[str] = set()
        self._note_use(self.refresh())
        if known := sum(len(part) for part in self._parts):
            log.info("resumed", cache=name, known=known)

    def refresh(self) -> list[Object]:
        """Takes over what others have added since this cache was opened. Returns all that there is."""
        there = list(self.store.objects(self.folder))
        new = [one.key for one in there if one.key.endswith(SUFFIX) and one.key not in self._seen]
        self._seen.update(new)
        with ThreadPoolExecutor(FETCHES) as pool:
            for part in pool.map(self._fetch, new):
                self._remember(part)
        return there

    def _note_use(self, there: list[Object]) -> None:
        """`hone store gc` goes by it."""
        if there and max(one.modified for one in there) < time.time() - DAY:
            with suppress(ReadOnlyError):
                self.store.replace(f"{self.folder}/{USED}", b"{}")

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
            missing = first[self._index.find(part[first]) < 0]
            if len(missing):
                values = work([start + int(position) for position in missing])
                self._add(part[missing], values)
            if task:
                (task.advance if len(missing) else task.skip)(len(part))
        return self._values(self._index.find(hashes))

    def missing(self, keys: Sequence[str]) -> list[int]:
        """Positions of the keys that are not known yet, the first of equal ones."""
        hashes = np.array([_hash(key) for key in keys], dtype=np.uint64)
        first = np.sort(np.unique(hashes, return_index=True)[1])
        return first[self._index.find(hashes[first]) < 0].tolist()

    def add(self, keys: Sequence[str], values: pa.Array) -> None:
        """Keeps the values of keys that were not known."""
        self._add(np.array([_hash(key) for key in keys], dtype=np.uint64), values)

    def values(self, keys: Sequence[str]) -> pa.ChunkedArray:
        """The value of every key, all of which are known, in order."""
        return self._values(self._index.find(np.array([_hash(key) for key in keys], dtype=np.uint64)))

    def _values(self, places: np.ndarray) -> pa.ChunkedArray:
        """The values at these places, read from the parts that hold them and no others."""
        order = np.argsort(places, kind="stable")
        numbers, rows = places[order] >> ROW_BITS, places[order] & ((1 << ROW_BITS) - 1)
        distinct, starts = np.unique(numbers, return_index=True)
        pieces = zip(distinct, np.split(rows, starts)[1:], strict=True)
        chunks = [chunk for number, piece in pieces for chunk in self._parts[number].take(pa.array(piece)).chunks]
        values = pa.chunked_array(chunks, self.schema.field("value").type)
        return values.take(pa.array(np.argsort(order)))

    def _add(self, hashes: np.ndarray, values: pa.Array | pa.ChunkedArray) -> None:
        table = pa.Table.from_arrays([pa.array(hashes), values], schema=self.schema)
        path = self.scratch / f"memo-{uuid.uuid4().hex}{SUFFIX}"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self.schema) as writer:
            writer.write_table(table)
        key = f"{self.folder}/{sha256_of(path)}{SUFFIX}"
        try:
            self.store.put(key, path)
        except ReadOnlyError as error:  # `hone search` reads such a store too, and pays for it each time
            log.warning("cache not kept", part=key, error=str(error))
        self._seen.add(key)
        self._remember(self._open(path))

    def _remember(self, part: pa.Table) -> None:
        places = (len(self._parts) << ROW_BITS) + np.arange(part.num_rows)
        self._index.add(part["key"].to_numpy(), places)
        self._parts.append(part["value"])

    def _fetch(self, key: str) -> pa.Table:
        """One part, which is named by its sha256. A damaged one is left out: what it held is paid for again."""
        path, sha256 = self.store.fetch(key, self.scratch)
        if f"{sha256}{SUFFIX}" != key.rpartition("/")[2]:
            log.warning("cache part damaged", part=key)
            return self.schema.empty_table()
        return self._open(path)

    def _open(self, path: Path) -> pa.Table:
        """A part that stays on disk: what is not asked for takes no memory."""
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all().cast(self.schema)


class Index:
    """Hashes to places, as sorted runs of which each is more than twice as long as the next: adding costs n log n in
    all, however small the pieces, and a look-up as many searches as there are runs."""

    def __init__(self) -> None:
        self._runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, hashes: np.ndarray, places: np.ndarray) -> None:
        """[n] uint64 and [n] int64. Of a hash that is added twice, either place may be found."""
        if not len(hashes):
            return
        run = _sorted(hashes, places)
        while self._runs and len(self._runs[-1][0]) <= 2 * len(run[0]):
            last = self._runs.pop()
            run = _sorted(*(np.concatenate(parts) for parts in zip(last, run, strict=True)))
        self._runs.append(run)

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """[n] uint64 to [n] int64 places, -1 where there is none."""
        rows = np.full(len(hashes), -1, dtype=np.int64)
        for known, places in self._runs:
            at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            rows = np.where(known[at] == hashes, places[at], rows)
        return rows


def _sorted(hashes: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(hashes, kind="stable")  # merges two sorted runs in one pass
    return hashes[order], places[order]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
