"""A content cache pays once, whatever is added to it in whatever pieces, and holds little in memory."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hone.results import content_cache
from hone.results.content_cache import ContentCache, Index
from hone.storage.local import LocalStore

KEYS = st.lists(st.sampled_from([f"k{number}" for number in range(30)]), max_size=12)


@settings(max_examples=40)
@given(st.lists(st.tuples(KEYS, st.integers(1, 6), st.booleans()), max_size=6))
def test_every_key_gets_its_value_and_is_paid_for_once(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[list[str], int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("memo")
    store = LocalStore(folder / "store")
    made = ContentCache(store, "m", "i", pa.list_(pa.int64(), 2), folder)
    paid: list[str] = []
    for keys, chunk, again in calls:
        if again:  # as another process would find it
            made = ContentCache(store, "m", "i", pa.list_(pa.int64(), 2), folder)

        def work(places: list[int], keys: list[str] = keys) -> pa.Array:
            paid.extend(keys[place] for place in places)
            return pa.array([[int(keys[place][1:]), 7] for place in places], pa.list_(pa.int64(), 2))

        assert made.compute(keys, work, chunk).to_pylist() == [[int(key[1:]), 7] for key in keys]
    assert sorted(paid) == sorted({key for keys, *_ in calls for key in keys})


@given(st.lists(st.lists(st.integers(0, 40), unique=True, max_size=8), max_size=12), st.lists(st.integers(0, 45)))
def test_an_index_finds_what_a_dictionary_finds(pieces: list[list[int]], asked: list[int]) -> None:
    index, known = Index(), dict[int, int]()
    for piece in pieces:
        new = [key for key in piece if key not in known]
        places = list(range(len(known), len(known) + len(new)))
        known.update(zip(new, places, strict=True))
        index.add(np.array(new, dtype=np.uint64), np.array(places, dtype=np.int64))
    assert index.find(np.array(asked, dtype=np.uint64)).tolist() == [known.get(key, -1) for key in asked]


def test_adding_piece_by_piece_sorts_little_more_than_once(monkeypatch: pytest.MonkeyPatch) -> None:
    handled, real = [0], content_cache._sorted

    def counting(hashes: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        handled[0] += len(hashes)
        return real(hashes, places)

    monkeypatch.setattr(content_cache, "_sorted", counting)
    index, pieces = Index(), np.random.default_rng(0).permutation(64_000).astype(np.uint64).reshape(1_000, 64)
    for number, piece in enumerate(pieces):
        index.add(piece, np.arange(64) + 64 * number)
    assert handled[0] < 64_000 * (np.log2(1_000) + 2)  # sorting all at each piece handles 500 times 64,000
    assert len(index._runs) <= np.log2(1_000)
