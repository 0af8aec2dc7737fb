"""Training: the shortcuts that save work change no gradient, and the loop does what the settings say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tiny
import twin
from hone.backends.training.batches import Batch, Example, cluster, epochs, make_batch
from hone.backends.training.embedders import Embedder, TopLayers, WholeModel, embed_all
from hone.backends.training.gradients import Gradients
from hone.core.training import LossSettings
from hone.errors import UserError
from twin import encoder, lists, texts

LOSS = LossSettings(margin_mse_weight=0.5)
PLENTY, NOTHING = 1e12, 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", layers=3, vocab_texts=twin.WORDS)


def gradients_of(embedder: Embedder, batch: Batch, memory: float, budget: int = 40) -> list[Tensor]:
    Gradients(embedder, LOSS, budget, memory).add(batch)
    found = [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in embedder.weights]
    embedder.encoder.model.zero_grad()
    return found


def assert_close(ours: Sequence[Tensor], theirs: Sequence[Tensor], relative: float = 1e-5) -> None:
    """The difference of all gradients together, relative to their norm."""
    error = sum(float((a - b).double().square().sum()) for a, b in zip(ours, theirs, strict=True)) ** 0.5
    assert error <= relative * sum(float(b.double().square().sum()) for b in theirs) ** 0.5


def test_gradients_are_the_same_bits_however_many_graphs_fit_the_memory(folder: Path) -> None:
    student = encoder(folder)
    embedder = WholeModel(student, student.tokenize_docs(texts(30)))
    batch = make_batch(lists(10, 20), student.device)
    whole = gradients_of(embedder, batch, PLENTY)
    shares = []
    for memory in (NOTHING, 3e5):
        maker = Gradients(embedder, LOSS, 40, memory)
        maker.add(batch)
        shares.append(maker.kept / maker.groups)
        for weight, expected in zip(embedder.weights, whole, strict=True):
            assert weight.grad is None or torch.equal(weight.grad, expected)
        student.model.zero_grad()
    assert shares[0] == 0 < shares[1] < 1


@pytest.mark.parametrize("top", [1, 2])
def test_training_the_top_layers_on_kept_states_gives_the_gradients_of_the_whole_model(
    folder: Path, tmp_path: Path, top: int
) -> None:
    student = encoder(folder)
    tokens = student.tokenize_docs(texts(30))
    batch = make_batch(lists(10, 20), student.device)
    whole = WholeModel(student, tokens)
    whole.weights = TopLayers(student, tokens, top, PLENTY, tmp_path).weights
    expected = gradients_of(whole, batch, PLENTY)
    for memory in (PLENTY, NOTHING):
        kept = TopLayers(student, tokens, top, memory, tmp_path)
        assert_close(gradients_of(kept, batch, PLENTY), expected)
    assert len(list(tmp_path.iterdir())) == 1, "states beyond the memory are kept on disk"
    assert {id(w) for w in whole.weights} == {
        id(w) for layer in student.model.encoder.layer[-top:] for w in layer.parameters()
    }


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


@pytest.mark.parametrize("layers", [3, 12])
def test_more_layers_than_there_are_above_a_frozen_one_are_refused(folder: Path, tmp_path: Path, layers: int) -> None:
    student = encoder(folder)
    with pytest.raises(UserError, match=r"distill\.train_layers: the student has 3 layers"):
        TopLayers(student, [[1, 2]], layers, PLENTY, tmp_path)


def test_a_model_without_one_list_of_layers_is_refused(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    student.model.config.num_hidden_layers = 7
    with pytest.raises(UserError, match=r"train_layers: BertModel has no single list of layers"):
        TopLayers(student, [[1, 2]], 1, PLENTY, tmp_path)


def test_a_model_whose_layers_are_joined_by_more_than_hidden_states_is_refused(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    seen: list[Tensor] = []
    first, _, last = student.model.encoder.layer
    first.register_forward_hook(lambda _, __, output: seen.append(output))
    last.register_forward_hook(lambda _, __, output: output + seen.pop())
    with pytest.raises(UserError, match="BertModel cannot be split between layers"):
        TopLayers(student, [[1, 2, 3], [4, 5]], 1, PLENTY, tmp_path)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_an_epoch_takes_every_list_once_and_the_next_one_in_another_order(
    count: int, docs: int, size: int, seed: int, clustered: bool
) -> None:
    examples = lists(count, docs, seed=seed)
    batches = epochs(examples, size, seed, clustered=clustered)
    for _ in range(2):
        epoch = [next(batches) for _ in range(-(-count // size))]
        assert sorted(np.concatenate(epoch).tolist()) == list(range(count))
        assert sorted(map(len, epoch))[1:] == [size] * (len(epoch) - 1)
    again = epochs(examples, size, seed, clustered=clustered)
    other = epochs(examples, size, seed, clustered=clustered)
    assert all(np.array_equal(next(again), next(other)) for _ in range(5))


@given(st.integers(2, 25), st.integers(1, 10), st.integers(2, 6), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_clustering_is_the_greedy_choice_by_fewest_added_passages(count: int, docs: int, size: int, seed: int) -> None:
    examples = lists(count, docs, seed=seed)
    order = np.random.default_rng(seed).permutation(count)
    assert [batch.tolist() for batch in cluster(examples, order, size)] == greedy(examples, order.tolist(), size)


def greedy(examples: Sequence[Example], left: list[int], size: int) -> list[list[int]]:
    batches: list[list[int]] = []
    while left:
        batch = [left.pop(0)]
        inside = set(examples[batch[0]].passages.tolist())
        while left and len(batch) < size:
            nearest = min(left, key=lambda number: len(set(examples[number].passages.tolist()) - inside))
            left.remove(nearest)
            batch.append(nearest)
            inside |= set(examples[nearest].passages.tolist())
        batches.append(batch)
    return batches


def test_clustered_batches_hold_fewer_distinct_passages() -> None:
    random = np.random.default_rng(0)
    topics = [random.permutation(np.arange(10) + 10 * topic)[:5] for topic in list(range(20)) * 10]
    examples = [Example(200 + at, passages, np.ones(5, np.float32)) for at, passages in enumerate(topics)]
    distinct = []
    for clustered in (False, True):
        order = epochs(examples, 20, 1, clustered=clustered)
        distinct.append(
            sum(make_batch([examples[at] for at in next(order)], torch.device("cpu")).passages for _ in range(10))
        )
    assert distinct[1] < 0.3 * distinct[0]
