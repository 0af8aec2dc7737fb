"""The one shape of a stage: fingerprints, manifests, buckets, shards and what is written when."""

import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hone import tables
from hone.context import Job, Plan, Shard
from hone.engine.merge import merge_facts
from hone.errors import UserError
from hone.results.content_cache import ContentCache
from hone.results.manifest import Manifest, Output
from hone.results.table_io import TableReader, TableWriter
from hone.stages import STAGES, stage
from hone.storage.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def rows(count: int) -> pa.Table:
    ids = [f"d{number}" for number in range(count)]
    return tables.DOCS.of(ids, [""] * count, [f"text {id}" for id in ids], [False] * count)


def written(folder: Path, chunks: list[int]) -> list[bytes]:
    folder.mkdir(parents=True)
    writer = TableWriter(tables.DOCS, folder, 0)
    table, start = rows(sum(chunks)), 0
    for size in chunks:
        writer.write(table.slice(start, size))
        start += size
    writer.close()
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def result_of(store: LocalStore, scratch: Path, table: pa.Table) -> Manifest:
    """A finished result of prepare that holds these docs."""
    config = stage("prepare").Config.model_construct()
    job = Job(Plan("prepare", config, {}, {}, "f" * 16), store, scratch, Shard())
    with job.writer("docs") as writer:
        writer.write(table)
    outputs = {"docs": job.publish("docs")}
    return Manifest(
        stage="prepare", fingerprint="f" * 16, code="", version="", config={}, sources={}, inputs={},
        input_digests={}, outputs=outputs, facts={}, cost={}, seconds=0.0,
    )  # fmt: skip


def test_the_bytes_of_a_table_do_not_depend_on_how_it_was_written_in_pieces(tmp_path: Path) -> None:
    assert written(tmp_path / "a", [20_000]) == written(tmp_path / "b", [1, 8_191, 8_192, 3_000, 616])


def test_an_output_that_was_never_written_reads_as_an_empty_table(store: LocalStore, tmp_path: Path) -> None:
    reader = TableReader(tables.DOCS, Output(digest="", rows=0, parts=()), "prepare/x", store, tmp_path)
    assert reader.read().schema == tables.DOCS.schema
    assert reader.read().num_rows == 0


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_divide_the_rows_among_themselves(store: LocalStore, tmp_path: Path, count: int) -> None:
    manifest = result_of(store, tmp_path / "scratch", rows(5_000))
    seen: list[str] = []
    numbers: list[int] = []
    for index in range(count):
        scratch = tmp_path / f"shard{index}"
        scratch.mkdir()
        config = stage("generate").Config.model_construct()
        todo = Plan("generate", config, {"docs": manifest}, {}, "0" * 16)
        for bucket in Job(todo, store, scratch, Shard(index, count)).buckets("docs", by="doc_id"):
            seen += bucket.rows["doc_id"].to_pylist()
            numbers.append(bucket.number)
    assert sorted(seen) == sorted(f"d{number}" for number in range(5_000))
    assert sorted(numbers) == list(range(5))


def test_a_damaged_part_is_named_and_refused(store: LocalStore, tmp_path: Path) -> None:
    manifest = result_of(store, tmp_path / "scratch", rows(10))
    part = store.root / manifest.prefix / manifest.outputs["docs"].parts[0].path
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    reader = TableReader(tables.DOCS, manifest.outputs["docs"], manifest.prefix, store, tmp_path)
    with pytest.raises(UserError, match="missing or damaged") as caught:
        reader.read()
    assert manifest.outputs["docs"].parts[0].path in str(caught.value)


