"""`hone encode` on the tiny chain, and the lines of docs/vectors.md that bring its vectors into a database."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

import chain
import corpora
from hone.commands.cli import app
from hone.results.table_io import fetch_folder
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

DOCS = (Path(__file__).parents[1] / "docs/vectors.md").read_text("utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and the vectors of its corpus, with its tuned model beside them as MODEL_FOLDER."""
    folder = chain.home(tmp_path_factory.mktemp("home"))
    store = LocalStore(folder / "store")
    done = chain.run(folder, store)
    (folder / "MODEL_FOLDER").symlink_to(fetch_folder(store, done["distill"], "model", folder))
    assert encode(folder, "--faiss") == "40 vectors of 16 written\n"
    return folder


def encode(home: Path, *options: str, out: str = "vectors") -> str:
    arguments = ["encode", "tiny", "--out", str(home / out), "--store", str(home / "store"), *options]
    made = CliRunner().invoke(app, arguments)
    if made.exception:
        return str(made.exception)
    return re.sub(r" to \S+", "", made.stdout)


def nearest(home: Path) -> tuple[SentenceTransformer, list[str]]:
    """The model, and the ten documents that sentence-transformers itself finds for "a query"."""
    model = SentenceTransformer(str(home / "MODEL_FOLDER"), device="cpu")
    rows = [json.loads(line) for line in (home / "corpus/corpus.jsonl").read_text().splitlines()]
    vectors = model.encode_document([row["text"] for row in rows])
    scores = vectors @ model.encode_query("a query")
    return model, [rows[at]["_id"] for at in np.argsort(-scores, kind="stable")[:10]]


def code(heading: str) -> str:
    """The lines of code below a heading of the page."""
    section = re.split(r"\n#+ ", DOCS.split(f"# {heading}\n", 1)[1])[0]
    return "\n".join(line[4:] for line in section.splitlines() if line.startswith("    ") or not line.strip())


LOCAL = {'url="http://localhost:6333"': '":memory:"'}


@pytest.mark.parametrize("heading", ["Qdrant", "LanceDB", "Milvus", "FAISS"])
def test_the_lines_of_the_docs_load_the_vectors_and_find_what_the_model_finds(
    heading: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    lines = f"{code('Into a database')}\n{code(heading)}"
    for served, local in LOCAL.items():
        lines = lines.replace(served, local)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert list(names["found"]) == nearest(home)[1]


def test_only_new_adds_what_is_new_or_changed_and_names_what_is_gone(home: Path, tmp_path: Path) -> None:
    assert "holds the vectors of this model already; --only-new" in encode(home)
    assert (
        encode(home, "--only-new")
        == "0 vectors of 16 written\n40 were there; 0 are of documents that are gone (vectors.json)\n"
    )
    rows = pq.read_table(home / "vectors/part-00000.parquet")
    assert rows.column_names == ["doc_id", "text_hash", "model", "vector"]
    assert np.linalg.norm(np.array(rows["vector"].to_pylist()), axis=1) == pytest.approx(np.ones(40), abs=1e-6)


def test_after_the_corpus_changed_its_new_documents_are_added_by_the_same_model(tmp_path: Path) -> None:
    folder = chain.home(tmp_path)
    chain.run(folder, LocalStore(folder / "store"))
    encode(folder)
    lines = (folder / "corpus/corpus.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    new = {"_id": "new", "title": "", "text": "foam on the reef"}
    corpora.jsonl(folder / "corpus/corpus.jsonl", [rows[0], {**rows[1], "text": "sea wave tide"}, *rows[3:], new])
    said = encode(folder, "--only-new", "--faiss")
    assert said == "2 vectors of 16 written\n40 were there; 1 are of documents that are gone (vectors.json)\n"
    assert pq.read_table(folder / "vectors/part-00001.parquet")["doc_id"].to_pylist() == ["d1", "new"]
    assert json.loads((folder / "vectors/vectors.json").read_text())["gone"] == ["d2"]
    assert json.loads((folder / "vectors/index-ids.json").read_text())[-1] == "new"


def test_vectors_of_two_models_are_never_mixed(home: Path, tmp_path: Path) -> None:
    about = json.loads((home / "vectors/vectors.json").read_text())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/vectors.json").write_text(json.dumps({**about, "model": "another"}))
    assert "holds vectors of another model" in encode(home, "--only-new", out=str(tmp_path / "other"))
