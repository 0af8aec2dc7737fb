"""`hone check-endpoint` against a server that serves the tuned model rightly, and wrongly in each of the usual ways."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from typer.testing import CliRunner, Result

import chain
import tiny
from embedding_server import serving
from hone.commands.cli import app
from hone.results.table_io import fetch_folder
from hone.serving import embedding_endpoint
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

PROMPT = "find: "


@dataclass(frozen=True)
class Home:
    """The store of a finished run, whose student has a Dense layer, and the folder of its tuned model."""

    store: str
    tuned: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = chain.home(tmp_path_factory.mktemp("home"))
    words = [*chain.TOPICS, chain.COMMON, "find"]
    weights = tiny.bert(folder / "bert", dim=16, layers=1, vocab_texts=words)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense = Dense(16, 16, activation_function=torch.nn.Identity())
    modules = [Transformer(str(weights)), Pooling(16, pooling_mode="mean"), dense, Normalize()]
    student = SentenceTransformer(modules=modules, prompts={"query": PROMPT, "document": ""}, device="cpu")
    student.save(str(folder / "prompted"), create_model_card=False)
    store = LocalStore(folder / "store")
    done = chain.run(folder, store, student={"model": "prompted"})
    return Home(store.uri, fetch_folder(store, done["distill"], "model", folder))


def checked(home: Home, url: str, *more: str) -> tuple[Result, dict[str, Any]]:
    made = CliRunner().invoke(app, ["check-endpoint", url, "tiny", "--store", home.store, "--json", *more])
    return made, json.loads(made.stdout) if made.stdout.startswith("{") else {}


@pytest.mark.parametrize("path", ["", "/v1", "/v1/embeddings", "/embed"])
def test_what_is_served_rightly_is_the_same_vectors_and_the_same_ndcg(home: Home, path: str) -> None:
    with serving(home.tuned) as server:
        made, found = checked(home, server.address + path, "--documents")
    assert made.exit_code == 0, made.output
    assert found["causes"] == []
    assert found["texts"]["query"]["least_cosine"] > 0.99999
    assert found["texts"]["document"]["count"] == 40
    assert found["nDCG@10"]["served"] == pytest.approx(found["nDCG@10"]["measured"], abs=1e-9)
    assert found["nDCG@10"]["queries"] == 6


def pool_by_cls(model: SentenceTransformer) -> None:
    model[1] = type(model[1])(16, pooling_mode="cls")


def cut(model: SentenceTransformer) -> None:
    model.max_seq_length = 16


def without(number: int) -> Any:
    def change(model: SentenceTransformer) -> None:
        del model[number]

    return change


WRONG = {
    "prompt": ("query", f"the prompt '{PROMPT}' is missing", {"add": lambda text: text.removeprefix(PROMPT)}),
    "prompt twice": ("query", f"the prompt '{PROMPT}' is there twice", {"add": lambda text: PROMPT + text
                     if text.startswith(PROMPT) else text}),
    "pooling": ("both", "token vectors are pooled by cls instead of mean", {"change": pool_by_cls}),
    "truncation": ("document", "texts are cut at 16 tokens instead of 512", {"change": cut}),
    "layer": ("both", "the Dense layer after pooling is left out", {"change": without(2)}),
    "normalisation": ("both", "vectors are not of length 1", {"change": without(3)}),
    "precision": ("both", "vectors are near those measured", {"round": lambda found: np.round(found, 1)}),
    "dimension": ("both", "vectors have 12 numbers instead of 16", {"round": lambda found: found[:, :12]}),
    "unknown": ("both", "none of the usual causes", {"round": lambda found: np.roll(found, 3, axis=1)}),
}  # fmt: skip


@pytest.mark.parametrize("fault", WRONG)
def test_each_way_to_serve_wrongly_is_named_with_what_to_do(home: Home, fault: str) -> None:
    role, says, how = WRONG[fault]
    with serving(home.tuned, **how) as server:
        made, found = checked(home, f"{server.address}/embed")
    assert made.exit_code == 3, made.output
    named = [cause for cause in found["causes"] if cause["kind"] == fault.split()[0]]
    assert len(named) == 1, found["causes"]
    assert says in named[0]["says"]
    assert named[0]["of"] == (["document", "query"] if role == "both" else [role])
    assert named[0]["remedy"]


def test_two_faults_at_once_are_both_named(home: Home) -> None:
    with serving(home.tuned, change=pool_by_cls, add=lambda text: text.removeprefix(PROMPT)) as server:
        _, found = checked(home, server.address)
    assert {cause["kind"] for cause in found["causes"]} == {"pooling", "prompt"}


def test_a_server_that_should_put_the_prompt_itself_is_checked_so(home: Home) -> None:
    with serving(home.tuned, "/embed") as server:
        assert checked(home, server.address, "--prompts", "name")[0].exit_code == 0
        made, found = checked(home, server.address, "--prompts", "server")
    assert made.exit_code == 3
    assert [cause["says"] for cause in found["causes"]] == [f"the prompt '{PROMPT}' is missing"]
    with serving(home.tuned, "/v1/embeddings") as server:
        made, _ = checked(home, server.address, "--prompts", "name")
    assert "takes no prompt_name" in str(made.exception)


def test_a_server_that_takes_few_texts_at_once_gets_few_and_a_key_is_sent(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(home.tuned, most=5, key="secret-of-the-test") as server:
        refused, _ = checked(home, server.address)
        assert "does not accept the key in EMBEDDING_API_KEY" in str(refused.exception)
        monkeypatch.setenv("EMBEDDING_API_KEY", "secret-of-the-test")
        assert checked(home, server.address)[0].exit_code == 0


def test_an_address_that_serves_nothing_is_one_sentence(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_endpoint, "BACKOFF", embedding_endpoint.Backoff(2, 0.01, 0.01))
    with serving(home.tuned, "/other") as server:
        assert "neither /v1/embeddings nor /embed" in str(checked(home, server.address)[0].exception)
        gone = server.address
    assert "kept failing" in str(checked(home, gone)[0].exception)


def test_the_terminal_shows_figures_and_causes_in_80_columns(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with serving(home.tuned, change=pool_by_cls) as server:
        made = CliRunner().invoke(app, ["check-endpoint", server.address, "tiny", "--store", home.store])
    assert made.exit_code == 3
    assert "differs: what is served is not what was measured" in made.stdout
    assert max(map(len, made.stdout.splitlines())) <= 80
