"""Whatever bytes the readers are given, they read them or raise the one error that is told in a sentence."""

import gzip
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chain
from hone.core.text import Chunking
from hone.engine import record
from hone.errors import UserError
from hone.inputs import readers
from hone.results.manifest import Manifest, Part, load_manifest, output_of
from hone.settings import check, parse_yaml
from hone.storage.local import LocalStore

pytestmark = pytest.mark.long

EXAMPLES = 150
JUNK = (b"\0", b"\xff", b"\n", b"\t", b'"', b"{", b"[", b"]", b"%2e", b"../", b"&a", b"*a", b"!!", b"9" * 40, b"e999")
Edit = tuple[str, int, bytes]
fuzzed = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(("insert", "replace", "cut", "double")),
        st.integers(0, 1 << 16),
        st.sampled_from(JUNK) | st.binary(max_size=8),
    ),
    min_size=1,
    max_size=4,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """The bytes after some edits, each at its own place."""
    for kind, place, junk in changes:
        at = place % (len(data) + 1)
        if kind == "insert":
            data = data[:at] + junk + data[at:]
        elif kind == "replace":
            data = data[:at] + junk + data[at + len(junk) :]
        elif kind == "cut":
            data = data[:at]
        else:
            data = data[:at] + data[at // 2 :]
    return data


def replaced(value: Any, place: int, other: Any) -> Any:
    """Plain data with one of its values, counted in depth, replaced."""
    left = place

    def walk(node: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            left = 1 << 30
            return other
        if isinstance(node, dict):
            return {key: walk(inner) for key, inner in node.items()}
        return [walk(inner) for inner in node] if isinstance(node, list) else node

    return walk(value)


def corpus(suffix: str, folder: Path) -> Path:
    path = folder / f"corpus{suffix}"
    rows = [{"_id": f"d{n}", "title": "Wing", "text": f"the lift of wing {n} \u00e9\u2028"} for n in range(5)]
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, pa.Table.from_pylist(rows).schema) as stream:
            stream.write_table(pa.Table.from_pylist(rows))
    elif suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), "utf-8")
    elif suffix == ".csv.gz":
        path.write_bytes(gzip.compress(corpus(".csv", folder).read_bytes()))
    elif suffix == ".rst":
        path.write_text("".join(f"Wing {at}\n======\n\n{row['text']}\n\n" for at, row in enumerate(rows)), "utf-8")
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    elif suffix == ".md":
        path.write_text("\n".join(f"# {row['title']}\n\n{row['text']}\n" for row in rows), "utf-8")
    else:
        between = "\t" if suffix == ".tsv" else ","
        lines = [list(rows[0]), *([f'"{value}"' for value in row.values()] for row in rows)]
        path.write_text("\n".join(between.join(line) for line in lines), "utf-8")
    return path


def read(path: Path) -> None:
    found, fields = readers.layout(path), readers.Fields()
    corpus = readers.Corpus(found, fields, Chunking(20, 5, 200))
    for where, row in corpus.documents():
        assert where.startswith(str(path))
        assert all(isinstance(value, str) for value in readers.document(where, row, fields))
    assert readers.count_documents(found) >= 0
    assert corpus.said()


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".md", ".rst", ".csv.gz"])
@fuzzed
@given(changes=edits)
def test_any_corpus_file_is_read_or_refused(suffix: str, tmp_path: Path, changes: list[Edit]) -> None:
    path = corpus(suffix, tmp_path)
    path.write_bytes(edited(path.read_bytes(), changes))
    with suppress(UserError):
        read(path)


@fuzzed
@given(changes=edits)
def test_any_judgements_are_read_or_refused(tmp_path: Path, changes: list[Edit]) -> None:
    path = tmp_path / "test.tsv"
    path.write_bytes(edited(b"query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t0\nq3\t../../x\t-1\n", changes))
    with suppress(UserError):
        for _, query_id, doc_id, relevance in readers.qrels(path):
            assert isinstance(relevance, int)
            assert "\t" not in query_id + doc_id


@fuzzed
@given(changes=edits)
def test_any_settings_file_is_read_or_refused(changes: list[Edit]) -> None:
    text = edited(yaml.safe_dump({"name": "r", **chain.SETTINGS}).encode(), changes).decode("utf-8", "replace")
    with suppress(UserError):
        check(parse_yaml(text, "s.yaml"), "s.yaml", Path())


@fuzzed
@given(place=st.integers(1, 40), other=values)
def test_settings_with_any_value_anywhere_are_taken_or_refused(place: int, other: Any) -> None:
    data = replaced({"name": "r", **chain.SETTINGS}, place, other)
    with suppress(UserError):
        check(data, "s.yaml", Path())


def manifest() -> Manifest:
    parts = [Part(path=f"docs/{n}.parquet", rows=3, bytes=9, sha256=str(n) * 64) for n in range(2)]
    return Manifest(
        stage="prepare", fingerprint="0" * 16, code="c", version="v", config={"a": [1]}, sources={"s": "d"},
        inputs={"docs": "prepare/0"}, input_digests={"docs": "d"}, outputs={"docs": output_of(parts)},
        facts={"n": 1}, cost={"tokens": 2.0}, seconds=1.0,
    )  # fmt: skip


def loaded(store: LocalStore, data: bytes) -> None:
    """A manifest that is read has parts below its prefix only."""
    key = "prepare/0000000000000000/manifest.json"
    store.replace(key, data)
    with suppress(UserError):
        found = load_manifest(store, key)
        assert found
        assert found.prefix == "prepare/0000000000000000"
        for name, output in found.outputs.items():
            assert all(part.path.startswith(name) and ".." not in part.path.split("/") for part in output.parts)


@fuzzed
@given(changes=edits)
def test_any_bytes_of_a_manifest_are_read_or_refused(tmp_path: Path, changes: list[Edit]) -> None:
    loaded(LocalStore(tmp_path), edited(manifest().model_dump_json().encode(), changes))


@fuzzed
@given(place=st.integers(1, 40), other=values)
def test_a_manifest_with_any_value_anywhere_is_read_or_refused(tmp_path: Path, place: int, other: Any) -> None:
    data = replaced(json.loads(manifest().model_dump_json()), place, other)
    loaded(LocalStore(tmp_path), json.dumps(data).encode())


def test_no_input_that_coverage_leads_to_brings_any_reader_down() -> None:
    harness = Path(__file__).parent / "support/fuzzing.py"
    # Linux counts what this process has used at its peak as the child's: the limit is far above it.
    command = [sys.executable, str(harness), "-runs=2000", "-seed=7", "-verbosity=0", "-rss_limit_mb=16384"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2_000:]


@fuzzed
@given(changes=edits)
def test_any_record_of_a_run_is_read_or_refused(tmp_path: Path, changes: list[Edit]) -> None:
    store = LocalStore(tmp_path)
    store.replace("runs/r.json", edited(json.dumps({"mine": "mine/0123456789abcdef"}).encode(), changes))
    with suppress(UserError):
        assert all(prefix.count("/") == 1 and ".." not in prefix for prefix in record.recorded(store, "r").values())
