"""The linear map over a student's vectors: read, trained alone, and saved so that everybody gives the same vectors."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from torch import Tensor

import tiny
import twin
from hone.backends.encoders.encoder import Encoder
from hone.backends.training.batches import make_batch
from hone.backends.training.embedders import HeadOnly, WholeModel
from hone.backends.training.gradients import Gradients, dev_figures
from hone.backends.training.loop import TAUS, calibrated, dev_batches
from hone.backends.training.settings import LossSettings, TrainingSettings
from hone.errors import UserError
from hone.progress import Task
from twin import encoder, lists, texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", vocab_texts=twin.WORDS)


def with_dense(path: Path, activation: torch.nn.Module, *, bias: bool = False) -> Path:
    """A student of sentence-transformers' own with two Dense modules, 32 to 24 to 16 numbers."""
    weights = tiny.bert(path.with_name(f"{path.name}-bert"), vocab_texts=twin.WORDS)
    dense = [
        Dense(32, 24, bias=bias, activation_function=activation),
        Dense(24, 16, bias=bias, activation_function=activation),
    ]
    modules = [Transformer(str(weights)), Pooling(32, pooling_mode="mean"), *dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(path), create_model_card=False)
    return path


def assert_same_vectors(student: Encoder, folder: Path) -> None:
    theirs = SentenceTransformer(str(folder), device="cpu").encode(texts(12))
    assert theirs.shape == (12, student.dimension)
    np.testing.assert_allclose(student.docs(texts(12)), theirs, atol=1e-5)


def test_dense_modules_of_a_folder_are_one_linear_map(tmp_path: Path) -> None:
    path = with_dense(tmp_path / "dense", torch.nn.Identity())
    assert_same_vectors(encoder(path), path)


def test_a_trained_head_is_saved_as_a_dense_module_on_top_of_those_there_were(folder: Path, tmp_path: Path) -> None:
    for base in (folder, with_dense(tmp_path / "dense", torch.nn.Identity())):
        student = encoder(base)
        before = student.docs(texts(12))
        torch.nn.init.normal_(student.add_head().change, std=0.2)
        student.save(tmp_path / f"saved-{base.name}")
        assert not np.allclose(before, student.docs(texts(12)), atol=1e-2)
        assert_same_vectors(student, tmp_path / f"saved-{base.name}")
        np.testing.assert_allclose(
            encoder(tmp_path / f"saved-{base.name}").docs(texts(12)), student.docs(texts(12)), atol=1e-5
        )


def test_training_the_head_on_kept_vectors_gives_the_gradients_of_the_whole_student(folder: Path) -> None:
    student = encoder(folder)
    tokens = student.tokenize_docs(texts(30))
    batch = make_batch(lists(10, 20), student.device)
    alone = HeadOnly(student, student.encode_tokens(tokens))
    whole = WholeModel(student, tokens)
    whole.weights = alone.weights
    torch.nn.init.normal_(student.add_head().change, std=0.1)
    found: list[torch.Tensor] = []
    for embedder in (alone, whole):
        Gradients(embedder, LossSettings(), 40, 1e12).of(batch)
        assert alone.weights[0].grad is not None
        found.append(alone.weights[0].grad.clone())
        student.add_head().zero_grad()
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


def test_only_the_head_is_trained(folder: Path) -> None:
    student = encoder(folder)
    embedder = HeadOnly(student, student.docs(texts(30)))
    assert [weight.requires_grad for weight in student.model.parameters()] == [False] * len(
        list(student.model.parameters())
    )
    assert embedder.weights[0].requires_grad
    assert embedder.weights[0].shape == (32, 32)


class Counted(HeadOnly):
    """Notes which texts are embedded."""

    def __init__(self, encoder: Encoder, vectors: np.ndarray) -> None:
        super().__init__(encoder, vectors)
        self.asked: list[int] = []

    def embed(self, numbers: Sequence[int]) -> Tensor:
        self.asked += numbers
        return super().embed(numbers)


def test_a_calibrated_temperature_is_the_one_of_lowest_loss_before_training_and_takes_every_text_once(
    folder: Path,
) -> None:
    student = encoder(folder)
    embedder = Counted(student, student.docs(texts(130)))
    settings = TrainingSettings(loss=LossSettings(student_tau=0.0))
    examples = lists(100, 20)
    dev = dev_batches(examples, student.device)
    losses = {
        tau: dev_figures(embedder, dev, LossSettings(student_tau=tau), settings.token_budget)["dev_loss"]
        for tau in TAUS
    }
    embedder.asked.clear()
    told = Task("fit", 0, "texts", io.StringIO())
    assert calibrated(embedder, examples, settings, lambda _: told).student_tau == min(losses, key=losses.__getitem__)
    assert len(dev) > 1
    assert told.done == len(embedder.asked) == len({*embedder.asked})


def test_a_module_that_would_be_left_out_is_refused(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    student.save(tmp_path / "saved")
    modules = json.loads((tmp_path / "saved/modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_LayerNorm", "type": "sentence_transformers.models.LayerNorm"})
    (tmp_path / "saved/modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match=r"modules.json lists sentence_transformers.models.LayerNorm; Hone knows"):
        encoder(tmp_path / "saved")
