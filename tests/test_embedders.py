"""States that are kept below the trained layers: the same bits, and refused where a model has none."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
import twin
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.training.embedders import TopLayers, embed_all
from hone.errors import UserError
from twin import encoder, texts

PLENTY = 1e12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", layers=3, vocab_texts=twin.WORDS)


def test_states_below_the_trained_layers_are_the_same_bits_in_whatever_order_they_are_asked_for(
    folder: Path, tmp_path: Path
) -> None:
    student = encoder(folder)
    tokens = student.tokenize_docs(texts(400))
    forward = TopLayers(student, tokens, 1, PLENTY, tmp_path)
    backward = TopLayers(student, tokens, 1, PLENTY, tmp_path)
    embed_all(forward, range(400), 100)
    for number in reversed(range(400)):
        backward.embed([number])
    assert len(forward.blocks) > 1
    assert forward.states is not None
    assert torch.equal(forward.states, backward.states)


def test_kept_states_follow_the_trained_weights(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    tokens = student.tokenize_docs(texts(6))
    embedder = TopLayers(student, tokens, 1, PLENTY, tmp_path)
    before = embed_all(embedder, range(6), 100)
    with torch.no_grad():
        embedder.weights[0].mul_(3.0)
        after = student.embed(*student.pad(tokens))
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(embed_all(embedder, range(6), 100), after)


def test_a_prompt_that_is_not_pooled_stays_out_of_kept_states_too(folder: Path, tmp_path: Path) -> None:
    path = shutil.copytree(folder, tmp_path / "left-out")
    (path / "1_Pooling").mkdir(exist_ok=True)
    (path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True, "include_prompt": False}))
    student = Encoder(path, Student(model=str(path), doc_prefix="wing slip ", query_prefix=""))
    tokens = [*student.tokenize_docs(texts(60)), *student.tokenize_queries(texts(20, seed=1))]
    embedder = TopLayers(student, tokens, 1, PLENTY, tmp_path)
    with torch.no_grad():
        embedder.weights[0].mul_(3.0)
        whole = student.embed(*student.pad(tokens))
        pooled = student.embed(*student.pad([ids[1:] if ids[0] < 0 else ids for ids in tokens]))
    torch.testing.assert_close(embed_all(embedder, range(80), 100), whole)
    assert not torch.allclose(whole[:60], pooled[:60], atol=1e-3)
    assert all(embedder.embed([number]).isfinite().all() for number in range(80))


@pytest.mark.parametrize("layers", [3, 12])
def test_more_layers_than_there_are_above_a_frozen_one_are_refused(folder: Path, tmp_path: Path, layers: int) -> None:
    student = encoder(folder)
    with pytest.raises(UserError, match=r"distill\.train_layers: the student has 3 layers"):
        TopLayers(student, [[1, 2]], layers, PLENTY, tmp_path)


def test_a_model_without_one_list_of_layers_is_refused(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    student.model.config.num_hidden_layers = 7
    with pytest.raises(UserError, match=r"BertModel has no single list of layers, needed by distill.train_layers"):
        TopLayers(student, [[1, 2]], 1, PLENTY, tmp_path)


def test_a_model_whose_layers_are_joined_by_more_than_hidden_states_is_refused(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    seen: list[Tensor] = []
    first, _, last = student.model.encoder.layer
    first.register_forward_hook(lambda _, __, output: seen.append(output))
    last.register_forward_hook(lambda _, __, output: output + seen.pop())
    with pytest.raises(UserError, match="BertModel cannot be split between layers"):
        TopLayers(student, [[1, 2, 3], [4, 5]], 1, PLENTY, tmp_path)
