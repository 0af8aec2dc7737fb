"""What in a folder is taken for the corpus, for queries and for judgements, and what for none of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import corpora
from hone.commands.init import write_settings
from hone.errors import UserError
from hone.inputs import readers

DOC, QUERY = '{"_id": "1", "title": "", "text": "a wing"}\n', '{"_id": "q1", "text": "wing"}\n'
QREL = "query-id\tcorpus-id\tscore\nq1\t1\t1\n"
Files = Mapping[str, "str | dict[str, list[object]]"]


def folder(root: Path, files: Files) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, str):
            path.write_text(data)
        else:
            pq.write_table(pa.table(data), path)
    return root


def taken(root: Path) -> tuple[list[str], list[str], dict[str, list[str]]]:
    found = readers.layout(root)
    names = {split: [file.name for file in files] for split, files in found.qrels.items()}
    return [file.name for file in found.corpus], [file.name for file in found.queries], names


DOCS = {"_id": ["1"], "title": [""], "text": ["a wing"]}
KNOWN: dict[str, tuple[Files, tuple[list[str], list[str], dict[str, list[str]]]]] = {
    "beir": (
        {"corpus.jsonl": DOC, "queries.jsonl": QUERY, "qrels/test.tsv": QREL, "README.md": "# x", "other.jsonl": DOC},
        (["corpus.jsonl"], ["queries.jsonl"], {"test": ["qrels/test.tsv"]}),
    ),
    "one level down": (
        {"s/corpus.jsonl": DOC, "s/queries.jsonl": QUERY, "s/qrels/dev.tsv": QREL, "s/qrels/runs.tsv": QREL},
        (["s/corpus.jsonl"], ["s/queries.jsonl"], {"dev": ["s/qrels/dev.tsv"], "runs": ["s/qrels/runs.tsv"]}),
    ),
    "ms marco": (
        {
            "collection.tsv": "0\ta first passage\n", "queries.dev.small.tsv": "q1\twing\n",
            "queries.train.tsv": "q2\tsea\n", "qrels.dev.small.tsv": "q1\t0\t1\t1\n",
            "qrels.train.tsv": "q2\t0\t1\t1\n", "triples.train.small.tsv": "a\tb\tc\n",
            "top1000.dev.tsv": "1\t2\ta\tb\n",
        },
        (
            ["collection.tsv"],
            ["queries.dev.small.tsv", "queries.train.tsv"],
            {"dev.small": ["qrels.dev.small.tsv"], "train": ["qrels.train.tsv"]},
        ),
    ),
    "hugging face": (
        {
            "corpus/corpus-00000-of-00002.parquet": DOCS, "corpus/corpus-00001-of-00002.parquet": DOCS,
            "queries/queries-00000-of-00001.parquet": {"_id": ["q1"], "text": ["wing"]},
            "data/test-00000-of-00001.parquet": {"query-id": ["q1"], "corpus-id": ["1"], "score": [1.0]},
            "dataset_infos.json": "{}", "README.md": "---\nlicense: mit\n---\n",
        },
        (
            ["corpus/corpus-00000-of-00002.parquet", "corpus/corpus-00001-of-00002.parquet"],
            ["queries/queries-00000-of-00001.parquet"],
            {"test": ["data/test-00000-of-00001.parquet"]},
        ),
    ),
    "splits as files": (
        {
            "data/corpus-00000-of-00001.parquet": DOCS,
            "data/queries-00000-of-00001.parquet": {"_id": ["q"], "text": ["x"]},
        },
        (["data/corpus-00000-of-00001.parquet"], ["data/queries-00000-of-00001.parquet"], {}),
    ),
    "trec": (
        {"docs.jsonl": DOC, "topics.tsv": "401\twing\n", "qrels.trec8.adhoc.txt": "401 0 1 1\n"},
        (["docs.jsonl"], ["topics.tsv"], {"trec8.adhoc": ["qrels.trec8.adhoc.txt"]}),
    ),
    "spreadsheets": (
        {
            "articles.csv": "id,text\n1,a wing\n", "questions.csv": "id,text\nq,wing\n",
            "qrels_test.csv": "qid,docid,rel\nq,1,1\n",
        },
        (["articles.csv"], ["questions.csv"], {"test": ["qrels_test.csv"]}),
    ),
    "queries beside, judgements by their fields": (
        {
            "a.jsonl": DOC, "b.jsonl": DOC, "queries.train.jsonl": QUERY,
            "gold.jsonl": '{"qid": "q1", "docid": "1", "rel": 1}\n',
        },
        (["a.jsonl", "b.jsonl"], ["queries.train.jsonl"], {"gold": ["gold.jsonl"]}),
    ),
    "pages with judgements": (
        {"guide/a.md": "# A", "queries.md": "# SQL", "queries.jsonl": QUERY, "qrels/test.tsv": QREL},
        (["guide/a.md", "queries.md"], ["queries.jsonl"], {"test": ["qrels/test.tsv"]}),
    ),
    "queries alone are what there is": ({"queries.csv": "id,text\n1,x\n"}, (["queries.csv"], [], {})),
    "training data": (
        {"docs.csv": "id,text\n1,x\n", "train.jsonl": '{"query": "a", "pos": ["b"], "neg": []}\n'},
        (["docs.csv"], [], {}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_layouts_are_read_as_what_they_are(tmp_path: Path, name: str) -> None:
    files, expected = KNOWN[name]
    assert taken(folder(tmp_path, files)) == expected


def test_every_file_is_told_as_what_it_was_taken_for(tmp_path: Path) -> None:
    found = readers.layout(folder(tmp_path, {**KNOWN["ms marco"][0], "notes.txt": "x", "a.pdf": "x"}))
    assert found.facts() == {
        "corpus": "collection.tsv (tsv)",
        "queries": "queries.dev.small.tsv, queries.train.tsv",
        "judgements": "dev.small: qrels.dev.small.tsv; train: qrels.train.tsv",
        "not read": "a.pdf (a document for printing); "
        "top1000.dev.tsv, triples.train.small.tsv (for training, or results); notes.txt (text beside tables)",
    }


def test_a_folder_that_mixes_tables_is_not_guessed_at(tmp_path: Path) -> None:
    corpora.jsonl(tmp_path / "a.jsonl", [json.loads(DOC)])
    corpora.delimited(tmp_path / "a.csv", [json.loads(DOC)])
    with pytest.raises(UserError, match=r"holds csv and jsonl files; set prepare\.format"):
        readers.layout(tmp_path)
    assert [file.name for file in readers.layout(tmp_path, "csv").corpus] == ["a.csv"]


def test_hidden_folders_those_of_tools_and_stores_hold_no_documents(tmp_path: Path) -> None:
    files = {
        "a.jsonl": DOC, ".git/b.jsonl": DOC, "node_modules/c.jsonl": DOC,
        "store/prepare/0123456789abcdef/docs/0.parquet": DOCS, "store/runs/demo.json": "{}",
    }  # fmt: skip
    assert taken(folder(tmp_path, files))[0] == ["a.jsonl"]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    folder(tmp_path, {"docs/a.md": "# A", "elsewhere/b.md": "# B"})
    (tmp_path / "docs" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "docs")
    assert taken(tmp_path / "docs")[0] == ["a.md", "more/b.md"]


# --- Judgements and queries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test.tsv", "query-id\tcorpus-id\tscore\nq1\td 1\t1\nq2\td2\t0\n"),
        ("test.tsv", "q1\td 1\t1.0\nq2\td2\t0.0\n"),
        ("test.tsv", "q1\t0\td 1\t1\nq2\t0\td2\t0\n"),
        ("test.tsv", "query_id\titer\tdoc_id\trelevance\nq1\tQ0\td 1\t1\nq2\tQ0\td2\t0\n"),
        ("test.tsv", "q1\td 1\t1\t0\nq2\td2\t0\t0\n"),
        ("test.csv", "qid,docno,label\r\nq1,d 1,1\r\nq2,d2,0\r\n"),
        ("test.csv", '"query_id";"doc_id";"relevance"\n"q1";"d 1";"1"\n"q2";"d2";"0"\n'),
        ("test.jsonl", '{"qid": "q1", "did": "d 1", "score": 1}\n{"qid": "q2", "did": "d2", "score": 0.0}\n'),
        ("test.json", '{"q1": {"d 1": 1}, "q2": {"d2": 0}}'),
        ("test.tsv", "\ufeffquery-id\tcorpus-id\tscore\r\nq1\td 1\t+1\r\n\r\nq2\td2\t0\r\n"),
    ],
)  # fmt: skip
def test_judgements_in_their_usual_forms_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert [tuple(row)[1:] for row in readers.qrels(tmp_path / name)] == [("q1", "d 1", 1), ("q2", "d2", 0)]


def test_trec_judgements_may_have_any_spaces_between(tmp_path: Path) -> None:
    (tmp_path / "qrels.txt").write_text("401 0  FBIS3-1 1\n401  0 FBIS3-2   -1\n")
    assert [tuple(row)[1:] for row in readers.qrels(tmp_path / "qrels.txt")] == [
        ("401", "FBIS3-1", 1),
        ("401", "FBIS3-2", -1),
    ]


@pytest.mark.parametrize("wrong", ["0.5", "x", "", "1e300", "nan", "2147483649", "\u0661"])
def test_a_relevance_that_is_no_whole_number_is_refused_by_line(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "test.tsv").write_text(f"q1\td1\t1\nq2\td2\t{wrong}\n")
    with pytest.raises(UserError, match=r"test\.tsv, line 2: relevance .* is not a whole number"):
        list(readers.qrels(tmp_path / "test.tsv"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("queries.tsv", "q1\thow do wings work\n0\twhat is 0\n"),
        ("queries.tsv", "qid\tquery\nq1\thow do wings work\n0\twhat is 0\n"),
        ("queries.csv", "query_id,text\r\nq1,how do wings work\r\n0,what is 0\r\n"),
        ("queries.jsonl", '{"id": "q1", "question": "how do wings work"}\n{"id": 0, "question": "what is 0"}\n'),
        ("queries.json", '{"q1": "how do wings work", "0": "what is 0", "2": ""}'),
    ],
)
def test_queries_are_found_by_the_usual_names_of_their_fields(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = [row[1:] for row in readers.queries([readers.one_file(tmp_path / name)]) if row[2]]
    assert found == [("q1", "how do wings work"), ("0", "what is 0")]


def test_the_settings_file_says_what_was_understood_and_can_be_read(tmp_path: Path) -> None:
    corpus = folder(tmp_path / "c", {**KNOWN["ms marco"][0]})
    text = write_settings(str(corpus), tmp_path / "s.yaml", "student", "r").read_text()
    for told in (
        "#   corpus: collection.tsv (tsv)",
        "#   judgements: dev.small: qrels.dev.small.tsv; train: qrels.train.tsv",
        "#   collection.tsv: tab between fields, quotation marks are text; no line of names, columns taken as",
        "# Judgements seen: dev.small, train; test_split names those that are reported",
        "\n  dev_split: dev.small\n",
    ):
        assert told in text
    (tmp_path / "odd.csv").write_text('"the\nid","the\n# text: x"\n1,a wing of the plane\n')
    odd = write_settings(str(tmp_path / "odd.csv"), tmp_path / "odd.yaml", "student", "r")
    assert yaml.safe_load(odd.read_text())["name"] == "r"
    corpora.jsonl(tmp_path / "lines.jsonl", [{"_id": 1, "te\nxt": "x", "title": {"en": "a"}, "body": "long words"}])
    settings = yaml.safe_load(write_settings(str(tmp_path / "lines.jsonl"), tmp_path / "l.yaml", "m", "r").read_text())
    assert settings["prepare"]["title_field"] == "title.en"
    assert settings["prepare"]["text_field"] == "body"
