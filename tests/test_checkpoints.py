"""Checkpoints of training: the last two stay, and a damaged one is passed over."""

import time
from pathlib import Path

import pytest
import torch

from hone.backends.training.checkpoints import Checkpoints
from hone.storage.local import LocalStore


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


def test_slow_steps_have_a_checkpoint_every_five_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    kept, none = checkpoints(tmp_path, every=20), checkpoints(tmp_path, every=0)
    due = []
    for step in range(1, 23):
        now[0] += 60.0
        if kept.due(step):
            kept.save(step, {"a": torch.ones(3)}, {"step": step})
            due.append(step)
        assert not none.due(step)
    assert due == [5, 10, 15, 20]
    assert kept.due(22, over=True), "two minutes of steps are not done again"
    kept.save(22, {"a": torch.ones(3)}, {"step": 22})
    assert not kept.due(22, over=True)


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
