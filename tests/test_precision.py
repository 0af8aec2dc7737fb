"""The precision of a model on this machine."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

import tiny
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.encoders.vectors import _identity
from hone.backends.precision import _tell_emulated, resolved_precision


def on(patch: pytest.MonkeyPatch, capabilities: Mapping[str, bool]) -> None:
    """This machine's processor, as if it knew these and no more, without a GPU."""
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    _tell_emulated.cache_clear()


@pytest.mark.parametrize(
    ("capabilities", "taken"),
    [
        ({"avx2": True}, "fp32"),
        ({"avx512_f": True}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ],
)
def test_auto_takes_bf16_only_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: Mapping[str, bool], taken: str
) -> None:
    on(monkeypatch, capabilities)
    assert resolved_precision("auto") == taken


@pytest.mark.parametrize("known", [True, False])
def test_auto_takes_bf16_only_where_the_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: known or including_emulation)
    assert resolved_precision("auto") == ("bf16" if known else "fp32")


def test_emulated_bf16_is_done_where_asked_for_and_told_once(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, {"avx2": True})
    assert [resolved_precision("bf16") for _ in range(3)] == ["bf16"] * 3
    assert capfd.readouterr().err.count("emulated") == 1


def test_precision_auto_shares_its_vectors_with_what_it_comes_to_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.student(tmp_path / "student", vocab_texts=["heat flow"])

    def kept_under(precision: str) -> str:
        return _identity(Encoder(folder, Student.model_validate({"model": str(folder), "precision": precision})), "", 8)

    for capabilities, same, other in (({"avx2": True}, "fp32", "bf16"), ({"amx_bf16": True}, "bf16", "fp32")):
        on(monkeypatch, capabilities)
        assert kept_under("auto") == kept_under(same) != kept_under(other)
