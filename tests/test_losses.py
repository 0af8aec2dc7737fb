"""The losses against their slow twin: the same value and the same gradients, whatever is shared, cached or divided."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import tiny
import twin
from hone.backends.training.losses import Lists, infonce, kl, likely_relevant, margin_mse
from hone.backends.training.settings import LossSettings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", vocab_texts=twin.WORDS)


@pytest.fixture(scope="module")
def slow(folder: Path) -> dict[str, list[Tensor]]:
    """For each loss its value and the gradients of all weights."""
    student = twin.encoder(folder)
    student.model.double()
    tokens, examples = student.tokenize_docs(twin.texts(30)), twin.lists(10, 20)
    found: dict[str, list[Tensor]] = {}
    for name, loss in twin.LOSSES.items():
        value = twin.slow_loss(student, tokens, examples, loss)
        value.backward()
        weights = list(student.model.parameters())
        found[name] = [value.detach(), *(torch.zeros_like(w) if w.grad is None else w.grad for w in weights)]
        student.model.zero_grad()
    return found


@pytest.fixture(scope="module", params=[1, 2])
def fast(
    request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Tensor]]:
    """What training computes, in one process and in each of two."""
    out = tmp_path_factory.mktemp("out")
    if request.param == 1:
        twin.fast(folder, out)
    else:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={request.param}"]
        subprocess.run([sys.executable, *launch, twin.__file__, str(folder), str(out)], check=True, timeout=300)
    found = [load_file(path) for path in sorted(out.iterdir())]
    assert len(found) == request.param
    return found


@pytest.mark.parametrize("name", twin.LOSSES)
def test_value_and_gradients_are_those_of_one_slot_at_a_time_in_float64(
    fast: list[dict[str, Tensor]], slow: dict[str, list[Tensor]], name: str
) -> None:
    value, *gradients = slow[name]
    for process in fast:
        assert abs(float(process[name]) - float(value)) < 1e-5 * float(value)
        pairs = [(process[f"{name}/{at}"].double(), gradient) for at, gradient in enumerate(gradients)]
        error = sum(float((ours - theirs).square().sum()) for ours, theirs in pairs) ** 0.5
        assert error < 1e-5 * sum(float(theirs.square().sum()) for _, theirs in pairs) ** 0.5


def test_every_process_holds_the_same_bits(fast: list[dict[str, Tensor]]) -> None:
    for process in fast[1:]:
        assert all(torch.equal(process[name], values) for name, values in fast[0].items())


def lists(slots: list[list[int]], teacher: list[list[float]], similarities: list[list[float]]) -> Lists:
    mask = torch.ones(len(slots), len(slots[0]), dtype=torch.bool)
    likely = torch.full((len(slots), 2), -1)
    return Lists(torch.tensor(similarities), torch.tensor(slots), torch.tensor(teacher), mask, likely)


def test_no_negatives_are_the_positive_itself_and_what_scores_above_the_share_wherever_they_stand() -> None:
    batch = lists([[0, 1, 2], [1, 3, 0]], [[1.0, 0.6, 0.61], [0.5, 0.29, 0.31]], [[0.0] * 4] * 2)
    excluded = likely_relevant(batch, 0.6)
    # The first query leaves out its positive 0 and passage 2 (0.61), not 1 (exactly 0.6); the second 1 and 0, not 3.
    assert excluded.tolist() == [[True, False, True, False], [True, True, False, False]]
    tau = LossSettings().infonce_tau
    batch.similarities[0] = torch.tensor([0.3, 0.3, 9.0, 0.3])
    assert infonce(batch, LossSettings())[0] == pytest.approx(torch.tensor(3.0).log().item(), rel=1e-5)
    batch.similarities[0, 0] = 0.3 + tau
    expected = -torch.log_softmax(torch.tensor([1.0, 0.0, 0.0]), 0)[0]
    assert infonce(batch, LossSettings())[0] == pytest.approx(expected.item(), rel=1e-4)


def test_what_is_likely_an_answer_is_no_negative_even_where_only_another_list_holds_it() -> None:
    batch = lists([[0, 1], [2, 3]], [[1.0, 0.1], [1.0, 0.1]], [[0.3, 0.3, 9.0, 8.0], [0.0] * 4])
    batch.likely[0] = torch.tensor([2, 3])
    assert likely_relevant(batch, 0.6).tolist() == [[True, False, True, True], [False, False, True, False]]
    assert infonce(batch, LossSettings())[0] == pytest.approx(torch.tensor(2.0).log().item(), rel=1e-5)


def test_padding_of_short_lists_changes_no_loss() -> None:
    whole = lists([[0, 1, 2]], [[1.0, 0.4, 0.2]], [[0.9, 0.1, 0.3, 0.5]])
    padded = lists([[0, 1, 2, 0, 3]], [[1.0, 0.4, 0.2, 0.9, 9.0]], [[0.9, 0.1, 0.3, 0.5]])
    padded.mask[0, 3:] = False
    for term in (kl, infonce, margin_mse):
        torch.testing.assert_close(term(padded, LossSettings()), term(whole, LossSettings()))


def test_a_list_of_one_teaches_no_order() -> None:
    alone = lists([[0]], [[1.0]], [[0.2, 0.9]])
    assert kl(alone, LossSettings()).item() == pytest.approx(0.0)
    assert margin_mse(alone, LossSettings()).item() == 0.0


def test_a_student_that_agrees_with_the_teacher_has_no_loss() -> None:
    loss = LossSettings()
    scores = [1.0, 0.7, 0.1]
    agreed = lists([[0, 1, 2]], [scores], [[score * loss.student_tau / loss.teacher_tau for score in scores]])
    assert kl(agreed, loss).item() == pytest.approx(0.0, abs=1e-6)
    assert margin_mse(lists([[0, 1, 2]], [scores], [scores]), loss).item() == pytest.approx(0.0, abs=1e-6)


def test_a_loss_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="kl_weight"):
        LossSettings(kl_weight=0, infonce_weight=0)
