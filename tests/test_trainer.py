"""Training: the shortcuts that save work change no gradient, and the loop does what the settings say."""

import io
import multiprocessing
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import killed
import tiny
import twin
from hone.backends.encoder import Encoder
from hone.backends.training import gradients
from hone.backends.training.batches import Batch, Example, cluster, epochs, make_batch
from hone.backends.training.checkpoints import Checkpoints
from hone.backends.training.embedders import Embedder, LowRank, TopLayers, WholeModel, embed_all, make_embedder
from hone.backends.training.gradients import Gradients, anchor_vectors, dev_figures, saved_bytes
from hone.backends.training.loop import dev_batches, train
from hone.backends.training.losses import Lists, terms
from hone.backends.training.state import State
from hone.core.schedule import steps_per_epoch
from hone.core.training import LossSettings, TrainingSettings
from hone.errors import UserError
from hone.progress import Task
from hone.store import LocalStore
from twin import encoder, lists, texts

LOSS = LossSettings(margin_mse_weight=0.5)
PLENTY, NOTHING = 1e12, 0.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", layers=3, vocab_texts=twin.WORDS)


def gradients_of(embedder: Embedder, batch: Batch, memory: float, budget: int = 40) -> list[Tensor]:
    Gradients(embedder, LOSS, budget, memory).of(batch)
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
        maker.of(batch)
        shares.append(maker.kept / maker.groups)
        for weight, expected in zip(embedder.weights, whole, strict=True):
            assert weight.grad is None or torch.equal(weight.grad, expected)
        student.model.zero_grad()
    assert shares[0] == 0 < shares[1] < 1


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


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 9), st.integers(0, 9), st.booleans())
@settings(deadline=None, max_examples=60)
def test_an_epoch_takes_every_list_once_and_the_next_one_in_another_order(
    count: int, docs: int, wanted: int, seed: int, clustered: bool
) -> None:
    examples = lists(count, docs, seed=seed)
    steps = steps_per_epoch(count, wanted, min_steps=3)
    batches = epochs(examples, steps, seed, clustered=clustered)
    for _ in range(2):
        epoch = [next(batches) for _ in range(steps)]
        assert sorted(np.concatenate(epoch).tolist()) == list(range(count))
        sizes = sorted(map(len, epoch))
        assert 0 < sizes[0] >= sizes[-1] - 1
        assert sizes[-1] <= wanted
    again = epochs(examples, steps, seed, clustered=clustered)
    other = epochs(examples, steps, seed, clustered=clustered)
    assert all(np.array_equal(next(again), next(other)) for _ in range(5))


