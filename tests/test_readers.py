"""Readers: the same documents from every kind of file, what is understood of them, and rows one after another."""

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

import corpora
from hone.core import segmentation
from hone.core.text import Chunking, flat, windows, words_of
from hone.errors import UserError
from hone.inputs import parquet_guard, readers

DOCS = [
    {"_id": "1", "title": "Lift", "text": "a wing, a so-called \"aerofoil\""},
    {"_id": "../../x", "title": "", "text": "two\nlines\tand a tab"},
    {"_id": "ü", "title": "<b>", "text": "Auftrieb für Flügel 翼"},
]  # fmt: skip
CHUNKINGS = st.builds(Chunking, words=st.integers(1, 6), overlap=st.integers(0, 8), chars=st.integers(8, 40))
Found = list[tuple[str, str, str]]


def read(path: Path, fields: readers.Fields | None = None, **dialect: Any) -> Found:
    """Id, title and text of every document of a corpus, its fields by their usual names."""
    found = readers.layout(path)
    chosen = fields or readers.usual_fields(found)
    corpus = readers.Corpus(found, chosen, dialect=readers.Dialect(**dialect))
    return [readers.document(where, row, chosen) for where, row in corpus.documents()]


def said(path: Path) -> str:
    found = readers.layout(path)
    corpus = readers.Corpus(found, readers.usual_fields(found))
    assert list(corpus.documents())
    return "\n".join(corpus.said())


