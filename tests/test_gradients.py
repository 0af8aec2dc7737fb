"""The shortcuts that save memory and work change no gradient."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
import twin
from hone.backends import budget
from hone.backends.training import gradients, heap
from hone.backends.training.batches import Batch, make_batch
from hone.backends.training.embedders import Embedder, TopLayers, WholeModel, make_embedder
from hone.backends.training.gradients import Gradients, dev_figures, saved_bytes
from hone.backends.training.losses import Lists, terms
from hone.backends.training.memory import states_limit
from hone.backends.training.settings import LossSettings, TrainingSettings
from hone.errors import UserError
from twin import encoder, lists, texts

pytestmark = pytest.mark.slow

LOSS = LossSettings(margin_mse_weight=0.5)
PLENTY, NOTHING = 1e12, 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", layers=3, vocab_texts=twin.WORDS)


def gradients_of(embedder: Embedder, batch: Batch, memory: float, tokens: int = 40) -> list[Tensor]:
    Gradients(embedder, LOSS, tokens, memory).of(batch)
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
    plenty = Gradients(embedder, LOSS, 40, PLENTY)
    plenty.of(batch)
    student.model.zero_grad()
    whole = gradients_of(embedder, batch, PLENTY)
    shares = []
    for memory in (NOTHING, 0.7 * plenty.expected):
        maker = Gradients(embedder, LOSS, 40, memory)
        maker.of(batch)
        shares.append(maker.kept / maker.groups)
        for weight, expected in zip(embedder.weights, whole, strict=True):
            assert weight.grad is None or torch.equal(weight.grad, expected)
        student.model.zero_grad()
    assert shares[0] == 0 < shares[1] < 1


def test_what_a_step_takes_is_told_before_the_first_one_and_what_would_take_less(folder: Path) -> None:
    student = encoder(folder)
    embedder = WholeModel(student, student.tokenize_docs(texts(30)))
    batch, told = make_batch(lists(10, 20), student.device), list[str]()
    weights = 2 * sum(weight.numel() * 4 for weight in embedder.weights)
    roomy, cramped = (Gradients(embedder, LOSS, 40, memory, say=told.append) for memory in (PLENTY, weights + 3e5))
    for maker in (roomy, roomy, cramped):
        maker.of(batch)
    assert len(told) == 2
    assert "with 100% of graphs kept" in told[0]
    assert "with 0% of graphs kept; that is more than the 0.00 GB that it may: set distill.token_budget: " in told[1]
    assert roomy.expected > cramped.expected > weights + 3e5
    fitting = Gradients(embedder, LOSS, int(told[1].rpartition(" ")[2]), weights + 3e5, say=told.append)
    fitting.of(batch)
    assert fitting.expected <= weights + 3e5
    assert "more than" not in told[2]
    student.model.zero_grad()


class Noted(WholeModel):
    """Notes the most tokens, padding included, that it was ever given at once."""

    most = 0

    def embed(self, numbers: Sequence[int]) -> Tensor:
        self.most = max(self.most, len(numbers) * max(len(self.tokens[number]) for number in numbers))
        return super().embed(numbers)


def test_a_processor_works_on_no_more_tokens_at_once_than_it_is_fast_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = encoder(folder)
    monkeypatch.setattr(budget, "CACHED", 20)
    most = 20 * budget.WIDE // student.width
    embedder = Noted(student, student.tokenize_docs(texts(300)))
    batch = make_batch(lists(60, 240), student.device)
    expected = gradients_of(embedder, batch, PLENTY, most // 4)
    assert embedder.most <= most // 4
    assert_close(gradients_of(embedder, batch, PLENTY, 8 * most), expected)
    assert most // 2 < embedder.most <= most < embedder.lengths.sum()
    embedder.most = 0
    dev_figures(embedder, [batch], LOSS, 8 * most)
    assert most // 2 < embedder.most <= most


class Cramped(WholeModel):
    """Runs out of memory at its `fatal`-th micro-batch, and at every one of more than `most` tokens."""

    fatal, most = 0, 1 << 30

    def embed(self, numbers: Sequence[int]) -> Tensor:
        self.fatal -= 1
        longest = max(len(self.tokens[number]) for number in numbers)
        if not self.fatal or len(numbers) * longest > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().embed(numbers)


def test_the_loss_is_taken_of_fewer_queries_at_once_where_memory_runs_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = encoder(folder)
    embedder = WholeModel(student, student.tokenize_docs(texts(30)))
    batch = make_batch(lists(10, 20), student.device)
    expected = gradients_of(embedder, batch, PLENTY)
    sizes: list[int] = []

    def cramped(found: Lists, settings: LossSettings) -> dict[str, Tensor]:
        if len(found.slots) > 3 or len(sizes) == 1:
            sizes.append(0)
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(found.slots))
        return terms(found, settings)

    monkeypatch.setattr(gradients, "terms", cramped)
    assert_close(gradients_of(embedder, batch, PLENTY), expected)
    assert sum(sizes) == 10


@pytest.mark.parametrize("memory", [NOTHING, 3e5, PLENTY])
def test_training_goes_on_with_half_the_tokens_wherever_memory_runs_out(folder: Path, memory: float) -> None:
    student = encoder(folder)
    embedder = Cramped(student, student.tokenize_docs(texts(30)))
    batch = make_batch(lists(10, 20), student.device)
    memory = memory and memory + 2 * sum(weight.numel() * 4 for weight in embedder.weights)
    expected = gradients_of(embedder, batch, PLENTY)
    for fatal in (1, 2, 3, 5, 9):
        embedder.fatal = fatal
        assert_close(gradients_of(embedder, batch, memory, 120), expected)
    embedder.fatal, embedder.most = 0, 30
    maker = Gradients(embedder, LOSS, 240, memory)
    maker.of(batch)
    assert_close([torch.zeros_like(w) if w.grad is None else w.grad for w in embedder.weights], expected)
    assert maker.budget.tokens == 30
    assert dev_figures(embedder, [batch], LOSS, 240) == pytest.approx(dev_figures(embedder, [batch], LOSS, 30))
    embedder.most = 2
    with pytest.raises(UserError, match="do not fit into memory"):
        maker.of(batch)


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


def test_kept_states_are_a_part_of_the_memory_that_training_may_take(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder)
    tokens = student.tokenize_docs(texts(30))
    size = TopLayers(student, tokens, 1, PLENTY, tmp_path).held
    assert size == sum(map(len, tokens)) * student.pooled * 4
    for memory, held in ((2.0 * size, size), (2.0 * size - 2, 0)):
        embedder = TopLayers(student, tokens, 1, states_limit(memory, student.device), tmp_path)
        assert embedder.held == held
        assert Gradients(embedder, LOSS, 40, memory).memory == memory - held


def test_beside_a_gpu_kept_states_have_what_is_free_of_main_memory_whatever_the_gpu_has() -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for of_the_gpu in (1e3, 1e15):
        assert 1e6 < states_limit(of_the_gpu, torch.device("cuda")) <= machine / 2


def made(folder: Path, scratch: Path, **how: Any) -> Embedder:
    student = encoder(folder)
    return make_embedder(
        student, student.tokenize_docs(texts(30)), TrainingSettings.model_validate(how), PLENTY, scratch
    )


@pytest.mark.parametrize("how", [{}, {"train_layers": 1}, {"train": "lora"}])
def test_gradient_checkpointing_keeps_less_and_changes_no_bit(
    folder: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    plain, thrifty = (made(folder, tmp_path, gradient_checkpointing=on, **how) for on in (False, True))
    batch = make_batch(lists(10, 20), plain.encoder.device)
    for ours, theirs in zip(gradients_of(thrifty, batch, PLENTY), gradients_of(plain, batch, PLENTY), strict=True):
        assert torch.equal(ours, theirs)
    held: list[int] = []
    for embedder in (plain, thrifty):
        with saved_bytes(list(embedder.encoder.model.parameters())) as seen:
            embedder.embed(range(10))
        held.append(sum(seen.values()))
    assert held[1] < 0.6 * held[0]


def test_a_compiled_student_has_the_same_gradients(tmp_path: Path) -> None:
    folder = tiny.student(tmp_path / "small", layers=1, vocab_texts=twin.WORDS)
    plain, compiled = (made(folder, tmp_path, compile=on) for on in (False, True))
    batch = make_batch(lists(10, 20), plain.encoder.device)
    assert_close(gradients_of(compiled, batch, PLENTY), gradients_of(plain, batch, PLENTY))
    with pytest.raises(ValueError, match="compile works only where all layers are trained"):
        TrainingSettings(compile=True, train_layers=1)


def test_a_process_gives_back_what_was_freed_between_what_is_held() -> None:
    before = heap.resident()
    torch.ones(30 << 18)  # freed: from now on the C library takes what is smaller from its heap, which has gaps
    held = [torch.ones(1 << 18) for _ in range(300)]
    kept = held[::30]
    del held
    heap.give_back()
    assert heap.resident() - before < 100 << 20
    assert all(float(one.sum()) == 1 << 18 for one in kept)


def test_training_gives_memory_back_where_it_holds_more_than_its_steps_take(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(1))
    monkeypatch.setattr(heap, "resident", iter([0, 0, 10**12]).__next__)
    student = encoder(folder)
    tokens = student.tokenize_docs(texts(30))
    maker = Gradients(WholeModel(student, tokens), LossSettings(), 64, 1e9)
    batch = make_batch(lists(10, 20), student.device)
    for expected in (0, 1):
        maker.of(batch)
        assert len(given) == expected
