"""Every settings file of docs/gallery, run at toy size: its corpus in the form that it names, tiny models in the places
of the real ones."""

import json
import re
import shutil
from pathlib import Path

import pytest

import chain
import corpora
import tiny
from hone import settings
from hone.engine import runner
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

GALLERY = Path(__file__).parents[1] / "docs/gallery"
TOY = (
    "generate.max_docs=20", "mine.top_k=10", "score.depth=10", "teacher.force=true", "curate.list_size=4",
    "curate.min_docs=4", "distill.list_size=4", "distill.batch_size=16", "distill.max_steps=2",
    "distill.minutes=0", "distill.train_layers=0", "evaluate.permutations=20", "evaluate.bootstrap=10",
    "evaluate.ceiling_queries=4",
)  # fmt: skip
LAYERS_FIRST = ["distill.first.train_layers=0", "distill.first.max_steps=2", "distill.first.batch_size=16"]
ELSEWHERE = {
    "code": LAYERS_FIRST,
    "law": LAYERS_FIRST,
    "multilingual": ["generate.sources=[extractive]", *LAYERS_FIRST],
    "gpu-vllm": ["generate.sources=[transformers, extractive]", "generate.max_docs=4",
                 "teacher.kind=cross_encoder", "generate.llm.precision=fp32"],
    "kubeflow": ["store=", "student.model=models/all-MiniLM-L6-v2", "prepare.corpus=corpus", "encode.out=vectors"],
}  # fmt: skip
"""What cannot be had here, a server, a GPU and a bucket, with what takes its place."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the settings name."""
    folder = chain.home(tmp_path_factory.mktemp("gallery"))
    words = [*chain.TOPICS, chain.COMMON]
    names = sorted(
        {name for file in GALLERY.glob("*.yaml") for name in re.findall(r"models/([\w.-]+)", file.read_text())}
    )
    for name in names:
        if "reranker" in name:
            tiny.bert(folder / "models" / name, dim=16, layers=1, labels=1, vocab_texts=words)
        elif "instruct" in name:
            tiny.llama(folder / "models" / name, words=words)
        else:
            shutil.copytree(folder / "student", folder / "models" / name)
    rows = [{**doc, "title": doc["text"].split()[0]} for doc in corpora.docs(*_texts(folder))]
    corpora.delimited(folder / "tickets.csv", _renamed(rows, "ticket_id", "subject", "body"))
    corpora.jsonl(folder / "functions.jsonl", _renamed(rows, "path", "name", "source"))
    corpora.parquet(folder / "articles.parquet", rows)
    for name in ("law", "other-domain"):
        shutil.copytree(folder / "corpus", folder / name)
    for name in ("pages", "handbook"):
        (folder / name).mkdir()
        for row in rows:
            (folder / name / f"{row['_id']}.md").write_text(f"# {row['title']}\n\n{row['text']}\n")
    asked = [{"query": " ".join(row["text"].split()[2:6]), "asked_at": f"2026-03-{at % 27 + 1:02d} 10:00:00"}
             for at, row in enumerate(rows)]  # fmt: skip
    corpora.delimited(folder / "queries.csv", asked)
    return folder


def _renamed(rows: list[dict[str, str]], *names: str) -> list[dict[str, str]]:
    """The rows with fields of other names."""
    return [dict(zip(names, row.values(), strict=True)) for row in rows]


def _texts(folder: Path) -> list[str]:
    lines = (folder / "corpus/corpus.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def test_the_page_of_the_gallery_names_every_file() -> None:
    page = (GALLERY / "README.md").read_text("utf-8")
    files = {file.name for file in GALLERY.glob("*.yaml")}
    assert len(files) == 8
    assert set(re.findall(r"\]\(([\w-]+\.yaml)\)", page)) == files


@pytest.mark.parametrize("name", sorted(file.stem for file in GALLERY.glob("*.yaml")))
def test_the_settings_of_the_gallery_run_to_a_verdict(name: str, place: Path) -> None:
    file = place / f"{name}.yaml"
    shutil.copy(GALLERY / f"{name}.yaml", file)
    settings.load(file)  # as it stands
    done = runner.run(settings.load(file, [*TOY, *ELSEWHERE.get(name, ())]), LocalStore(place / "store"))
    assert done["gate"].facts["verdict"] in ("promote", "hold", "reject")