def file_of(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_every_kind_of_table_gives_the_same_documents(tmp_path: Path, kind: str) -> None:
    path = corpora.table_file(tmp_path / f"corpus.{kind}", DOCS)
    assert readers.layout(path).format == kind
    assert read(path) == [tuple(row.values()) for row in DOCS]
    assert readers.count_documents(readers.layout(path)) >= len(DOCS)


# --- Tables of text ---------------------------------------------------------------------------------------------------


def test_a_published_collection_without_names_keeps_its_first_passage_and_its_quotation_marks(tmp_path: Path) -> None:
    rows = ["the first of many passages", '"Quay" is an old word', 'he asked "who goes there', "no marks in this one"]
    path = file_of(tmp_path, "collection.tsv", "".join(f"{at}\t{text}\n" for at, text in enumerate(rows)))
    assert read(path) == [(str(at), "", text) for at, text in enumerate(rows)]
    assert "quotation marks are text" in said(path)
    assert "no line of names, columns taken as _id, text" in said(path)


def test_quoted_tabs_and_breaks_are_part_of_a_field_where_only_quoting_fits_and_it_is_said(tmp_path: Path) -> None:
    rows = [("a", "kiln\tand glaze", ""), ("b", "plain", 'he said "hot"'), ("c", "", "two\nlines")]
    out = io.StringIO()
    csv.writer(out, delimiter="\t").writerows([("id", "title", "text"), *rows])
    path = file_of(tmp_path, "c.tsv", out.getvalue())
    assert read(path) == rows
    assert "tab between fields, quotation marks around fields" in said(path)
    with pytest.raises(UserError, match="line 5: 1 fields where the first line has 3"):
        read(path, quotes="text")


def test_marks_at_the_ends_of_a_field_that_a_writer_and_a_person_may_both_have_set_are_text(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.tsv", 'id\ttext\na\t"Quay"\nb\t"opens\nc\tcloses"\n')
    assert read(path) == [("a", "", '"Quay"'), ("b", "", '"opens'), ("c", "", 'closes"')]
    assert read(path, quotes="cells") == [("a", "", "Quay"), ("b", "", "opens\nc\tcloses")]


@pytest.mark.parametrize(
    "text",
    [
        "id,title,text\n1,'kiln, hot','it''s fired'\n2,'Ton','a day'\n",
        "'id','title','text'\n'1','kiln, hot','it''s fired'\n'2','Ton','a day'\n",
        "'id';'title';'text'\n1;'kiln, hot';'it''s fired'\n2;'Ton';'a day'\n",
    ],
)
def test_single_quotes_around_fields_are_seen_and_said(tmp_path: Path, text: str) -> None:
    path = file_of(tmp_path, "c.csv", text)
    assert read(path) == [("1", "kiln, hot", "it's fired"), ("2", "Ton", "a day")]
    assert "single quotes around fields" in said(path)


def test_an_apostrophe_is_no_quotation_mark(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.csv", "id,text\n1,'tis the season\n2,the potters' kiln\n3,'round and round'\n")
    assert [text for _, _, text in read(path)] == ["'tis the season", "the potters' kiln", "'round and round'"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("outfile.tsv", "1\tOne kiln\tfired\\\nfor \\\tnine hours, C:\\\\kiln\n2\t\\N\tclay\n"),
        ("no-nulls.txt", "1\tOne kiln\tfired\\\nfor \\\tnine hours, C:\\\\kiln\n2\t\tclay\n"),
        ("enclosed.csv", '"1","One kiln","fired\\\nfor \tnine hours, C:\\\\kiln"\n"2",\\N,"clay"\n'),
        ("copied.tsv", "1\tOne kiln\tfired\\nfor \\tnine hours, C:\\\\kiln\n2\t\\N\tclay\n"),
    ],
)
def test_what_databases_write_before_line_breaks_and_tabs_is_not_text(tmp_path: Path, name: str, text: str) -> None:
    path = file_of(tmp_path, name, text)
    found = readers.layout(path, "tsv" if name.endswith("txt") else "auto")
    corpus = readers.Corpus(found, readers.Fields())
    rows = [readers.document(where, row, corpus.fields) for where, row in corpus.documents()]
    assert [(one, title, flat(body)) for one, title, body in rows] == [
        ("1", "One kiln", "fired for nine hours, C:\\kiln"), ("2", "", "clay"),
    ]  # fmt: skip


def test_a_mark_that_first_comes_after_the_sample_does_not_swallow_rows(tmp_path: Path) -> None:
    rows = [f"{at}\tpassage number {at} of the file\n" for at in range(5_000)]
    rows[4_000] = '4000\t"opens here and\n'
    rows[4_500] = '4500\tcloses there"\n'
    found = read(file_of(tmp_path, "c.tsv", "".join(rows)))
    assert len(found) == 5_000
    assert found[4_000][2] == '"opens here and'


def test_columns_without_names_are_told_apart_by_what_is_in_them(tmp_path: Path) -> None:
    lines = [f"D{at}\thttps://x.example/{at}\tTitle number {at}\tThe long body of page {at}, word by word\n"
             for at in range(4)]  # fmt: skip
    found = read(file_of(tmp_path, "docs.tsv", "".join(lines)))
    assert found[0] == ("D0", "Title number 0", "The long body of page 0, word by word")


def test_columns_without_names_are_told_apart_in_scripts_without_spaces(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        "c.tsv",
        "甲\t機器翻譯是什麼意思呢\t2024-05-01T10:00:00.000Z\n乙\t語言的過程很長嗎\t2024-05-02T10:00:00.000Z\n",
    )
    found = read(path)
    assert [(doc_id, text) for doc_id, _, text in found] == [("甲", "機器翻譯是什麼意思呢"), ("乙", "語言的過程很長嗎")]


def test_a_file_without_names_takes_those_of_the_settings(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.tsv", "7\ta first passage here\n8\ta second passage here\n")
    assert read(path, readers.Fields("pid", "", "passage"))[0] == ("7", "", "a first passage here")
    assert len(read(path, readers.Fields("7", "", "a first passage here"), header="present")) == 1
    named = file_of(tmp_path, "d.tsv", "key\tvalue\nk1\tsome words of a text here\n")
    assert len(read(named, header="absent")) == 2


def sheet(rows: Sequence[Sequence[str]], **options: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


ROWS = [["id", "title", "text"], ["1", "A; b, c", 'He said "go",\nthen left'], ["2", "", "plain"], ["3", "x", ""]]
WRITERS: dict[str, Callable[[], str | bytes]] = {
    "excel.csv": lambda: b"\xef\xbb\xbf" + sheet(ROWS).encode(),
    "semicolons.csv": lambda: sheet(ROWS, delimiter=";", lineterminator="\r\n"),
    "excel-unicode.csv": lambda: sheet(ROWS, delimiter="\t").encode("utf-16"),
    "sep.csv": lambda: "sep=;\r\n" + sheet(ROWS, delimiter=";"),
    "all-quoted.tsv": lambda: sheet(ROWS, delimiter="\t", quoting=csv.QUOTE_ALL),
    "pandas.tsv": lambda: sheet(ROWS, delimiter="\t", lineterminator="\n"),
    "spark.csv": lambda: sheet(ROWS, doublequote=False, escapechar="\\", quoting=csv.QUOTE_NONNUMERIC),
    "trailing.csv": lambda: "\r\n".join(f"{line},,," for line in sheet(ROWS[:1]).split()) + "\r\n"
    + "".join(sheet([[*row, "", "", ""]]) for row in ROWS[1:]),
    "index.csv": lambda: sheet([["", *ROWS[0]], *([str(at), *row] for at, row in enumerate(ROWS[1:]))]),
    "bars.psv": lambda: sheet(ROWS, delimiter="|"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_what_spreadsheets_and_data_frames_write_is_read_alike(tmp_path: Path, name: str) -> None:
    path = file_of(tmp_path, name, WRITERS[name]())
    assert read(path) == [(row[0], row[1], row[2]) for row in ROWS[1:]]


def test_old_line_ends_and_stray_ones_inside_a_line(tmp_path: Path) -> None:
    assert len(read(file_of(tmp_path, "mac.csv", "id,text\r1,first text\r2,second text\r"))) == 2
    assert read(file_of(tmp_path, "c.csv", "id,text\n1,one\rtwo\n")) == [("1", "", "one two")]


def test_a_line_break_in_a_name_is_a_space(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.csv", '_id,"text of\nthe page"\n1,hello\n')
    assert read(path, readers.Fields("_id", "", "text of the page")) == [("1", "", "hello")]


def test_rows_may_lack_empty_fields_at_their_end_but_not_their_text(tmp_path: Path) -> None:
    assert len(read(file_of(tmp_path, "a.csv", "id,text,note\n1,x,n\n2,y\n"))) == 2
    torn = file_of(tmp_path, "b.csv", "id,title,text\n1,A,first\nhalf of it\n2,B,more\n")
    with pytest.raises(UserError, match=r"b\.csv, line 3: 1 fields where the first line has 3"):
        read(torn)


def test_an_open_mark_and_two_columns_of_one_name_are_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="opened and never closed"):
        read(file_of(tmp_path, "a.csv", 'id,text\n1,"abc, d\n2,def\n'))
    with pytest.raises(UserError, match="two columns are called 'text'"):
        read(file_of(tmp_path, "b.csv", "id,text,text\n1,a,b\n"))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Größe der Flügel, l’été à la façade"),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy nad vodou"),
        ("cp1251", "Подъёмная сила крыла зависит от скорости потока"),
        ("shift_jis", "揚力は翼の上を空気が流れるときに生じる力です"),
        ("gb18030", "机翼在空气快速流过时产生升力，这是一个测试文件"),
        ("utf-16", "wing ü 翼"),
        ("utf-16-le", "a wing of the aeroplane ü"),
        ("utf-32", "wing ü 翼"),
    ],
)
def test_encodings_are_recognised_and_told(tmp_path: Path, encoding: str, text: str) -> None:
    lines = "id;text\n" + "".join(f"{at};{text} {at}\n" for at in range(8))
    path = file_of(tmp_path, "c.csv", lines.encode(encoding))
    assert read(path)[3] == ("3", "", f"{text} 3")
    if encoding[:2] in ("cp", "sh", "gb"):
        assert "recognised by its letters" in said(path)
    assert read(path, encoding=encoding)[3] == ("3", "", f"{text} 3")


def test_utf8_with_a_damaged_byte_is_refused_by_line_and_not_read_as_something_else(tmp_path: Path) -> None:
    lines = [f"{at},größer als {at}".encode() for at in range(20)]
    lines[7] += b" \xfc"
    with pytest.raises(UserError, match=r"c\.csv, line 9: not UTF-8 \(byte 18 of the line\)"):
        read(file_of(tmp_path, "c.csv", b"id,text\n" + b"\n".join(lines)))


def test_rows_are_given_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"_id": "1"}\n{"_id": "2"}\n' + b"\xff\n" * 3)
    found: Iterator[readers.Row] = readers.rows(path)
    assert [row["_id"] for _, row in itertools.islice(found, 2)] == ["1", "2"]
    with pytest.raises(UserError, match=r"corpus\.jsonl, line 3: not UTF-8 \(byte 1 of the line\)"):
        next(found)


# --- JSON and dumps ---------------------------------------------------------------------------------------------------

TWO = [{"_id": "a", "text": "x y"}, {"_id": "b", "text": "z\u2028!"}]
SOURCES = [{"_index": "i", "_id": row["_id"], "_score": 1.0, "_source": {"text": row["text"]}} for row in TWO]
SHAPES: dict[str, str] = {
    "lines.jsonl": "\n\n".join(json.dumps(row) for row in TWO),
    "lines.ndjson": "\r\n".join(json.dumps(row) for row in TWO),
    "array.json": json.dumps(TWO),
    "pretty.json": json.dumps(TWO, indent=4),
    "array.jsonl": "[" + ",\n".join(json.dumps(row) for row in TWO) + "]",
    "jq.json": "\n".join(json.dumps(row, indent=2) for row in TWO),
    "rows.json": json.dumps({"data": TWO}),
    "answer.json": json.dumps({"took": 3, "hits": {"total": 2, "hits": SOURCES}}),
    "solr.json": json.dumps({"responseHeader": {}, "response": {"numFound": 2, "docs": TWO}}, indent=1),
    "dump.json": "\n".join(json.dumps(row) for row in SOURCES),
    "bulk.ndjson": "".join(
        f'{{"index": {{"_id": "{row["_id"]}"}}}}\n{json.dumps({"text": row["text"]})}\n' for row in TWO
    )
    + '{"delete": {"_id": "gone"}}\n',
    "by-id.json": json.dumps({row["_id"]: {"text": row["text"], "title": ""} for row in TWO}),
    "frame.json": json.dumps({name: {str(at): row[name] for at, row in enumerate(TWO)} for name in ("_id", "text")}),
    "split.json": json.dumps(
        {"columns": ["_id", "text"], "index": [0, 1], "data": [list(row.values()) for row in TWO]}
    ),
    "mongo.json": "\n".join(json.dumps({"_id": {"$oid": row["_id"]}, "text": row["text"]}) for row in TWO),
}


@pytest.mark.parametrize("name", SHAPES)
def test_json_of_every_shape_gives_its_documents(tmp_path: Path, name: str) -> None:
    assert read(file_of(tmp_path, name, SHAPES[name])) == [("a", "", "x y"), ("b", "", "z\u2028!")]


def test_a_folder_with_one_object_a_file_is_a_corpus(tmp_path: Path) -> None:
    for row in TWO:
        file_of(tmp_path, f"{row['_id']}.json", json.dumps(row, indent=1))
    file_of(tmp_path, "dataset_info.json", "{}")
    assert [doc_id for doc_id, _, _ in read(tmp_path)] == ["a", "b"]


def test_a_long_array_is_read_one_item_at_a_time(tmp_path: Path) -> None:
    rows = [{"_id": at, "text": "w " * 200 + '}]\\"'} for at in range(6_000)]
    path = file_of(tmp_path, "c.json", json.dumps(rows))
    assert path.stat().st_size > 2 << 20
    assert [doc_id for doc_id, _, _ in read(path)] == [str(at) for at in range(6_000)]
    file_of(tmp_path, "cut.json", path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"cut\.json, item 6000: not valid JSON"):
        read(tmp_path / "cut.json")


def test_a_field_that_is_left_out_where_it_is_null_is_no_fault_and_one_that_never_comes_is(tmp_path: Path) -> None:
    path = file_of(tmp_path, "a.jsonl", '{"_id": 1, "title": "only a title"}\n{"_id": 2, "text": "x"}\n')
    assert read(path) == [("1", "only a title", ""), ("2", "", "x")]
    with pytest.raises(UserError, match=r"line 1: no field 'text' \(it has _id, words\); set prepare\.text_field"):
        read(file_of(tmp_path, "b.jsonl", '{"_id": 1, "words": "x"}\n'))


# --- Values and ids ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (float("nan"), ""), (0, "0"), (7.0, "7"), (0.5, "0.5"), (Decimal("1.50"), "1.50"), ([], ""),
        (["Flight", None, "Basics"], "Flight, Basics"), (b"caf\xc3\xa9", "café"), (True, "True"), ({}, ""),
        ({"$numberLong": "5"}, "5"),
    ],
)  # fmt: skip
def test_a_title_of_any_kind_is_read_as_what_it_means(value: Any, text: str) -> None:
    assert readers.text_of(value, "c, row 1", "title", ", ") == text


