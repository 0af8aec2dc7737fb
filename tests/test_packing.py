"""Texts one after another without padding give the vectors and gradients of padded ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import XLMRobertaConfig, XLMRobertaModel

import tiny
import twin
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.training.batches import make_batch
from hone.backends.training.embedders import WholeModel
from hone.backends.training.gradients import Gradients
from hone.backends.training.settings import LossSettings

TEXTS = twin.texts(30)
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "BERT": lambda folder: tiny.bert(folder, vocab_texts=twin.WORDS),
    "ModernBERT": lambda folder: tiny.modernbert(folder, vocab_texts=twin.WORDS),
    "Qwen3": tiny.embedding_qwen3,
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_packed_vectors_and_gradients_are_those_of_padded_texts(tmp_path: Path, name: str, pooling: str) -> None:
    folder = FAMILIES[name](tmp_path / "weights")
    found: list[list[Tensor]] = []
    for packed in (False, True):
        student = Encoder(folder, Student.model_validate({"model": str(folder), "pooling": pooling}))
        if packed:
            assert student.pack()
        assert student.packs == packed
        embedder = WholeModel(student, student.tokenize_docs(TEXTS))
        with torch.no_grad():
            vectors = embedder.embed(range(30))
        Gradients(embedder, LossSettings(), 300, 1e12).of(make_batch(twin.lists(10, 20), student.device))
        found.append([vectors, *(weight.grad for weight in embedder.weights if weight.grad is not None)])
        torch.testing.assert_close(student.embed(*student.pad(embedder.tokens)), vectors, rtol=1e-4, atol=1e-5)
    padded, packed_ones = found
    torch.testing.assert_close(packed_ones[0], padded[0], rtol=1e-4, atol=1e-5)
    ours, theirs = (torch.cat([grad.flatten().double() for grad in grads[1:]]) for grads in (packed_ones, padded))
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


def test_a_model_whose_packed_vectors_are_others_stays_padded(tmp_path: Path) -> None:
    tokenizer = tiny.word_pieces(twin.WORDS)
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        initializer_range=0.5, max_position_embeddings=512,
    )  # fmt: skip
    XLMRobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    student = Encoder(tmp_path, Student(model=str(tmp_path)))
    before = student.docs(TEXTS)
    assert not student.pack(), "its positions do not start at 0"
    assert (student.docs(TEXTS) == before).all()