@given(st.integers(2, 25), st.integers(1, 10), st.integers(2, 6), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_clustering_is_the_greedy_choice_by_fewest_added_passages(count: int, docs: int, size: int, seed: int) -> None:
    examples = lists(count, docs, seed=seed)
    order = np.random.default_rng(seed).permutation(count)
    parts = np.array_split(order, -(-count // size))
    sizes = [len(part) for part in parts]
    assert [batch.tolist() for batch in cluster(examples, parts)] == greedy(examples, order.tolist(), sizes)


def greedy(examples: Sequence[Example], left: list[int], sizes: Sequence[int]) -> list[list[int]]:
    batches: list[list[int]] = []
    for size in sizes:
        batch = [left.pop(0)]
        inside = set(examples[batch[0]].passages.tolist())
        while len(batch) < size:
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
        order = epochs(examples, 10, 1, clustered=clustered)
        distinct.append(
            sum(make_batch([examples[at] for at in next(order)], torch.device("cpu")).passages for _ in range(10))
        )
    assert distinct[1] < 0.3 * distinct[0]


def trained(student: Encoder, examples: Sequence[Example], dev: Sequence[Example], tokens: int, **how: Any) -> State:
    settings = TrainingSettings.model_validate({"batch_size": 4, "learning_rate": 1e-3, "token_budget": 100, **how})
    embedder = WholeModel(student, student.tokenize_docs(texts(tokens)))
    gradients = Gradients(embedder, settings.loss, settings.token_budget, PLENTY)
    return train(gradients, examples, dev_batches(dev, student.device), settings, lambda total: quiet(total))


def quiet(total: int) -> Task:
    return Task("train", total, "steps", io.StringIO())


def weights(student: Encoder) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in student.model.state_dict().items()}


@pytest.mark.parametrize(("count", "batch", "steps"), [(1, 4096, 3), (3, 4096, 9), (40, 8, 30), (45, 4, 36)])
def test_a_small_corpus_takes_real_steps(folder: Path, count: int, batch: int, steps: int) -> None:
    student = encoder(folder)
    before = weights(student)
    state = trained(student, lists(count, 8), [], 60, batch_size=batch, max_epochs=3)
    assert state.step == len(state.history.steps) == steps
    assert not torch.equal(before["embeddings.word_embeddings.weight"], student.model.embeddings.word_embeddings.weight)


def test_training_lowers_the_dev_loss_and_raises_the_dev_ndcg(folder: Path) -> None:
    examples = lists(40, 12, seed=3)
    state = trained(encoder(folder), examples, examples, 60, max_epochs=6, patience=9)
    first, last = state.history.looks[0], state.history.looks[-1]
    assert last["dev_loss"] < 0.7 * first["dev_loss"]
    assert last["dev_total"] < first["dev_total"]
    assert first["dev_ndcg"] < last["dev_ndcg"] <= 1.0


@pytest.mark.parametrize("choose_by", ["listwise", "total", "ndcg"])
def test_the_best_weights_are_kept_and_training_stops_when_it_gets_no_better(folder: Path, choose_by: str) -> None:
    student = encoder(folder)
    dev = lists(10, 12, seed=5)
    how = {"choose_by": choose_by, "learning_rate": 0.02, "max_epochs": 30}
    state = trained(student, lists(40, 12), dev, 60, **how)
    name, sign = {"listwise": ("dev_loss", 1), "total": ("dev_total", 1), "ndcg": ("dev_ndcg", -1)}[choose_by]
    values = [sign * look[name] for look in state.history.looks]
    best = values.index(min(values))
    assert len(values) == best + 1 + 2, "two looks after the best were no better"
    assert state.best.step == state.history.looks[best]["step"]
    embedder = WholeModel(student, student.tokenize_docs(texts(60)))
    again = dev_figures(embedder, dev_batches(dev, student.device), LossSettings(), 100)
    assert sign * again[name] == pytest.approx(min(values), rel=1e-5)


def test_a_running_average_is_what_is_kept(folder: Path) -> None:
    plain, averaged = encoder(folder), encoder(folder)
    trained(plain, lists(40, 12), [], 60, max_steps=1)
    trained(averaged, lists(40, 12), [], 60, max_steps=1, average=0.75)
    base = weights(encoder(folder))
    for name, weight in weights(averaged).items():
        expected = base[name] + 0.25 * (weights(plain)[name] - base[name])
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_is_a_clear_error(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"the (loss|norm of its gradient) is (nan|inf) at step \d+; lower distill\.learning_rate"
    ):
        trained(encoder(folder), lists(40, 12), [], 60, learning_rate=1e30, clip=1e30)


def test_two_trainings_give_the_same_weights_and_another_seed_does_not(folder: Path) -> None:
    students = [encoder(folder) for _ in range(3)]
    for student, seed in zip(students, (1, 1, 2), strict=True):
        trained(student, lists(40, 12), [], 60, max_steps=5, seed=seed)
    first, same, other = (weights(student) for student in students)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("top", "lives"), [(0, 11), (1, 4)])
def test_a_training_killed_at_random_steps_ends_with_the_bytes_of_an_uninterrupted_one(
    folder: Path, tmp_path: Path, top: int, lives: int
) -> None:
    for home in ("whole", "torn"):
        (tmp_path / home).mkdir()
    killed.training(folder, tmp_path / "whole", top)
    random = np.random.default_rng(top)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["hone.backends.training.loop"])
    for life in range(lives):
        fate = {"die_at_save": 1} if life == 3 else {"die_at_step": int(random.integers(1, 6))}
        child = processes.Process(target=killed.training, args=(folder, tmp_path / "torn", top), kwargs=fate)
        child.start()
        child.join()
        assert child.exitcode in (-signal.SIGKILL, 0)
    killed.training(folder, tmp_path / "torn", top)
    whole, torn = (tmp_path / home / "model" / "model.safetensors" for home in ("whole", "torn"))
    assert whole.read_bytes() == torn.read_bytes()


