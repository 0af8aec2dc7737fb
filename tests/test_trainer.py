"""The loop of training does what the settings say, also when it is killed."""

import io
import itertools
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import killed
import tiny
import twin
from forking import forks
from hone.backends.encoders.encoder import Encoder
from hone.backends.training import loop
from hone.backends.training.batches import Example, by_domain
from hone.backends.training.embedders import LowRank, WholeModel, embed_all, make_embedder
from hone.backends.training.gradients import Gradients, anchor_vectors, dev_figures
from hone.backends.training.loop import dev_batches, train
from hone.backends.training.schedule import course
from hone.backends.training.settings import LossSettings, TrainingSettings
from hone.backends.training.state import State
from hone.errors import UserError
from hone.progress import Task
from twin import encoder, lists, texts

pytestmark = pytest.mark.slow

PLENTY = 1e12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", layers=3, vocab_texts=twin.WORDS)


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


def test_pooled_steps_lower_the_loss_over_the_whole_lists_too(folder: Path) -> None:
    examples, student = lists(40, 12, seed=3), encoder(folder)
    whole = dev_batches(examples, student.device)
    embedder = WholeModel(student, student.tokenize_docs(texts(60)))
    before = dev_figures(embedder, whole, LossSettings(), 100)
    state = trained(student, examples, examples, 60, docs_per_step=16, batch_size=12, max_epochs=6, patience=9)
    assert [look["dev_loss"] for look in state.history.looks][-1] < 0.7 * state.history.looks[0]["dev_loss"]
    assert dev_figures(embedder, whole, LossSettings(), 100)["dev_loss"] < 0.7 * before["dev_loss"]
    assert all(batch.queries > 1 for batch in dev_batches(examples, student.device, docs_per_step=16))


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


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_every_step_pulls_its_share_of_the_way_back_to_the_untrained_weights(folder: Path, share: float) -> None:
    free, held = encoder(folder), encoder(folder)
    trained(free, lists(40, 12), [], 60, max_steps=1)
    trained(held, lists(40, 12), [], 60, max_steps=1, pull=share)
    base = weights(encoder(folder))
    for name, weight in weights(held).items():
        expected = base[name] + (1 - share) * (weights(free)[name] - base[name])
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_minutes_end_a_training_after_the_steps_that_fit_and_the_rate_falls_over_just_these(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=2.0)  # a step takes two seconds: the clock is read before it and after it
    monkeypatch.setattr("hone.backends.training.loop.time", SimpleNamespace(monotonic=lambda: next(clock)))
    state = trained(encoder(folder), lists(40, 12), [], 60, max_epochs=30, eval_every=1000, warmup_steps=5, minutes=2)
    assert state.planned == state.step == len(state.history.steps)
    assert 10 < state.step < 60
    rates = [step["learning_rate"] for step in state.history.steps]
    assert rates.index(max(rates)) in (4, 5)
    assert rates[-1] < 0.2 * max(rates)


def test_more_minutes_than_all_steps_take_change_nothing(folder: Path) -> None:
    free, limited = encoder(folder), encoder(folder)
    trained(free, lists(40, 12), [], 60, max_steps=6)
    state = trained(limited, lists(40, 12), [], 60, max_steps=6, minutes=60)
    assert (state.step, state.planned) == (6, 6)
    assert all(torch.equal(weight, weights(limited)[name]) for name, weight in weights(free).items())


def test_a_warm_up_before_minutes_end_a_training_does_not_grow_with_the_lists() -> None:
    limited, free = (course(64_000, TrainingSettings(batch_size=32, minutes=minutes)) for minutes in (20, 0))
    assert (limited.epoch, limited.warmup) == (2000, 10)
    assert (free.epoch, free.warmup) == (2000, 1000)


def test_a_pooled_step_may_take_every_list_up_to_the_batch_size_however_many_steps_an_epoch_has() -> None:
    of = {docs: course(1000, TrainingSettings(batch_size=256, docs_per_step=docs)).batch for docs in (0, 128)}
    assert of == {0: 100, 128: 256}
    assert course(40, TrainingSettings(batch_size=256, docs_per_step=128)).batch == 40


def test_a_look_at_the_dev_lists_takes_every_text_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = encoder(folder)
    embedder = WholeModel(student, student.tokenize_docs(texts(130)))
    dev = dev_batches(lists(100, 20), student.device)
    apart = [dev_figures(embedder, [batch], LossSettings(), 100) for batch in dev]
    shares = [batch.queries / 100 for batch in dev]
    asked: list[int] = []
    embed = embedder.embed
    monkeypatch.setattr(embedder, "embed", lambda numbers: asked.extend(numbers) or embed(numbers))
    together = dev_figures(embedder, dev, LossSettings(), 100)
    assert len(dev) > 1
    assert len(asked) == len({*asked})
    for name, value in together.items():
        assert value == pytest.approx(sum(share * of[name] for share, of in zip(shares, apart, strict=True)), rel=1e-5)