def test_of_eight_writers_of_one_object_exactly_one_makes_it(store: LocalStore) -> None:
    wins: list[bool] = []
    threads = [
        threading.Thread(target=lambda n=n: wins.append(store.create("a/manifest.json", b"%d" % n))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 7 + [True]


@pytest.mark.parametrize("text", ["", "3", "3/3", "-1/2", "a/b", "1/0"])
def test_a_shard_that_is_not_one_of_n_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not i/n"):
        Shard.parse(text)


def test_facts_of_shards_are_added_and_merged() -> None:
    shards = [{"kept": 2, "by": {"a": 1}, "note": "x"}, {"kept": 3, "by": {"a": 4, "b": 5}, "note": "y"}]
    assert merge_facts(shards) == {"kept": 5, "by": {"a": 5, "b": 5}, "note": "x"}


@pytest.fixture(scope="session")
def memo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memo")


@given(st.lists(st.lists(st.text(max_size=3), max_size=12), max_size=4), st.integers(1, 5))
def test_a_memo_answers_as_the_work_itself_and_works_once_for_a_text(
    memo_root: Path, calls: list[list[str]], chunk: int
) -> None:
    store, worked, identity = LocalStore(memo_root / "store"), list[str](), uuid.uuid4()
    for keys in calls:
        cache = ContentCache(store, "lengths", str(identity), pa.int64(), memo_root)

        def work(positions: list[int], keys: list[str] = keys) -> pa.Array:
            worked.extend(keys[position] for position in positions)
            return pa.array([len(keys[position]) for position in positions], pa.int64())

        assert cache.compute(keys, work, chunk=chunk).to_pylist() == [len(key) for key in keys]
    assert sorted(worked) == sorted({key for keys in calls for key in keys})


def test_every_stage_has_the_five_names_and_known_tables() -> None:
    made: set[str] = set()
    for name in STAGES:
        module = stage(name)
        assert module.IMAGE in ("cpu", "train", "vllm")
        assert set(module.READS) <= made, f"{name} reads what no earlier stage writes"
        assert set(module.WRITES) <= set(tables.OUTPUTS)
        assert callable(module.run)
        made |= set(module.WRITES)
    assert made == set(tables.OUTPUTS)


def test_every_setting_of_every_stage_is_documented() -> None:
    for name in STAGES:
        for field, info in stage(name).Config.model_fields.items():
            assert info.description, f"{name}.{field} has no docstring"


def test_every_number_of_every_stage_says_where_it_begins() -> None:
    def open_ended(at: str, schema: object) -> Iterator[str]:
        if isinstance(schema, dict):
            known = cast(dict[str, object], schema)
            if known.get("type") in ("integer", "number") and not known.keys() & {"minimum", "exclusiveMinimum"}:
                yield at
            for key, inner in known.items():
                yield from open_ended(f"{at}.{key}", inner)
        for inner in cast(list[object], schema) if isinstance(schema, list) else ():
            yield from open_ended(at, inner)

    assert [found for name in STAGES for found in open_ended(name, stage(name).Config.model_json_schema())] == []


def test_a_memo_works_over_a_store_that_can_only_be_read(store: LocalStore, tmp_path: Path) -> None:
    store.root.mkdir()
    (store.root / "memo").write_text("no folder can be made here")
    cache = ContentCache(store, "lengths", "x", pa.int64(), tmp_path)
    assert cache.compute(["a", "bb"], lambda at: pa.array([at[0] + 1, 2], pa.int64())).to_pylist() == [1, 2]


def test_a_damaged_part_of_a_memo_is_left_out_and_paid_for_again(store: LocalStore, tmp_path: Path) -> None:
    def lengths(keys: list[str]) -> tuple[list[int], list[str]]:
        cache, worked = ContentCache(store, "lengths", "x", pa.int64(), tmp_path), list[str]()

        def work(positions: list[int]) -> pa.Array:
            worked.extend(keys[position] for position in positions)
            return pa.array([len(keys[position]) for position in positions], pa.int64())

        return cache.compute(keys, work, chunk=2).to_pylist(), worked

    keys = ["a", "bb", "ccc", "dddd"]
    assert lengths(keys) == ([1, 2, 3, 4], keys)
    part = next(path for path in store.root.rglob("*.arrow"))
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    found, worked = lengths(keys)
    assert found == [1, 2, 3, 4]
    assert len(worked) == 2
