"""Bad input: one sentence that says what, where and what to do, exit code 2, and nothing written."""

import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import corpora
import tiny
from hone import cli
from hone.store import LocalStore

TEXTS = ("the lift of a swept wing", "a heat shield that ablates", "flutter of thin blades")
TEST_LINE = "query-id\tcorpus-id\tscore\nq1\td0\t1\n"


class Home:
    """A folder with a corpus, a place for the student and settings, all of them sound until a case spoils one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.until, self.arguments = folder, "prepare", list[str]()
        self.finished: tuple[str, ...] = ()
        corpora.beir(folder / "corpus", corpora.docs(*TEXTS), {"q1": "swept wing"}, test=[("q1", "d0", 1)])
        (folder / "student").mkdir()
        self.settings()

    def settings(self, **changes: Any) -> None:
        sound = {"name": "r", "student": {"model": "student"}, "prepare": {"corpus": "corpus"}}
        self.write("s.yaml", yaml.safe_dump({**sound, "teacher": {"kind": "fusion"}, **changes}))

    def student(self, reference: str) -> None:
        self.settings(student={"model": reference})
        self.until = "mine"

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def corpus(self, name: str, content: str | bytes) -> None:
        """Another corpus: one file."""
        self.write(name, content)
        self.settings(prepare={"corpus": name})

    def docs(self, *rows: object) -> None:
        corpora.jsonl(self.folder / "corpus" / "corpus.jsonl", rows)

    def call(self, *arguments: object) -> None:
        """Another command than running the settings."""
        self.arguments = [str(argument) for argument in arguments]

    def command(self) -> list[str]:
        usual = ["run", str(self.folder / "s.yaml"), "--store", str(self.folder / "store"), "--until", self.until]
        return self.arguments or usual


def doc(**fields: object) -> dict[str, object]:
    return {"_id": "x", "title": "", "text": "a wing that is long enough", **fields}


def corrupt(home: Home) -> None:
    tiny.student(home.folder / "model", vocab_texts=TEXTS)
    weights = home.folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])
    home.settings(student={"model": "model"})
    no_model(home)


def pickled(home: Home) -> None:
    tiny.student(home.folder / "model", vocab_texts=TEXTS)
    (home.folder / "model" / "model.safetensors").rename(home.folder / "model" / "pytorch_model.bin")
    home.settings(student={"model": "model"})
    no_model(home)


def no_model(home: Home) -> None:
    """The folder is there and only mine looks into it: what was finished before stays."""
    home.until, home.finished = "mine", ("prepare", "generate")


def file_for_store(home: Home) -> None:
    home.write("file", "")
    home.call("run", home.folder / "s.yaml", "--store", home.folder / "file" / "store")


def qrels(text: str) -> Callable[[Home], None]:
    return lambda home: home.write("corpus/qrels/test.tsv", text)


def queries(text: str) -> Callable[[Home], None]:
    return lambda home: home.write("corpus/queries.jsonl", text)


CASES: dict[str, tuple[Callable[[Home], object], str]] = {
    # settings
    "no settings file": (lambda h: h.call("run", h.folder / "no.yaml"), r"no\.yaml does not exist; `hone init FOLDER`"),
    "settings are a folder": (lambda h: h.call("run", h.folder), r"cannot read .*: Is a directory; name a settings"),
    "settings are no YAML": (
        lambda h: h.write("s.yaml", "name: r\nprepare: [\n"),
        r"s\.yaml, line 3 is not valid YAML",
    ),
    "settings hold a NUL": (lambda h: h.write("s.yaml", b"name: \0"), r"s\.yaml is not valid YAML: .*; write it again"),
    "settings not UTF-8": (lambda h: h.write("s.yaml", b"name: \xff"), r"s\.yaml is not UTF-8 \(byte 6\); save it"),
    "settings are empty": (lambda h: h.write("s.yaml", ""), r"s\.yaml holds no settings; write `key: value` lines"),
    "settings nest too deep": (
        lambda h: h.write("s.yaml", "a: " + "[" * 9_999),
        r"s\.yaml is not valid YAML: .*recurs",
    ),
    "a key twice": (lambda h: h.write("s.yaml", "name: r\nname: s\n"), r"line 2 .*: the key 'name' stands there twice"),
    "an unknown setting": (lambda h: h.settings(mine={"top": 3}), r"mine\.top: unknown setting; did you mean top_k\?"),
    "an unknown section": (lambda h: h.settings(minne={}), r"minne: unknown setting; did you mean mine\?"),
    "a wrong type": (lambda h: h.settings(mine={"top_k": "many"}), r"mine\.top_k: .*integer.*, not 'many'; `hone desc"),
    "a shared setting of wrong type": (
        lambda h: h.settings(student={"model": "student", "pooling": "max"}),
        r"s\.yaml: student\.pooling: .*not 'max'",
    ),
    "no student": (lambda h: h.settings(student={}), r"s\.yaml: student\.model: Field required; `hone describe mine`"),
    "a section that is a list": (lambda h: h.settings(mine=[]), r"mine: write the settings of mine as indented"),
    "a number out of range": (
        lambda h: h.settings(prepare={"corpus": "corpus", "max_chars": 0}),
        r"prepare\.max_chars: .*greater than .*, not 0",
    ),
    "an unknown preset": (
        lambda h: h.settings(preset="gpu"),
        r"preset: 'gpu' is none of the presets; write one of cpu, paper",
    ),
    "no name": (lambda h: h.settings(name="../x"), r"name: give the run a name of letters, digits"),
    "an unknown backend": (
        lambda h: h.settings(teacher={"kind": "oracle"}),
        r"s\.yaml: teacher\.kind: no such teacher; the kinds are .*fusion",
    ),
    "an unknown source of queries": (
        lambda h: h.settings(generate={"sources": ["gpt"]}),
        r"generate\.sources: name each",
    ),
    # command line
    "an unknown stage": (
        lambda h: h.call("stage", "train", "--config", "{}"),
        r"'train' is not a stage; the stages are",
    ),
    "until an unknown stage": (
        lambda h: setattr(h, "until", "trian"),
        r"'trian' is not a stage; the stages are prepare",
    ),
    "a nonsense shard": (
        lambda h: h.call("stage", "prepare", "--config", h.folder / "s.yaml", "--shard", "4/3"),
        r"--shard '4/3' is not i/n",
    ),
    "a shard of a stage that has none": (
        lambda h: h.call("stage", "prepare", "--config", h.folder / "s.yaml", "--shard", "0/3"),
        r"prepare is not sharded",
    ),
    "settings that are no JSON": (
        lambda h: h.call("stage", "mine", "--config", "{x"),
        r"--config is not valid JSON .*; write an object",
    ),
    "an input that is not there": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=prepare/00"),
        r"--input docs=prepare/00: there is no finished docs at prepare/00",
    ),
    "an input outside the store": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=../../x"),
        r"no key of a store",
    ),
    "no input": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml"),
        r"mine reads docs, queries: run the",
    ),
    "an unknown run": (
        lambda h: h.call("search", "r", "wing", "--store", h.folder),
        r"there is no run called 'r' in .*; `hone run` makes",
    ),
    "an empty query": (lambda h: h.call("search", "r", " "), r"the query is empty; type what you would search for"),
    "a store that is no folder": (
        file_for_store,
        r"cannot write to the store .*: Not a directory; give another --store",
    ),
    "a store of another kind": (
        lambda h: h.call("run", h.folder / "s.yaml", "--store", "gs://x"),
        r"'gs://x' is neither a folder nor s3://",
    ),
    "nothing to look at": (lambda h: h.call("init", h.folder / "no"), r"no does not exist; give the folder or file"),
    "nothing to describe": (lambda h: h.call("describe", "train"), r"'train' is not a stage; the stages are prepare"),
    # models
    "a model that is missing": (lambda h: h.student("no"), r"/no does not exist; correct the path"),
    "a package that is missing": (
        lambda h: h.student("package:no_such"),
        r"package:no_such is not an installed Python package",
    ),
    "a folder that is no model": (
        no_model,
        r"student has no config\.json; student\.model must be a transformers model",
    ),
    "a corrupt model": (corrupt, r"model\.safetensors is damaged \(.*\); copy the model folder again"),
    "a pickled model": (pickled, r"model has no \.safetensors weights; convert the model to safetensors"),
    # corpus
    "a corpus that is missing": (
        lambda h: h.settings(prepare={"corpus": "no"}),
        r"/no does not exist; correct the path",
    ),
    "a folder without corpus": (
        lambda h: h.settings(prepare={"corpus": "student"}),
        r"student holds no corpus: no corp",
    ),
    "a file of unknown kind": (lambda h: h.corpus("c.xls", "x"), r"c\.xls holds no corpus.*correct prepare\.corpus"),
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
        r"line 1: the id 'a\\x00b' is not 1 to 512 bytes of printable",
    ),
    "an id of half a character": (
        lambda h: h.write("corpus/corpus.jsonl", '{"_id":"\\ud800","text":"x"}'),
        r"the id '",
    ),
    "an id of 10 KB": (lambda h: h.docs(doc(_id="x" * 10_240)), r"line 1: the id 'x{40}' is not 1 to 512 bytes"),
    "an empty id": (lambda h: h.docs(doc(_id="")), r"line 1: the id '' is not 1 to 512 bytes of printable text; give"),
    "a text that is a list": (
        lambda h: h.docs(doc(text=[1])),
        r"line 1: field 'text' of 'x' is not text but '\[1\]'; .+",
    ),
    "bytes that are not UTF-8": (
        lambda h: h.write("corpus/corpus.jsonl", b'{"_id": "1"}\n\xff'),
        r"corpus\.jsonl, line 1: no field 'text'",
    ),
    "a text file that is not UTF-8": (
        lambda h: h.corpus("c.txt", b"a\nb\xff"),
        r"c\.txt, line 2: not UTF-8 \(byte 2 of",
    ),
    "a broken JSON line": (
        lambda h: h.corpus("c.jsonl", '{"_id": 1,\n'),
        r"c\.jsonl, line 1: not valid JSON \(.*\); write",
    ),
    "a JSON line that is no object": (
        lambda h: h.corpus("c.jsonl", "7\n"),
        r"c\.jsonl, line 1: not a JSON object but '7'",
    ),
    "JSON that nests too deep": (lambda h: h.corpus("c.jsonl", "[" * 99_999), r"c\.jsonl, line 1: not valid JSON"),
    "a ragged CSV": (
        lambda h: h.corpus("c.csv", "_id,text\n1,a,b\n"),
        r"c\.csv, line 2: 3 fields where .* has 2; mend",
    ),
    "a CSV with an open quote": (
        lambda h: h.corpus("c.csv", '_id,text\n1,"a\n'),
        r"c\.csv, line \d: .*; write a quote",
    ),
    "a CSV with a column twice": (lambda h: h.corpus("c.csv", "_id,text,text\n"), r"c\.csv, line 1: two columns share"),
    "garbage for Parquet": (lambda h: h.corpus("c.parquet", b"PAR1 nonsense"), r"c\.parquet is not readable Parquet"),
    "an empty Parquet file": (
        lambda h: h.corpus("c.parquet", b""),
        r"c\.parquet is not readable Parquet \(.*\); write it",
    ),
    # judgements
    "a judged document that is not there": (
        qrels(f"{TEST_LINE}q1\tno\t1\n"),
        r"test\.tsv, line 3: unknown document 'no'",
    ),
    "a judged query that is not there": (
        qrels(f"{TEST_LINE}no\td1\t1\n"),
        r"test\.tsv, line 3: unknown query 'no'; add",
    ),
    "a relevance that is no number": (
        qrels("h\th\th\nq1\td0\thigh1\n"),
        r"line 2: relevance 'high1' is not a whole number",
    ),
    "a judgement of two columns": (
        qrels(f"{TEST_LINE}q1 d1 1\n"),
        r"test\.tsv, line 3: 1 columns; write query-id, corp",
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
        r"cannot read .*queries\.jsonl",
    ),
    "a query twice": (queries('{"_id":"q1","text":"a"}\n' * 2), r"queries\.jsonl, line 2: id 'q1' was used before"),
    "a query without text": (queries('{"_id":"q1"}\n'), r"queries\.jsonl, line 1: query 'q1' has no text in the field"),
    "a split that is missing": (
        lambda h: h.settings(prepare={"corpus": "corpus", "test_split": "final"}),
        r"final\.tsv does not exist; the judge",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_ends_with_one_sentence_and_code_2_and_writes_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, said = CASES[case]
    home = Home(tmp_path)
    spoil(home)
    monkeypatch.chdir(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr(sys, "argv", ["hone", *home.command()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2, lines
    sentences = [line for line in lines if line.startswith("hone: ")]
    assert sentences == lines[-1:]
    assert re.search(said, sentences[0])
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    folders = {path.relative_to(tmp_path / "store").parts[0] for path in made}
    assert folders <= {*home.finished, "runs"} if home.finished else not made


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.docs(*(doc(_id=str(number), text=f"wing {'x' * 400} {number:x} y{number * 7:x}") for number in range(2_000)))
    home.write("corpus/qrels/test.tsv", "")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "hone", *home.command()]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "hone: the disk is full" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    shutil.rmtree(tmp_path / "store")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def test_what_is_odd_but_meant_is_data(tmp_path: Path) -> None:
    long = " ".join(f"word{number}" for number in range(600_000))
    assert len(long) > 5 << 20
    rows = [doc(_id="../../x", text="wing \u2028 one of two"), doc(_id="5MB", text=long), doc(_id="none", text="")]
    path = tmp_path / "corpus.jsonl"
    corpora.jsonl(path, rows)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n\r\n"))
    store = LocalStore(tmp_path / "store")
    manifest = corpora.prepared(store, path)
    kept = {row["doc_id"]: row["text"] for row in corpora.rows_of(store, manifest, "docs")}
    assert kept == {"../../x": "wing one of two", "5MB": long[:2_048]}
    dropped = corpora.rows_of(store, manifest, "dropped_by_prepare")
    assert [(row["id"], row["reason"]) for row in dropped] == [("none", "empty text")]
    assert {entry.name for entry in tmp_path.iterdir()} == {"corpus.jsonl", "store"}