@pytest.mark.parametrize(
    ("value", "named"),
    [({"en": "a", "de": "b"}, r"'title' is an object with en, de.*'title\.en'"), (b"\xff\x00", "'title' is binary")],
)
def test_what_is_no_text_is_refused_with_what_to_do(value: Any, named: str) -> None:
    with pytest.raises(UserError, match=f"c, row 1: .*{named}"):
        readers.text_of(value, "c, row 1", "title")


def test_a_field_inside_an_object_is_named_with_a_dot(tmp_path: Path) -> None:
    row = {"_id": 1, "title": {"en": "Flight", "de": "Flug"}, "text": {"raw": "a wing"}, "a.b": "x"}
    path = corpora.jsonl(tmp_path / "c.jsonl", [row])
    assert read(path, readers.Fields("_id", "title.de", "text.raw")) == [("1", "Flug", "a wing")]
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", readers.Fields("_id", "title.de", "text.raw")) == [("1", "Flug", "a wing")]
    assert read(tmp_path / "c.parquet", readers.Fields("_id", "", "a.b")) == [("1", "", "x")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (7, "7"), (3.0, "3"), (Decimal(10**22), str(10**22)), (Decimal("5.00"), "5"), (b"d\xc3\xa9", "dé"),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"), ({"$oid": "50"}, "50"), ("a\u200db", "a\u200db"),
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"), ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("e\u0301", "e\u0301"), (" a ", " a "), ("\u202eabc", "\u202eabc"),
    ],
)  # fmt: skip
def test_ids_are_kept_exactly(value: Any, text: str) -> None:
    assert readers.id_of(value, "here") == text


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "empty"), (None, "empty"), (float("nan"), "empty"), ("a\nb", "line break"), ("a\tb", "control"),
        ("a\u2028b", "line break"), ("x" * 513, "longer than 512"), (0.5, "neither text nor a whole"), (True, "bool"),
        (2.0**60, "neither"), (b"\xff", "binary"), ({"a": 1, "b": 2}, "neither"), ("\ud800", "control"),
        (float("inf"), "neither"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_id_is_refused_with_its_place(value: Any, why: str) -> None:
    with pytest.raises(UserError, match=rf"^here: .*{why}"):
        readers.id_of(value, "here")


# --- Parquet and Arrow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_encoding_of_texts_is_read(tmp_path: Path, encoding: str, version: str) -> None:
    table = pa.Table.from_pylist([{**row, "n": 1} for row in DOCS])
    names = dict.fromkeys(("_id", "title", "text"), encoding)
    pq.write_table(
        table, tmp_path / "c.parquet", use_dictionary=False, column_encoding=names, data_page_version=version
    )
    assert read(tmp_path / "c.parquet") == [tuple(row.values()) for row in DOCS]


def test_columns_that_nobody_asked_for_are_not_decoded(tmp_path: Path) -> None:
    odd = pa.array([10**9], pa.timestamp("s", "Mars/Olympus"))
    table = pa.table({"_id": ["a"], "text": ["a wing"], "at": odd, "vector": [[0.0] * 9]})
    pq.write_table(table, tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", readers.Fields()) == [("a", "", "a wing")]
    with pytest.raises(UserError, match=r"no field 'body' \(it has _id, text, at, vector\); set prepare\.text_field"):
        read(tmp_path / "c.parquet", readers.Fields("_id", "", "body"))
    assert readers.look(tmp_path / "c.parquet").fields == ("_id", "text", "at", "vector")


CATEGORIES = pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), CATEGORIES]
)
def test_texts_of_every_arrow_type_are_texts(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"_id": pa.array(["é", "b"]).cast(kind), "text": pa.array(["x", None]).cast(kind)})
    with pa.OSFile(str(tmp_path / "c.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    assert read(tmp_path / "c.arrow") == [("é", "", "x"), ("b", "", "")]
    with pa.OSFile(str(tmp_path / "c.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as stream:
        stream.write_table(table)
    assert read(tmp_path / "c.feather") == [("é", "", "x"), ("b", "", "")]
    if kind != pa.string_view():
        pq.write_table(table, tmp_path / "c.parquet")
        assert read(tmp_path / "c.parquet") == [("é", "", "x"), ("b", "", "")]


def test_numbers_nulls_and_lists_of_a_data_frame(tmp_path: Path) -> None:
    columns = {
        "_id": pa.array([1, 2], pa.int64()),
        "title": pa.array([float("nan"), None]),
        "text": [["one", "two"], ["three"]],
    }
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet") == [("1", "", "one two"), ("2", "", "three")]
    ids = pa.array([1.0, 2.0])
    pq.write_table(pa.table({**columns, "_id": ids}), tmp_path / "d.parquet")
    assert [doc_id for doc_id, _, _ in read(tmp_path / "d.parquet")] == ["1", "2"]


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


# --- Packed files -----------------------------------------------------------------------------------------------------

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress,
}  # fmt: skip


@pytest.mark.parametrize("end", PACKERS)
@pytest.mark.parametrize("kind", ["jsonl", "tsv", "parquet", "md"])
def test_packed_files_are_read_as_what_is_in_them(tmp_path: Path, kind: str, end: str) -> None:
    plain = (
        file_of(tmp_path, "c.md", "# A\n\nb\n") if kind == "md" else corpora.table_file(tmp_path / f"c.{kind}", DOCS)
    )
    packed = file_of(tmp_path, f"packed/c.{kind}{end}", PACKERS[end](plain.read_bytes()))
    assert [row[1:] for row in read(packed)] == [row[1:] for row in read(plain)]
    if kind == "jsonl":
        damaged = file_of(tmp_path, f"damaged.{kind}{end}", packed.read_bytes()[:-9])
        with pytest.raises(UserError, match=r"damaged\.jsonl.* is damaged"):
            read(damaged)


def test_an_archive_is_read_like_the_folder_in_it(tmp_path: Path) -> None:
    corpora.beir(tmp_path / "b", DOCS, {"q": "wing"}, test=[("q", "1", 1)])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("__MACOSX/._corpus.jsonl", "junk")
        for path in sorted((tmp_path / "b").rglob("*")):
            archive.write(path, f"scifact/{path.relative_to(tmp_path / 'b')}")
    folder, packed = readers.layout(tmp_path / "b"), readers.layout(tmp_path / "b.zip")
    assert packed.facts() == folder.facts()
    assert read(tmp_path / "b.zip") == read(tmp_path / "b")
    assert [row[1:] for row in readers.queries(packed.queries)] == [("q", "wing")]


# --- Chunks -----------------------------------------------------------------------------------------------------------


def test_a_chunk_repeats_the_end_of_the_one_before() -> None:
    words = words_of(["a b c d", "e f g h"], 99)
    assert list(windows(words, Chunking(words=4, overlap=1, chars=99))) == ["a b c d", "d e f g", "g h"]


@given(st.lists(st.integers(1, 5), max_size=40), CHUNKINGS)
def test_chunks_hold_every_word_in_order_and_keep_their_limits(lengths: list[int], chunking: Chunking) -> None:
    words = [f"{number:02}" + "x" * length for number, length in enumerate(lengths)]
    end = 0
    for chunk in windows(words_of([" ".join(words)], chunking.chars), chunking):
        inside = chunk.split()
        start = words.index(inside[0])
        assert inside == words[start : start + len(inside)]
        assert end - chunking.overlap <= start <= end < start + len(inside)
        assert len(inside) <= chunking.words
        assert len(chunk) <= chunking.chars
        end = start + len(inside)
    assert end == len(words)


def test_what_is_longer_than_a_chunk_comes_in_pieces() -> None:
    found = list(windows(words_of(["翼" * 25], 10), Chunking(words=9, overlap=0, chars=10)))
    assert found == ["翼" * 10, "翼" * 10, "翼" * 5]


@pytest.mark.parametrize(
    ("text", "longest"),
    [
        ("机器翻译是利用计算机将一种语言转换为另一种语言的过程。" * 20, 150),
        ("ที่นี่มีน้ำใจดีมาก" * 80, 450),
        ("これは日本語の文章です。" * 40, 200),
    ],
)
def test_chunks_of_scripts_without_spaces_have_as_many_words_and_lose_no_letter(text: str, longest: int) -> None:
    found = list(windows(words_of([text], 2_048), Chunking(words=100, overlap=20, chars=2_048)))
    assert len(found) >= 3
    assert all(len(chunk) <= longest and " " not in chunk for chunk in found)
    assert all(
        chunk in text and segmentation.letters(chunk)[0] == segmentation.letters(text[text.index(chunk) :])[0]
        for chunk in found
    )
    end = 0
    for chunk in found:
        at = next(at for at in range(end, -1, -1) if text.startswith(chunk, at))
        assert at <= end < at + len(chunk)
        end = at + len(chunk)
    assert end == len(text)


def test_words_of_scripts_without_spaces_are_counted_by_their_letters(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, "c.csv", "id,text\n" + "".join(f"{at},机器翻译是利用计算机将一种语言\n" for at in range(9))
    )
    assert "10 words on average, language: Chinese" in str(readers.look(path))
