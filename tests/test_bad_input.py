"""Bad input: one sentence that says what, where and what to do, exit code 2, and nothing written."""

import gzip
import json
import os
import pickle
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import chain
import corpora
from hone import cli, local, models, settings
from hone.manifest import digest_of
from hone.store import LocalStore, sha256_of

ROOT = os.geteuid() == 0
ALIAS_BOMB = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)
TEST_LINE = "query-id\tcorpus-id\tscore\nq1\td0\t1\n"


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is sound: corpus, student, settings, and a store with a finished run."""
    folder = chain.home(tmp_path_factory.mktemp("sound"), docs=24)
    Home(folder).settings()
    local.run(settings.load(folder / "s.yaml"), LocalStore(folder / "store"))
    return folder


class Home:
    """A folder in which everything is sound, for a case to spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.until, self.arguments = folder, "evaluate", list[str]()
        self.store = LocalStore(folder / "store")

    def settings(self, **changes: Any) -> None:
        """The usual settings, with other sections in place of some."""
        self.write("s.yaml", yaml.safe_dump({"name": "r", **chain.SETTINGS, **changes}))

    def write(self, name: str, content: str | bytes) -> None:
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

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
        usual = ["run", str(self.folder / "s.yaml"), "--store", self.store.uri, "--until", self.until]
        return self.arguments or usual

    def digests(self) -> dict[str, str]:
        """Every object of the store by its sha256."""
        return {one.key: sha256_of(self.store.root / one.key) for one in self.store.objects()}


def doc(**fields: object) -> dict[str, object]:
    return {"_id": "x", "title": "", "text": "a wing that is long enough", **fields}


Spoil = Callable[[Home], object]


def student(name: str, content: str | bytes) -> Spoil:
    """Another content of a file of the student."""
    return lambda home: home.write(f"student/{name}", content)


def weights(change: Callable[[bytes], bytes]) -> Spoil:
    """Other bytes of the student's weights."""

    def spoil(home: Home) -> None:
        path = home.folder / "student" / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def pickled(home: Home) -> None:
    (home.folder / "student" / "model.safetensors").rename(home.folder / "student" / "pytorch_model.bin")


def no_tokenizer(home: Home) -> None:
    for name in models.TOKENIZERS:
        (home.folder / "student" / name).unlink(missing_ok=True)


def stored(pattern: str, harm: Callable[[Path], object]) -> Spoil:
    """Harm to the first object of the store that fits."""
    return lambda home: harm(sorted(home.store.root.glob(pattern))[0])


def manifest(change: Callable[[dict[str, Any]], object], stage: str = "mine") -> Spoil:
    """A manifest that was tampered with, as far as it is one still."""

    def harm(path: Path) -> None:
        data = json.loads(path.read_text("utf-8"))
        change(data)
        path.write_text(json.dumps(data), "utf-8")

    return stored(f"{stage}/*/manifest.json", harm)


def manifest_text(text: str) -> Spoil:
    return stored("mine/*/manifest.json", lambda path: path.write_text(text, "utf-8"))


def part(**fields: object) -> Spoil:
    """A manifest whose first part of candidates says something else, and whose sums fit."""

    def change(data: dict[str, Any]) -> None:
        found = data["outputs"]["candidates"]
        found["parts"][0].update(fields)
        found["digest"] = digest_of([one["sha256"] for one in found["parts"]])
        found["rows"] = sum(one["rows"] for one in found["parts"])

    return manifest(change)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def record(text: str) -> Spoil:
    """Another record of the run, which is asked for its verdict."""

    def spoil(home: Home) -> None:
        home.write("store/runs/r.json", text)
        home.call("gate", "r", "--store", home.store.uri)

    return spoil


def verified(home: Home) -> None:
    stored("distill/*/model-*/model.safetensors", flip)(home)
    home.call("store", "verify", "--store", home.store.uri)


def read_again(home: Home) -> None:
    """Damage to what a stage reads that has to run again."""
    stored("mine/*/candidates/*", flip)(home)
    home.settings(teacher={"kind": "fusion", "force": True, "lexical_weight": 0.5})


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


def long_line(home: Home) -> None:
    home.corpus("c.jsonl", "")
    os.truncate(home.folder / "c.jsonl", (64 << 20) + 2)


