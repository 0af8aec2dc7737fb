"""Readers: the same documents from every kind of file, chunks of text files, and rows one after another."""

import itertools
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import corpora
from hone.core.text import Chunking, chunks, windows
from hone.errors import UserError
from hone.inputs import parquet_guard, readers

DOCS = [
    {"_id": "1", "title": "Lift", "text": "a wing, a so-called \"aerofoil\""},
    {"_id": "../../x", "title": "", "text": "two\nlines\tand a tab"},
    {"_id": "ü", "title": "<b>", "text": "Auftrieb für Flügel 翼"},
]  # fmt: skip
CHUNKINGS = st.builds(Chunking, words=st.integers(1, 6), overlap=st.integers(0, 8), chars=st.integers(8, 40))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_every_kind_of_table_gives_the_same_documents(tmp_path: Path, kind: str) -> None:
    path = corpora.table_file(tmp_path / f"corpus.{kind}", DOCS)
    format, files = readers.corpus_files(path)
    assert (format, files) == (kind, [path])
    assert [row for _, row in readers.documents(path, format, files, readers.USUAL_CHUNKS)] == DOCS
    assert readers.count_documents(format, files) >= len(DOCS)


def test_of_a_parquet_file_only_the_fields_asked_for_are_read(tmp_path: Path) -> None:
    path = corpora.parquet(tmp_path / "c.parquet", [{**row, "vector": [0.0] * 9} for row in DOCS])
    assert [row for _, row in readers.rows(path, ("_id", "text"))] == [
        {key: row[key] for key in ("_id", "text")} for row in DOCS
    ]
    assert "vector" in next(readers.rows(path, ("_id", "body")))[1]


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_unpack_to_what_an_honest_footer_says(tmp_path: Path, compression: str, version: str) -> None:
    texts = [f"wing {number % 70} " * (number % 9) for number in range(3_000)]
    table = pa.table({"text": texts, "plain": texts, "list": [[1, None]] * 3_000, "few": [None, 1.5, 2.5] * 1_000})
    path = tmp_path / "c.parquet"
    pq.write_table(table, path, compression=compression, data_page_version=version, data_page_size=4_096,
                   use_dictionary=["text"], row_group_size=2_000, write_page_checksum=True)  # fmt: skip
    found, data = pq.read_metadata(path), path.read_bytes()
    for number, place in product(range(found.num_row_groups), range(found.num_columns)):
        chunk = found.row_group(number).column(place)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        assert parquet_guard.unpacked_bytes(data, start, chunk.total_compressed_size) == chunk.total_uncompressed_size


def test_a_folder_of_tables_is_read_in_order_without_its_queries_and_judgements(tmp_path: Path) -> None:
    for name in ("b", "a/c", "qrels/x", ".hidden/d"):
        corpora.jsonl(tmp_path / f"{name}.jsonl", [{"_id": name}])
    corpora.jsonl(tmp_path / "queries.jsonl", [{"_id": "q"}])
    (tmp_path / "README.md").write_text("# What this is")
    format, files = readers.corpus_files(tmp_path)
    assert format == "jsonl"
    assert [row["_id"] for _, row in readers.documents(tmp_path, format, files, readers.USUAL_CHUNKS)] == ["a/c", "b"]


def test_a_folder_that_mixes_tables_is_not_guessed_at(tmp_path: Path) -> None:
    corpora.jsonl(tmp_path / "a.jsonl", DOCS)
    corpora.delimited(tmp_path / "a.csv", DOCS)
    with pytest.raises(UserError, match=r"holds jsonl and csv files; set prepare\.format"):
        readers.corpus_files(tmp_path)
    assert readers.corpus_files(tmp_path, "csv") == ("csv", [tmp_path / "a.csv"])


def test_rows_are_given_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"_id": "1"}\n{"_id": "2"}\n' + b"\xff\n" * 3)
    found: Iterator[readers.Row] = readers.rows(path)
    assert [row["_id"] for _, row in itertools.islice(found, 2)] == ["1", "2"]
    with pytest.raises(UserError, match=r"corpus\.jsonl, line 3: not UTF-8 \(byte 1 of the line\)"):
        next(found)


def test_markdown_is_cut_at_its_headings_and_titled_by_their_path(tmp_path: Path) -> None:
    text = "intro words\n# Wing\n## Lift ##\nup it goes\n```\n# no heading\n```\n## Drag\nback\n# Tail\nend\n"
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "doc.md").write_text(text)
    (tmp_path / "plain.txt").write_text("# this is no heading\nbody")
    _, files = readers.corpus_files(tmp_path)
    found = [row for _, row in readers.documents(tmp_path, "text", files, readers.USUAL_CHUNKS)]
    assert [(row["_id"], row["title"], row["text"]) for row in found] == [
        ("a/doc.md#0", "doc", "intro words"),
        ("a/doc.md#1", "Wing > Lift", "up it goes ``` # no heading ```"),
        ("a/doc.md#2", "Wing > Drag", "back"),
        ("a/doc.md#3", "Tail", "end"),
        ("plain.txt#0", "plain", "# this is no heading body"),
    ]


def test_chunk_ids_of_a_file_do_not_change_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text(" ".join(map(str, range(500))))
    before = list(readers.text_documents(tmp_path, tmp_path / "b.md", readers.USUAL_CHUNKS))
    (tmp_path / "a.md").write_text("another file")
    assert list(readers.text_documents(tmp_path, tmp_path / "b.md", readers.USUAL_CHUNKS)) == before
    assert [row["_id"] for _, row in before] == ["b.md#0", "b.md#1", "b.md#2"]


def test_a_chunk_repeats_the_end_of_the_one_before() -> None:
    assert list(windows("abcdefgh", Chunking(words=4, overlap=1, chars=99))) == ["a b c d", "d e f g", "g h"]


@given(st.lists(st.integers(1, 5), max_size=40), CHUNKINGS)
def test_chunks_hold_every_word_in_order_and_keep_their_limits(lengths: list[int], chunking: Chunking) -> None:
    words = [f"{number:02}" + "x" * length for number, length in enumerate(lengths)]
    end = 0
    for _, chunk in chunks([" ".join(words)], chunking, headings=False):
        inside = chunk.split()
        start = words.index(inside[0])
        assert inside == words[start : start + len(inside)]
        assert end - chunking.overlap <= start <= end < start + len(inside)
        assert len(inside) <= chunking.words
        assert len(chunk) <= chunking.chars
        end = start + len(inside)
    assert end == len(words)


def test_what_is_longer_than_a_chunk_comes_in_pieces() -> None:
    found = [chunk for _, chunk in chunks(["翼" * 25], Chunking(words=9, overlap=0, chars=10), headings=False)]
    assert found == ["翼" * 10, "翼" * 10, "翼" * 5]