def test_too_few_minutes_for_the_warm_up_leave_one_step_after_it(folder: Path) -> None:
    state = trained(encoder(folder), lists(40, 12), lists(4, 12), 60, warmup_steps=3, minutes=1e-9)
    assert state.step == state.planned == state.history.looks[-1]["step"]


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


@pytest.mark.parametrize(("top", "lives", "weights"), [(0, 11, {}), (1, 4, {}), (0, 4, {"it": 3, "hr": 1, "law": 1.5})])
def test_a_training_killed_at_random_steps_ends_with_the_bytes_of_an_uninterrupted_one(
    folder: Path, tmp_path: Path, top: int, lives: int, weights: dict[str, float]
) -> None:
    for home in ("whole", "torn"):
        (tmp_path / home).mkdir()
    killed.training(folder, tmp_path / "whole", top, weights)
    random = np.random.default_rng(top)
    processes = forks()
    for life in range(lives):
        fate = {"die_at_save": 1} if life == 3 else {"die_at_step": int(random.integers(1, 6))}
        child = processes.Process(target=killed.training, args=(folder, tmp_path / "torn", top, weights), kwargs=fate)
        child.start()
        child.join()
        assert child.exitcode in (-signal.SIGKILL, 0)
    killed.training(folder, tmp_path / "torn", top, weights)
    whole, torn = (tmp_path / home / "model" / "model.safetensors" for home in ("whole", "torn"))
    assert whole.read_bytes() == torn.read_bytes()


def test_a_training_that_was_over_before_the_kill_is_not_done_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hone.backends.training.checkpoints.SECONDS_AT_THE_END", 0.0)
    killed.training(folder, tmp_path)
    saved = (tmp_path / "model/model.safetensors").read_bytes()
    monkeypatch.setattr(loop, "take_step", lambda *given: pytest.fail("a step was taken again"))
    killed.training(folder, tmp_path)
    assert (tmp_path / "model/model.safetensors").read_bytes() == saved


def test_each_step_and_each_look_takes_the_lists_of_one_domain_and_an_epoch_of_each_takes_all_of_its_lists() -> None:
    mixed = [replace(one, domain=("it", "hr", "hr", "law")[at % 4]) for at, one in enumerate(lists(60, 30))]
    for how in ({}, {"cluster_batches": True}, {"docs_per_step": 8}):
        weights = {"it": 2.0, "hr": 1.0, "law": 0.5}
        settings = TrainingSettings.model_validate({"batch_size": 4, "domains": weights, **how})
        steps = list(itertools.islice(loop.steps_of(mixed, settings), 200))
        assert all(len({one.domain for one in step}) == 1 for step in steps)
        for name, own in by_domain(mixed).items():
            alone = loop.steps_of([replace(one, domain="") for one in own], settings.model_copy(update={"domains": {}}))
            taken = [[one.query for one in step] for step in steps if step[0].domain == name]
            assert taken == [[one.query for one in step] for step in itertools.islice(alone, len(taken))], (name, how)


def test_a_domain_counts_in_the_dev_figures_by_its_weight_however_many_lists_it_has(folder: Path) -> None:
    student = encoder(folder)
    embedder = WholeModel(student, student.tokenize_docs(texts(160)))
    own = {"it": lists(100, 20), "hr": lists(9, 20, seed=4)}
    alone = {
        name: dev_figures(embedder, dev_batches(found, student.device), LossSettings(), 100)
        for name, found in own.items()
    }
    mixed = [replace(one, domain=name) for name, found in own.items() for one in found]
    batches = dev_batches(mixed, student.device, weights={"it": 1.0, "hr": 3.0})
    together = dev_figures(embedder, batches, LossSettings(), 100)
    for name, value in together.items():
        assert value == pytest.approx((alone["it"][name] + 3 * alone["hr"][name]) / 4, rel=1e-6)
    assert all(batch.weight == 1.0 for batch in dev_batches(own["it"], student.device, weights={"": 7.0}))


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


def test_low_rank_additions_alone_are_trained_and_merged_where_they_are_saved(folder: Path, tmp_path: Path) -> None:
    before = weights(encoder(folder))
    student, settings = encoder(folder), TrainingSettings(train="lora", lora_rank=4)
    embedder = make_embedder(student, student.tokenize_docs(texts(30)), settings, PLENTY, tmp_path)
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