def file_for_store(home: Home) -> None:
    home.write("file", "")
    home.call("run", home.folder / "s.yaml", "--store", home.folder / "file" / "store")


def qrels(text: str | bytes) -> Spoil:
    return lambda home: home.write("corpus/qrels/test.tsv", text)


def queries(text: str) -> Spoil:
    return lambda home: home.write("corpus/queries.jsonl", text)


CASES: dict[str, tuple[Spoil, str]] = {
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
    "settings that would run code": (
        lambda h: h.write("s.yaml", 'name: !!python/object/apply:os.system ["touch x"]'),
        r"s\.yaml, line 1 is not valid YAML: could not determine a constructor",
    ),
    "an alias bomb": (
        lambda h: h.write("s.yaml", ALIAS_BOMB),
        r"s\.yaml, line \d is not valid YAML: its aliases stand for more than 100,000 values; mend the line",
    ),
    "an alias of itself": (
        lambda h: h.write("s.yaml", "name: &a [*a]"),
        r"s\.yaml, line 1 is not valid YAML: .*itself",
    ),
    "a name of 10 KB": (lambda h: h.settings(name="x" * 10_240), r"name: give the run a name .*, 200 at most"),
    "a name with an escape": (lambda h: h.settings(name="%2e%2e"), r"name: give the run a name of letters, digits"),
    "a name with a NUL": (lambda h: h.settings(name="a\0b"), r"name: give the run a name of letters, digits"),
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
    "damage looked for in an unknown run": (
        lambda h: h.call("store", "verify", "no", "--store", h.store.uri),
        r"there is no run called 'no' in .*; the runs there are r",
    ),
    "a difference to an unknown run": (
        lambda h: h.call("store", "diff", "r", "no", "--store", h.store.uri),
        r"there is no run called 'no'",
    ),
    "repair outside the store": (
        lambda h: h.call("repair", "../r", "--store", h.store.uri),
        r"'\.\./r/manifest.json' is no key of a store",
    ),
    "an input with an escape": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=prepare/%2e%2e"),
        r"'prepare/%2e%2e/manifest.json' is no key of a store",
    ),
    "an input with a NUL": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", "docs=prepare/a\0b"),
        r"is no key of a store",
    ),
    "an input of 10 KB": (
        lambda h: h.call("stage", "mine", "--config", h.folder / "s.yaml", "--input", f"docs={'x' * 10_240}"),
        r"is no key of a store",
    ),
    # models: looked at before anything is computed
    "a model that is missing": (lambda h: h.settings(student={"model": "no"}), r"/no does not exist; correct the path"),
    "a package that is missing": (
        lambda h: h.settings(student={"model": "package:no_such"}),
        r"package:no_such is not an installed Python package",
    ),
    "a folder that is no model": (
        lambda h: (h.folder / "student" / "config.json").unlink(),
        r"student has no config\.json; name a transformers model folder",
    ),
    "a configuration that is no JSON": (student("config.json", "{"), r"config\.json is not valid JSON .*; copy the"),
    "a configuration that is a list": (student("config.json", "[]"), r"config\.json is no JSON object; copy the model"),
    "a configuration of bytes": (student("config.json", b"\xff"), r"config\.json is not valid JSON"),
    "a model without tokenizer": (no_tokenizer, r"student has no tokenizer \(tokenizer\.json, .*\); copy the model"),
    "a pickled model": (pickled, r"student has no \.safetensors weights; convert the model to safetensors"),
    "weights cut short": (
        weights(lambda d: d[:-9]),
        r"model\.safetensors is damaged \(it should have .* bytes and has",
    ),
    "weights with something after them": (weights(lambda d: d + b"#!"), r"is damaged \(it should have .* bytes"),
    "weights of no bytes": (weights(lambda d: b""), r"is damaged \(of 0 bytes, fewer than its header needs\)"),
    "weights whose header claims all memory": (
        weights(lambda d: b"\xff" * 8 + d[8:]),
        r"is damaged \(of .* bytes, fewer than its header needs\); copy the model folder again",
    ),
    "weights whose header is no JSON": (
        weights(lambda d: d[:8] + b"\x80" + d[9:]),
        r"is damaged \(its header is not readable\)",
    ),
    "a pickle called safetensors": (
        weights(lambda d: pickle.dumps({"weights": [1.0] * 99})),
        r"is damaged \(of .* bytes, fewer than its header needs\)",
    ),
    "weights in parts, one of which is missing": (
        student("model.safetensors.index.json", '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'),
        r"model-00002-of-00002\.safetensors is missing, which model\.safetensors\.index\.json names",
    ),
    "an index that names nothing": (student("model.safetensors.index.json", "{}"), r"names no files of weights; copy"),
    "modules that are no list": (student("modules.json", "{}"), r"modules\.json is no list of modules; copy"),
    "a module of another kind": (
        student("modules.json", '[{"type": "evil.Code", "path": ""}]'),
        r"modules\.json lists evil\.Code; Hone knows Transformer",
    ),
    "a module that lies elsewhere": (
        student("modules.json", '[{"type": "x.Transformer", "path": "../../etc"}]'),
        r"modules\.json lists '\.\./\.\./etc', which is outside the folder",
    ),
    "a teacher that is no model": (
        lambda h: h.settings(teacher={"kind": "cross_encoder", "model": "corpus"}, curate={}),
        r"corpus has no config\.json; name a transformers model folder",
    ),
    # the store
    "a manifest that is cut": (
        manifest_text('{"stage": "mi'),
        r"mine/.*/manifest\.json in .* is damaged .*hone repair",
    ),
    "a manifest of no bytes": (manifest_text(""), r"mine/.*/manifest\.json in .* is damaged"),
    "a manifest that nests too deep": (manifest_text("[" * 9_999), r"mine/.*/manifest\.json in .* is damaged"),
    "a manifest of another stage": (manifest(lambda m: m.update(stage="score")), r"damaged \(it belongs to 'score/"),
    "a manifest of other settings": (manifest(lambda m: m.update(fingerprint="0" * 16)), r"it belongs to 'mine/0000"),
    "a manifest with something more": (manifest(lambda m: m.update(run="sh")), r"is damaged \(1 validation error"),
    "a manifest without outputs": (manifest(lambda m: m.update(outputs={})), r"damaged \(it must hold candidates"),
    "a manifest of an unknown table": (
        manifest(lambda m: m["outputs"].update(x=m["outputs"]["candidates"])),
        r"is damaged \('x' is neither table nor folder\)",
    ),
    "a folder without files": (
        manifest(lambda m: m["outputs"]["model"].update(parts=[]), "distill"),
        r"distill/.*is damaged \(model is empty\)",
    ),
    "a digest that was changed": (
        manifest(lambda m: m["outputs"]["candidates"].update(digest="0" * 64)),
        r"is damaged \(candidates is not the sum of its parts\)",
    ),
    "a part outside the store": (
        part(path="../../../../etc/passwd"),
        r"damaged \('\.\./\.\./\.\./\.\./etc/passwd' is no",
    ),
    "a part with an absolute path": (part(path="/etc/passwd"), r"is damaged \('/etc/passwd' is no key"),
    "a part with an escape": (part(path="candidates/%2e%2e/x"), r"is damaged \('candidates/%2e%2e/x' is no key"),
    "a part with a NUL": (part(path="candidates/a\0b"), r"is damaged \('candidates/a\\x00b' is no key"),
    "a part of 10 KB of name": (part(path=f"candidates/{'x' * 10_240}"), r"is damaged \('candidates/x+' is no key"),
    "a part of another table": (
        part(path="docs/x.parquet"),
        r"is damaged \('docs/x\.parquet' is no part of candidates",
    ),
    "a part of negative rows": (part(rows=-1), r"is no part of candidates\)"),
    "a part of another size": (part(bytes=1), r"mine/.*/candidates/.* is missing or cut short; `hone repair mine/"),
    "a result whose input lies elsewhere": (
        manifest(lambda m: m.update(inputs={"docs": "../../x"})),
        r"is damaged \('\.\./\.\./x' is no key",
    ),
    "a part that is gone": (stored("mine/*/candidates/*", Path.unlink), r"is missing or cut short; `hone repair mine/"),
    "a part that is cut": (stored("mine/*/candidates/*", lambda p: p.write_bytes(b"")), r"is missing or cut short"),
    "a run whose record is no JSON": (
        record("{"),
        r"runs/r\.json in .* is damaged \(it is no JSON object\); delete it",
    ),
    "a run whose record is a list": (record("[]"), r"runs/r\.json in .* is damaged \(it is no JSON object\)"),
    "a run that points elsewhere": (record('{"gate": "../../x"}'), r"r\.json in .* is damaged \('gate' is no result\)"),
    "a flipped bit": (verified, r"1 of the above in .* are damaged; mend each as it says"),
    "a flipped bit in what a stage reads": (read_again, r"mine/.* is missing or damaged; `hone repair mine/"),
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
    "a line of 64 MiB": (long_line, r"c\.jsonl, line 1: longer than 64 MiB; split it"),
    "a compressed corpus": (lambda h: h.corpus("c.jsonl.gz", gzip.compress(b"{}")), r"c\.jsonl\.gz holds no corpus"),
    "a zipped corpus": (lambda h: h.corpus("c.zip", b"PK\3\4"), r"c\.zip holds no corpus"),
    "a query with an id of 10 KB": (queries(f'{{"_id":"{"q" * 10_240}","text":"a"}}\n'), r"the id 'q{40}' is not 1 to"),
    # judgements
    "judgements of bytes": (qrels(b"h\th\th\n\xff\xfe\0\1"), r"test\.tsv, line 2: not UTF-8 \(byte 1"),
    "judgements with NULs": (qrels("h\th\th\n\0\0\0\n"), r"test\.tsv, line 2: 1 columns; write query-id"),
    "a relevance with a point": (qrels(f"{TEST_LINE}q3\td1\t1.5\n"), r"line 3: relevance '1\.5' is not a whole number"),
    "a relevance beyond all bounds": (qrels(f"{TEST_LINE}q3\td1\t{'9' * 30}\n"), r"line 3: relevance '9+' is not a"),
    "a relevance in other digits": (qrels(f"{TEST_LINE}q3\td1\t\uff11\n"), r"line 3: relevance '.' is not a whole"),
    "a judged id that is a path": (qrels(f"{TEST_LINE}q3\t../../x\t1\n"), r"line 3: unknown document '\.\./\.\./x'"),
    "a judged id of 10 KB": (qrels(f"{TEST_LINE}q3\t{'x' * 10_240}\t1\n"), r"line 3: unknown document 'x+'"),
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
def test_bad_input_ends_with_one_sentence_and_code_2_and_leaves_the_store_as_it_was(
    case: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, said = CASES[case]
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    spoil(home)
    monkeypatch.chdir(tmp_path)
    before, objects = sorted(tmp_path.rglob("*")), home.digests()
    monkeypatch.setattr(sys, "argv", ["hone", *home.command()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2, lines
    sentences = [line for line in lines if line.startswith("hone: ")]
    assert sentences == lines[-1:]
    assert re.search(said, sentences[0])
    assert home.digests() == objects
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_that_is_read_only_is_read_and_refused_where_something_must_be_written(
    sound: Path, tmp_path: Path
) -> None:
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    before = home.digests()
    store, hone = shlex.quote(home.store.uri), shlex.join([sys.executable, "-m", "hone", *home.command()])
    # Nothing but a mount stops root.
    guard = f"mount --bind {store} {store} && mount -o remount,ro,bind {store}" if ROOT else f"chmod -R a-w {store}"
    command = [*(["unshare", "--mount"] if ROOT else []), "sh", "-c", f"{guard} && {hone}"]
    same = subprocess.run(command, capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stderr
    home.settings(mine={"top_k": 9})
    new = subprocess.run(command, capture_output=True, text=True, check=False)
    assert new.returncode == 2, new.stderr
    assert re.fullmatch(r"hone: cannot write to the store .*; give another --store", new.stderr.splitlines()[-1])
    assert home.digests() == before


def test_a_full_disk_is_named_and_leaves_nothing_half_written(sound: Path, tmp_path: Path) -> None:
    home = Home(Path(shutil.copytree(sound, tmp_path / "home")))
    home.store, home.until = LocalStore(tmp_path / "store"), "prepare"
    home.docs(*(doc(_id=str(number), text=f"wing {'x' * 400} {number:x} y{number * 7:x}") for number in range(2_000)))
    home.write("corpus/qrels/test.tsv", "")
    home.write("corpus/qrels/dev.tsv", "")

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
