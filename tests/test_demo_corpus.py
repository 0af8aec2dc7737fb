"""The demo: its corpus is whole and repeatable, its queries are honest, its judgements point at documents."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import median

import pytest

from hone.demo import JUDGED_FILES
from hone.demo.corpus import MIN_WORDS, Document

pytestmark = pytest.mark.slow

DATA = resources.files("hone.demo") / "data"
SPLITS = ("dev", "test")


def run_python(*arguments: str, hash_seed: str = "0") -> str:
    """Run a fresh interpreter, because pytest itself replaces functions of the standard library."""
    environment = {"PYTHONPATH": str(Path(__file__).parents[1] / "src"), "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


READ = "import json; from hone.demo.corpus import standard_library_documents as read; documents = read();"


@cache
def documents() -> list[Document]:
    return json.loads(run_python("-c", READ + "print(json.dumps(documents))"))


@cache
def corpus() -> dict[str, Document]:
    return {document["_id"]: document for document in documents()}


@cache
def queries() -> dict[str, str]:
    rows = [json.loads(line) for line in (DATA / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len({row["_id"] for row in rows}) == len(rows)
    return {row["_id"]: row["text"] for row in rows}


@cache
def judgements(split: str) -> list[tuple[str, str, int]]:
    header, *lines = (DATA / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    assert header == "query-id\tcorpus-id\tscore"
    rows = (line.split("\t") for line in lines)
    return [(query, document, int(score)) for query, document, score in rows]


def every_judgement() -> Iterator[tuple[str, str, int]]:
    for split in SPLITS:
        yield from judgements(split)


def module_of(document: str) -> str:
    first = document.partition(".")[0]
    return first if first in sys.stdlib_module_names else "builtins"


def test_corpus_is_of_the_promised_size_with_ids_that_are_unique_and_in_order() -> None:
    ids = [document["_id"] for document in documents()]
    assert 3_600 <= len(ids) <= 5_000
    assert ids == sorted(set(ids))


def test_every_document_says_enough_to_be_searched_for() -> None:
    lengths = [len(document["text"].split()) for document in corpus().values()]
    assert min(lengths) >= MIN_WORDS
    assert 18 <= median(lengths) <= 28
    assert all(document["title"] for document in corpus().values())


def test_two_builds_are_identical_even_in_another_process_with_other_hashes() -> None:
    again = run_python("-c", READ + "assert documents == read(); print(json.dumps(documents))", hash_seed="7")
    assert json.loads(again) == documents()


def test_documents_carry_public_names_and_nothing_of_the_machine() -> None:
    for name, document in corpus().items():
        assert not any(part.startswith("_") for part in name.split("."))
        assert " at 0x" not in document["title"]


@pytest.mark.parametrize(
    ("public", "hidden"),
    [
        ("os.path.join", "posixpath.join"),
        ("os.getcwd", "posix.getcwd"),
        ("open", "io.open"),
        ("json.JSONDecoder", "json.decoder.JSONDecoder"),
        ("random.choice", "random.Random.choice"),
        ("bytes.zfill", "bytearray.zfill"),
        ("staticmethod", "builtins.staticmethod"),
    ],
)
def test_what_is_offered_twice_is_given_once_under_its_public_name(public: str, hidden: str) -> None:
    assert hidden not in corpus()
    assert public in corpus()


def test_modules_that_act_when_imported_are_left_alone_and_nothing_is_printed() -> None:
    acting = {"antigravity", "this", "idlelib", "tkinter", "turtle", "rlcompleter", "torch"}
    assert run_python("-c", READ + f"import sys; assert not {acting} & set(sys.modules)") == ""


def test_there_are_enough_queries_and_no_two_are_alike() -> None:
    texts = [text.casefold() for text in queries().values()]
    assert len(texts) >= 320
    assert len(set(texts)) == len(texts)
    assert all(text.strip() for text in texts)


def test_splits_share_no_query_and_no_document_and_are_halves() -> None:
    of_query = [{query for query, _, _ in judgements(split)} for split in SPLITS]
    of_document = [{document for _, document, _ in judgements(split)} for split in SPLITS]
    assert of_query[0].isdisjoint(of_query[1])
    assert of_document[0].isdisjoint(of_document[1])
    assert of_query[0] | of_query[1] == set(queries())
    assert abs(len(of_query[0]) - len(of_query[1])) <= len(queries()) // 20


def test_every_judged_doc_exists_in_the_corpus() -> None:
    assert {document for _, document, _ in every_judgement()} <= corpus().keys()


def test_judgements_are_graded_given_once_and_every_query_has_an_answer() -> None:
    pairs = [(query, document) for query, document, _ in every_judgement()]
    assert len(set(pairs)) == len(pairs)
    assert {score for _, _, score in every_judgement()} == {1, 2}
    assert {query for query, _, score in every_judgement() if score == 2} == set(queries())


def test_no_query_names_a_symbol_that_answers_it() -> None:
    for query, document, _ in every_judgement():
        text = queries()[query].casefold()
        name = document.casefold()
        last = name.rpartition(".")[2]
        assert len(last) <= 3 or last not in re.findall(r"\w+", text), (text, document)
        assert "." not in name or name not in text, (text, document)


@pytest.mark.parametrize("split", SPLITS)
def test_each_split_covers_many_modules(split: str) -> None:
    assert len({module_of(document) for _, document, score in judgements(split) if score == 2}) >= 60


def test_command_writes_corpus_queries_and_judgements_and_says_so_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "demo"
    said = run_python("-m", "hone.demo", str(folder))
    assert said.count("\n") == 1
    assert f"{len(corpus())} documents" in said
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines if line] == documents()
    for name in JUDGED_FILES:
        assert (folder / name).read_bytes() == (DATA / name).read_bytes()
