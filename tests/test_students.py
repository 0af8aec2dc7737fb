"""Students of every family: trained, saved, and read by sentence-transformers with the same vectors."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import tiny
import twin
from hone.backends.encoders.encoder import Encoder, model_code_digest
from hone.backends.encoders.families import Student, family
from hone.backends.training.batches import make_batch
from hone.backends.training.embedders import make_embedder
from hone.backends.training.gradients import Gradients
from hone.backends.training.loop import take_step
from hone.backends.training.settings import TrainingSettings
from hone.backends.training.state import State
from hone.errors import UserError

TEXTS = twin.texts(30)
PLENTY = 1e12
OWN_CODE = """
from transformers import BertConfig, BertModel


class OwnConfig(BertConfig):
    model_type = "tiny_own"


class OwnModel(BertModel):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state.roll(1, -1)
        return output
"""


def modernbert(folder: Path) -> Path:
    weights = tiny.modernbert(folder / "weights", vocab_texts=twin.WORDS)
    return tiny.sentence_transformer(folder / "student", weights, pooling="mean")


def decoder(folder: Path) -> Path:
    weights = tiny.embedding_qwen3(folder / "weights")
    found = tiny.sentence_transformer(folder / "student", weights, pooling="lasttoken", prompts={"query": "Query:"})
    # Published models of this kind say nothing of chats; a folder that does puts every text into a chat template.
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    return tiny.reconfigured(found, "sentence_bert_config.json", modality_config=text)


def decoder_that_cannot_pad(folder: Path) -> Path:
    return tiny.embedding_qwen3(folder / "Qwen3-Embedding-tiny", pads=False)


def decoder_that_looks_both_ways(folder: Path) -> Path:
    return tiny.bidirectional_qwen2(folder / "gte-Qwen2-tiny-instruct")


@pytest.mark.parametrize(
    ("make", "pooling", "prefix"),
    [
        (modernbert, "mean", ""),
        (decoder, "last", "Query:"),
        (decoder_that_cannot_pad, "last", family("Qwen3-Embedding-0.6B").query_prefix),
        (decoder_that_looks_both_ways, "last", family("gte-Qwen2-1.5B-instruct").query_prefix),
    ],
)
@pytest.mark.parametrize("how", [{}, {"train_layers": 1}, {"train": "lora"}])
def test_a_student_is_trained_and_saved_and_gives_the_same_vectors_in_sentence_transformers(
    tmp_path: Path, make: Callable[[Path], Path], pooling: str, prefix: str, how: dict[str, Any]
) -> None:
    folder = make(tmp_path)
    student = Encoder(folder, Student(model=str(folder), max_query_tokens=512))
    assert (student.pooling, student.query_prefix) == (pooling, prefix)
    before = student.docs(TEXTS)
    train(student, tmp_path, how)
    assert not np.allclose(student.docs(TEXTS), before, atol=1e-3)
    student.save(tmp_path / "saved")
    again = Encoder(tmp_path / "saved", Student(model=str(tmp_path / "saved"), max_query_tokens=512))
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu", local_files_only=True)
    np.testing.assert_allclose(theirs.encode_document(TEXTS, batch_size=7), student.docs(TEXTS), atol=1e-5)
    np.testing.assert_allclose(theirs.encode_query(TEXTS), student.queries(TEXTS), atol=1e-5)
    np.testing.assert_allclose(again.queries(TEXTS), student.queries(TEXTS), atol=1e-5)


def train(student: Encoder, scratch: Path, how: dict[str, Any]) -> None:
    settings = TrainingSettings.model_validate({"learning_rate": 0.01, **how})
    embedder = make_embedder(student, student.tokenize_docs(TEXTS), settings, PLENTY, scratch)
    state = State(embedder.weights, settings)
    gradients = Gradients(embedder, settings.loss, 200, PLENTY)
    losses = [
        take_step(gradients, make_batch(twin.lists(10, 20), student.device), state, settings, 1.0)["loss"]
        for _ in range(3)
    ]
    assert losses[-1] < losses[0]
    if settings.train == "lora":
        embedder.merge()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "pooling", "query", "doc"),
    [
        ("bge-base-en-v1.5", "cls", "Represent this sentence for searching relevant passages: ", ""),
        ("multilingual-e5-base", "mean", "query: ", "passage: "),
        ("e5-mistral-7b-instruct", "last", family("e5-mistral").query_prefix, ""),
        ("multilingual-e5-large-instruct", "mean", family("e5-mistral").query_prefix, ""),
        ("bge-m3", "cls", "", ""),
        ("bge-large-zh-v1.5", "cls", "为这个句子生成表示以用于检索相关文章：", ""),
        ("mxbai-embed-large-v1", "cls", family("bge-base-en").query_prefix, ""),
        ("mxbai-embed-xsmall-v1", "mean", "", ""),
        ("gte-Qwen2-7B-instruct", "last", family("e5-mistral").query_prefix, ""),
        ("granite-embedding-small-english-r2", "cls", "", ""),
        ("embeddinggemma-300m", "mean", "task: search result | query: ", "title: none | text: "),
        ("Qwen3-Embedding-0.6B", "last", family("e5-mistral").query_prefix.rstrip(), ""),
        ("snowflake-arctic-embed-l-v2.0", "cls", "query: ", ""),
        ("snowflake-arctic-embed-m", "cls", family("bge-base-en").query_prefix, ""),
        ("gte-modernbert-base", "cls", "", ""),
        ("gte-large-en-v1.5", "cls", "", ""),
        ("gte-base", "mean", "", ""),
        ("nomic-embed-text-v1.5", "mean", "search_query: ", "search_document: "),
        ("modernbert-embed-base", "mean", "search_query: ", "search_document: "),
        ("all-MiniLM-L6-v2", "mean", "", ""),
    ],
)
def test_a_model_s_name_tells_its_family(name: str, pooling: str, query: str, doc: str) -> None:
    row = family(name)
    assert (row.pooling, row.query_prefix, row.doc_prefix) == (pooling, query, doc)


def test_a_decoder_that_looks_both_ways_does_so_and_its_texts_end_with_a_mark_also_after_saving(tmp_path: Path) -> None:
    folder = decoder_that_looks_both_ways(tmp_path)
    first = Encoder(folder, Student(model=str(folder)))
    first.save(tmp_path / "saved")
    again = Encoder(tmp_path / "saved", Student(model=str(tmp_path / "saved")))
    for student in (first, again):
        short = student.tokenize_docs(["heat flow"])[0]
        assert short[-2:] == [*first.tokenizer("w")["input_ids"][:1], first.tokenizer.eos_token_id]
        assert student.tokenize_docs(["flow " * 600])[0][-1] == student.tokenizer.eos_token_id
        assert len(student.tokenize_docs(["flow " * 600], limit=9)[0]) == 9
        # The state of the first token knows of the last, alone and beside a longer text.
        states = [start(student, texts) for texts in (["heat flow"], ["heat flux"], ["heat flow", "heat flow " * 4])]
        assert not np.allclose(states[0], states[1], atol=1e-3)
        np.testing.assert_allclose(states[0], states[2], atol=1e-5)
    causal = decoder(tmp_path / "causal")
    student = Encoder(causal, Student(model=str(causal)))
    np.testing.assert_allclose(start(student, ["heat flow"]), start(student, ["heat flux"]), atol=1e-5)


def start(student: Encoder, texts: list[str]) -> np.ndarray:
    """The state of the first token of the first text."""
    ids, mask = student.pad(student.tokenize_docs(texts))
    with torch.no_grad():
        return student.model(input_ids=ids, attention_mask=mask).last_hidden_state[0, 0].numpy()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A student that brings its own code."""
    folder = tiny.bert(tmp_path / "own", vocab_texts=twin.WORDS)
    (folder / "modeling_own.py").write_text(OWN_CODE)
    names = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    return tiny.reconfigured(folder, model_type="tiny_own", auto_map=names, architectures=["OwnModel"])


def test_a_student_s_own_code_runs_only_if_the_settings_name_just_that_code(own: Path, tmp_path: Path) -> None:
    digest = model_code_digest(own)
    with pytest.raises(UserError, match=rf"brings code of its own: .* set student\.trust_code to {digest}"):
        Encoder(own, Student(model=str(own)))
    with pytest.raises(UserError, match=r"student\.trust_code is not the sha256 of"):
        Encoder(own, Student(model=str(own), trust_code="0" * 64))
    student = Encoder(own, Student(model=str(own), trust_code=digest))
    train(student, tmp_path, {})
    student.save(tmp_path / "saved")
    again = Encoder(tmp_path / "saved", Student(model=str(tmp_path / "saved"), trust_code=digest))
    np.testing.assert_allclose(again.docs(TEXTS), student.docs(TEXTS), atol=1e-6)
    (own / "modeling_own.py").write_text(OWN_CODE + "# changed\n")
    with pytest.raises(UserError, match=r"read its code again"):
        Encoder(own, Student(model=str(own), trust_code=digest))
