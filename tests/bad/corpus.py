"""Corpora, queries and judgements that are refused."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bad.home import Case, Home, Spoil

TEST_LINE = "query-id\tcorpus-id\tscore\nq1\td0\t1\n"


def doc(**fields: object) -> dict[str, object]:
    return {"_id": "x", "title": "", "text": "a wing that is long enough", **fields}


def parquet(harm: Callable[[Path], object] = lambda path: None, **columns: Any) -> Spoil:
    def spoil(home: Home) -> None:
        path = home.folder / "c.parquet"
        pq.write_table(pa.table(columns), path, compression="zstd", use_dictionary=False)
        harm(path)
        home.settings(prepare={"corpus": "c.parquet"})

    return spoil


def damaged_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[20:60] = b"\xff" * 40
    path.write_bytes(data)


def played_down(path: Path) -> None:
    """Another size of the unpacked texts in the footer, as a number of as many bytes: seven bits in each."""
    data = path.read_bytes()
    size = pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size
    true = bytes([(2 * size >> shift & 127) | 128 for shift in (0, 7, 14, 21)]) + bytes([2 * size >> 28])
    before, found, after = data.rpartition(true)
    assert found
    path.write_bytes(before + bytes([true[0], 128, 128, 128, 0]) + after)
    assert pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size < 64


def boasting(path: Path) -> None:
    """A page whose header declares two gigabytes in the place of its first fields."""
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    data[at : at + 8] = b"\x15\0\x15\xfe\xff\xff\xff\x0f"
    path.write_bytes(data)


def long_line(home: Home) -> None:
    home.corpus("c.jsonl", "")
    os.truncate(home.folder / "c.jsonl", (64 << 20) + 2)


def qrels(text: str | bytes) -> Spoil:
    return lambda home: home.write("corpus/qrels/test.tsv", text)


def queries(text: str) -> Spoil:
    return lambda home: home.write("corpus/queries.jsonl", text)


CASES: dict[str, Case] = {
    "a corpus that is missing": (
        lambda h: h.settings(prepare={"corpus": "no"}),
        r"/no does not exist; correct the path",
    ),
    "a folder without corpus": (
        lambda h: h.settings(prepare={"corpus": "student"}),
        r"student holds no corpus: no file is one of \.jsonl, .*; correct prepare\.corpus",
    ),
    "a file of unknown kind": (
        lambda h: h.corpus("c.xyz", "x"),
        r"c\.xyz is not one of \.jsonl, .*; set prepare\.format",
    ),
    "an empty corpus": (lambda h: h.docs(), r"corpus holds no documents; nothing can be learned from an empty corpus"),
    "wrong columns": (
        lambda h: h.docs({"id": "1", "body": "x"}),
        r"corpus\.jsonl, line 1: no field '_id' \(it has id, body\); set prepare",
    ),
    "only empty texts": (
        lambda h: h.docs(doc(text="")),
        r"field 'text' is empty in all 1 documents; set prepare\.text_fi",
    ),
    "an id twice": (
        lambda h: h.docs(doc(), doc()),
        r"line 2: id 'x' was used before \(.*line 1\); give every row its own",
    ),
    "an id with a NUL": (
        lambda h: h.docs(doc(_id="a\0b")),
        r"line 1: the id 'a\\x00b' holds a line break or control character; give the row another",
    ),
    "an id of half a character": (
        lambda h: h.write("corpus/corpus.jsonl", '{"_id":"\\ud800","text":"x"}'),
        r"the id '",
    ),
    "an id of 10 KB": (lambda h: h.docs(doc(_id="x" * 10_240)), r"line 1: the id 'x{40}' is longer than 512 bytes"),
    "an empty id": (lambda h: h.docs(doc(_id="")), r"line 1: the id is empty; give every row its own id"),
    "a text that is an object": (
        lambda h: h.docs(doc(text={"en": "a", "de": "b"})),
        r"line 1: field 'text' is an object with en, de, not text; name one of them, such as 'text\.en'",
    ),
    "bytes that are not UTF-8": (
        lambda h: h.write("corpus/corpus.jsonl", b'{"_id": "1"}\n\xff'),
        r"corpus\.jsonl, line 2: not UTF-8 \(byte 1 of",
    ),
    "a text file that is not UTF-8": (
        lambda h: h.corpus("c.txt", b"a\nb \xff"),
        r"c\.txt, line 2: not UTF-8 \(byte 3 of",
    ),
    "a broken JSON line": (
        lambda h: h.corpus("c.jsonl", '{"_id": 1,\n'),
        r"c\.jsonl, item 1: not valid JSON \(.*\); correct",
    ),
    "a JSON line that is not an object": (
        lambda h: h.corpus("c.jsonl", '{"_id": "1", "text": "wing"}\n7\n'),
        r"c\.jsonl, (item|line) 2: not a JSON object but '7'",
    ),
    "JSON that nests too deep": (lambda h: h.corpus("c.jsonl", "[" * 99_999), r"c\.jsonl, item 1: not valid JSON"),
    "a ragged CSV": (
        lambda h: h.corpus("c.csv", "_id,text\n1,a,b\n"),
        r"c\.csv, line 2: 3 fields where .* has 2; correct the line",
    ),
    "a CSV with an open quote": (
        lambda h: h.corpus("c.csv", '_id,text\n1,"a, b\n'),
        r"c\.csv, line \d: a quotation mark is opened and never closed; close it",
    ),
    "a CSV with a column twice": (
        lambda h: h.corpus("c.csv", "_id,text,text\n"),
        r"c\.csv, line 1: two columns are called 'text'",
    ),
    "garbage for Parquet": (lambda h: h.corpus("c.parquet", b"PAR1 nonsense"), r"c\.parquet is not readable Parquet"),
    "an empty Parquet file": (
        lambda h: h.corpus("c.parquet", b""),
        r"c\.parquet is not readable Parquet \(.*\); write it",
    ),
    "a Parquet file cut in half": (
        parquet(lambda path: os.truncate(path, 200), _id=["a"], text=["b"]),
        r"c\.parquet is not readable Parquet",
    ),
    "a Parquet file with damaged pages": (
        parquet(damaged_pages, _id=["a" * 99], text=["b" * 9_999]),
        r"c\.parquet is not readable Parquet",
    ),
    "a Parquet bomb": (
        parquet(_id=["a"] * 40, text=["x" * (8 << 20)] * 40),
        r"c\.parquet: column 'text' of row group 0 turns [\d,]+ bytes into 33\d,\d+,\d+; write it with smaller row",
    ),
    "a Parquet bomb whose footer plays it down": (
        parquet(played_down, _id=["a"] * 40, text=["x" * (8 << 20)] * 40),
        r"c\.parquet: column 'text' of row group 0 turns [\d,]+ bytes into 33\d,\d+,\d+; write it with smaller row",
    ),
    "a Parquet page that claims gigabytes": (
        parquet(boasting, _id=["a"], text=["b" * 200]),
        r"c\.parquet is not readable Parquet \((the|a) page ",
    ),
    "a line of 64 MiB": (long_line, r"c\.jsonl, line 1: longer than 64 MiB; split it"),
    "a compressed corpus cut short": (
        lambda h: h.corpus("c.jsonl.gz", gzip.compress(b'{"_id": 1, "text": "x"}\n' * 9)[:-9]),
        r"c\.jsonl\.gz is damaged \(.*\); pack or download it again",
    ),
    "an archive that is none": (lambda h: h.corpus("c.zip", b"PK\3\4"), r"c\.zip is not a readable zip archive"),
    "a query with an id of 10 KB": (queries(f'{{"_id":"{"q" * 10_240}","text":"a"}}\n'), r"the id 'q{40}' is longer"),
    # judgements
    "judgements of bytes": (qrels(b"h\th\th\n\xff\xfe\0\1"), r"test\.tsv, line 2: not UTF-8 \(byte 1"),
    "judgements with NULs": (qrels("h\th\th\n\0\0\0\n"), r"test\.tsv, line 2: 1 columns; write query-id"),
    "a relevance with a point": (qrels(f"{TEST_LINE}q3\td1\t1.5\n"), r"line 3: relevance '1\.5' is not a whole number"),
    "a relevance beyond all bounds": (qrels(f"{TEST_LINE}q3\td1\t{'9' * 30}\n"), r"line 3: relevance '9+' is not a"),
    "a relevance in other digits": (qrels(f"{TEST_LINE}q3\td1\t\uff11\n"), r"line 3: relevance '.' is not a whole"),
    "a judged id that is a path": (qrels("q3\t../../x\t1\n"), r"line 1: unknown document '\.\./\.\./x', and no other"),
    "a judged id of 10 KB": (qrels(f"{TEST_LINE}q3\t{'x' * 10_240}\t1\n"), r"line 3: the id 'x{40}' is longer"),
    "judged queries of which none is there": (
        qrels("no\td1\t1\nnobody\td2\t1\n"),
        r"test\.tsv, line 1: unknown query 'no', and no other one is in the queries; correct the ids",
    ),
    "a relevance that is not a number": (
        qrels("h\th\th\nq1\td0\thigh1\n"),
        r"line 2: relevance 'high1' is not a whole number",
    ),
    "a judgement of two columns": (
        qrels(f"{TEST_LINE}q1\td1\n"),
        r"test\.tsv, line 3: 2 columns where the others have 3; correct the line",
    ),
    "a judgement that contradicts another": (
        qrels(f"{TEST_LINE}q1\td0\t0\n"),
        r"line 3: 'q1' and 'd0' were judged other",
    ),
    "a query judged in dev and test": (
        lambda h: h.write("corpus/qrels/dev.tsv", TEST_LINE),
        r"test\.tsv, line 2: query 'q1' is judged in dev as well",
    ),
    "judgements without queries": (
        lambda h: (h.folder / "corpus/queries.jsonl").unlink(),
        r"corpus holds judgements \(qrels/.*\) but no queries; add them, such as queries\.jsonl",
    ),
    "a query twice": (
        queries('{"_id":"q1","text":"a"}\n{"_id":"q1","text":"b"}\n'),
        r"queries\.jsonl, line 2: id 'q1' was used before",
    ),
    "a query without text": (
        queries('{"_id":"q1"}\n'),
        r"queries\.jsonl, line 1: a query needs the fields _id and text",
    ),
    "a split that is missing": (
        lambda h: h.settings(prepare={"corpus": "corpus", "test_split": "final"}),
        r"corpus holds no judgements called 'final'; those there are dev, test",
    ),
}
