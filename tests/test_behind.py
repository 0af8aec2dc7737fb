"""Over a store whose listings are two seconds behind, nothing is called missing that was just written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import chain
from behind import BehindStore
from hone.backends.training.checkpoints import Checkpoints
from hone.errors import UserError
from hone.results import registry
from hone.storage.local import LocalStore
from released import add, put

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> BehindStore:
    return BehindStore(tmp_path / "store")


def test_checkpoints_are_saved_before_any_of_them_is_listed(store: BehindStore, tmp_path: Path) -> None:
    saved = Checkpoints(store, "distill/0/checkpoints", tmp_path, 1)
    for step in range(1, 5):
        saved.save(step, {"a": torch.full((3,), float(step))}, {"step": step})
    assert saved.latest() is None, "a training that is started again at once begins anew"
    store.seconds = 0.0
    latest = saved.latest()
    assert latest is not None
    assert (latest[1]["step"], latest[0]["a"].tolist()) == (4, [4.0] * 3)
    saved.save(5, {"a": torch.full((3,), 5.0)}, {"step": 5})
    assert {Path(one.key).stem for one in store.objects("distill")} == {"00000004", "00000005"}


def test_checkpoints_that_are_still_listed_and_gone_are_passed_over(store: BehindStore, tmp_path: Path) -> None:
    saved = Checkpoints(store, "distill/0/checkpoints", tmp_path, 1)
    store.seconds = 0.0
    for step in (1, 2):
        saved.save(step, {"a": torch.ones(3)}, {"step": step})
    saved.clear()
    store.seconds = 60.0
    assert len(list(store.objects("distill"))) == 4
    assert saved.latest() is None


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_the_registry_knows_its_latest_move_before_it_is_listed(tmp_path: Path, seconds: float) -> None:
    store = BehindStore(tmp_path / "store", seconds)
    for version in ("a1", "b2", "c3"):
        add(store, tmp_path, version)
        put(store, version)
    assert [move.version for move in registry.moves(store, "support")] == ["a1", "b2", "c3"]
    assert registry.rollback(store, "support").version == "b2"
    current = registry.current(store, "support")
    assert current is not None
    assert current.version == "b2"


def test_a_chain_gives_the_same_bytes_and_the_next_run_finds_every_result(tmp_path: Path) -> None:
    home = chain.home(tmp_path, docs=24)
    store = BehindStore(tmp_path / "behind", seconds=600.0)
    done = chain.run(home, store)
    assert list(store.objects("distill")) == []
    assert chain.digests(done) == chain.digests(chain.run(home, LocalStore(tmp_path / "store")))
    again = chain.run(home, store)
    assert {name: one.stored() for name, one in again.items()} == {name: one.stored() for name, one in done.items()}


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "cut short"])
def test_a_part_that_is_not_listed_is_missed_only_if_it_cannot_be_read(
    tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    home = chain.home(tmp_path, docs=24)
    store = BehindStore(tmp_path / "behind", seconds=600.0)
    done = chain.run(home, store)
    harm(store.root / done["mine"].prefix / done["mine"].outputs["candidates"].parts[0].path)
    with pytest.raises(UserError, match=rf"missing or cut short; `hone repair {done['mine'].prefix}`"):
        chain.run(home, store)