def checkpoints(folder: Path, every: int = 1) -> Checkpoints:
    return Checkpoints(LocalStore(folder / "store"), "distill/x/checkpoints", folder, every)


def test_the_last_two_checkpoints_stay_and_none_after_the_end(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    for step in range(1, 5):
        kept.save(step, {"a": torch.full((3,), float(step))}, {"step": step})
    names = [found.key.split("/")[-1] for found in kept.store.objects("distill")]
    assert names == ["00000003.json", "00000003.safetensors", "00000004.json", "00000004.safetensors"]
    kept.clear()
    assert list(kept.store.objects("distill")) == []
    assert kept.latest() is None


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "json"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(tmp_path: Path, harm: str) -> None:
    kept = checkpoints(tmp_path)
    for step in (1, 2):
        kept.save(step, {"a": torch.full((300,), float(step))}, {"step": step})
    file = tmp_path / "store/distill/x/checkpoints/00000002.safetensors"
    data = file.read_bytes()
    if harm == "json":
        file.with_suffix(".json").write_text('{"step": 2')
    elif harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-40] if harm == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    found = kept.latest()
    assert found is not None
    assert (found[1]["step"], found[0]["a"][0].item()) == (1, 1.0)
    (tmp_path / "store/distill/x/checkpoints/00000001.safetensors").write_bytes(b"")
    assert kept.latest() is None, "training starts anew"


def test_anchors_are_the_vectors_before_training_and_training_with_them_stays_nearer(folder: Path) -> None:
    moved: list[float] = []
    for weight in (0.0, 5.0):
        student = encoder(folder)
        loss = LossSettings(anchor_weight=weight)
        embedder = WholeModel(student, student.tokenize_docs(texts(60)))
        base = embed_all(embedder, range(60), 100)
        held = anchor_vectors(embedder, loss, 100)
        assert held is None if not weight else torch.equal(held, base)
        settings = TrainingSettings(batch_size=4, learning_rate=1e-3, max_steps=10, loss=loss)
        state = train(Gradients(embedder, loss, 100, PLENTY, held), lists(40, 12), [], settings, quiet)
        moved.append(float((1 - (embed_all(embedder, range(60), 100) * base).sum(-1)).mean()))
        assert ("anchor" in state.history.steps[-1]) == bool(weight)
    assert moved[1] < 0.7 * moved[0]


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


def test_low_rank_additions_alone_are_trained_and_merged_where_they_are_saved(folder: Path, tmp_path: Path) -> None:
    before = weights(encoder(folder))
    embedder = made(folder, tmp_path, train="lora", lora_rank=4)
    assert isinstance(embedder, LowRank)
    untouched = embed_all(WholeModel(encoder(folder), embedder.tokens), range(30), 100)
    assert torch.equal(embed_all(embedder, range(30), 100), untouched)
    assert sum(weight.numel() for weight in embedder.weights) < 0.3 * sum(weight.numel() for weight in before.values())
    settings = TrainingSettings(batch_size=4, learning_rate=0.01, max_steps=5)
    train(Gradients(embedder, settings.loss, 100, PLENTY), lists(20, 10), [], settings, quiet)
    trained_vectors = embed_all(embedder, range(30), 100)
    assert not torch.allclose(trained_vectors, untouched, atol=1e-2)
    originals = embedder.merge()
    torch.testing.assert_close(embed_all(embedder, range(30), 100), trained_vectors, rtol=1e-4, atol=1e-5)
    embedder.encoder.save(tmp_path / "saved")
    after = weights(encoder(tmp_path / "saved"))
    assert after.keys() == before.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all("weight" in name and "embeddings" not in name for name in changed)
    assert {original.shape for original in originals} == {after[name].shape for name in changed}
    for weight, original in zip(embedder.weights, originals, strict=True):
        weight.data.copy_(original)
    assert torch.equal(embed_all(embedder, range(30), 100), untouched)
