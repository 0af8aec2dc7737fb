"""The registry: versions never change, the pointer moves by one conditional write, only what passed is published."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hone.errors import UserError
from hone.results import registry
from hone.storage.local import LocalStore
from hone.storage.sealed import seal
from released import add, published, put, results

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def current(store: LocalStore) -> str:
    return registry.moves(store, "support")[-1].version


def test_of_eight_publishers_exactly_one_wins_and_the_others_say_who_did(store: LocalStore, tmp_path: Path) -> None:
    versions = [f"v{number}" for number in range(8)]
    for version in versions:
        add(store, tmp_path, version)
    seen, start = registry.moves(store, "support"), threading.Barrier(8)
    won: list[str] = []
    lost: list[str] = []

    def race(version: str) -> None:
        start.wait()
        try:
            won.append(registry.move(store, "support", version, "publish", seen).version)
        except UserError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=race, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [current(store)]
    assert len(lost) == 7
    by = registry.moves(store, "support")[-1].by
    assert all(f"moved to version {won[0]} by {by}" in sentence for sentence in lost)


def test_a_publisher_killed_between_upload_and_pointer_leaves_current_a_whole_model(
    store: LocalStore, tmp_path: Path
) -> None:
    add(store, tmp_path, "a1")
    put(store, "a1")
    add(store, tmp_path, "b2")  # killed here: the pointer was never moved
    assert current(store) == "a1"
    assert registry.release(store, "support", current(store)).parts
    assert put(store, "b2").number == 2  # and the next try goes through


def test_a_publisher_killed_during_the_upload_leaves_no_version(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, tmp_path, "a1")
    put(store, "a1")

    def killed(key: str, path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            add(store, tmp_path, "b2")
    with pytest.raises(UserError, match=r"no version 'b2'.*the versions are a1"):
        put(store, "b2", "promote")
    assert current(store) == "a1"


def test_a_version_whose_file_is_gone_cannot_become_current(store: LocalStore, tmp_path: Path) -> None:
    add(store, tmp_path, "a1")
    (store.root / "models/support/a1/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors in .* is missing"):
        put(store, "a1")


def test_a_version_with_a_flipped_bit_cannot_become_current_and_verify_names_the_file(
    store: LocalStore, tmp_path: Path
) -> None:
    add(store, tmp_path, "a1")
    put(store, "a1")
    add(store, tmp_path, "b2")
    weights = store.root / "models/support/b2/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match=r"b2/model\.safetensors in .* is missing or damaged; publish again"):
        put(store, "b2", "promote")
    assert current(store) == "a1"
    assert [flaw.partition(" in ")[0] for flaw in registry.flaws(store)] == ["models/support/b2/model.safetensors"]


@pytest.mark.parametrize("key", ["models/support/current/00000001.json", "models/support/a1/release.json"])
@pytest.mark.parametrize("data", [b"{", b"[]", seal({"version": 7})], ids=["cut", "a list", "other fields"])
def test_a_damaged_pointer_or_release_is_one_sentence(store: LocalStore, tmp_path: Path, key: str, data: bytes) -> None:
    add(store, tmp_path, "a1")
    put(store, "a1")
    store.replace(key, data)
    with pytest.raises(UserError, match=rf"{key} in .* is damaged \(.*\); bring it back from a copy of the store, or"):
        registry.current(store, "support")
    assert any(key in flaw for flaw in registry.flaws(store))


def test_a_pointer_to_a_version_that_is_not_there_is_named(store: LocalStore) -> None:
    move = registry.Move(number=1, version="a1", action="publish")
    store.replace("models/support/current/00000001.json", seal(move.model_dump(mode="json")))
    (flaw,) = registry.flaws(store)
    assert flaw.startswith("models/support/current names 'a1', which is not there; publish it again")


def test_the_same_version_again_moves_nothing(store: LocalStore, tmp_path: Path) -> None:
    add(store, tmp_path, "a1")
    assert put(store, "a1") == put(store, "a1")
    assert len(registry.moves(store, "support")) == 1


def test_rollback_goes_back_one_version_at_a_time_and_then_refuses(store: LocalStore, tmp_path: Path) -> None:
    for version in ("a1", "b2", "c3"):
        add(store, tmp_path, version)
        put(store, version)
    assert [registry.rollback(store, "support").version for _ in range(2)] == ["b2", "a1"]
    with pytest.raises(UserError, match="nothing to go back to"):
        registry.rollback(store, "support")
    put(store, "c3", "promote")
    assert registry.rollback(store, "support").version == "a1"
    assert [move.number for move in registry.moves(store, "support")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("name", ["../x", "A", "a/b", "", "-a", "a.b"])
def test_a_name_that_is_no_plain_segment_is_refused(store: LocalStore, name: str) -> None:
    with pytest.raises(UserError, match="is not a valid registry name"):
        registry.release(store, "support", name)


def test_what_passed_is_published_whole_and_only_once(store: LocalStore, tmp_path: Path) -> None:
    inputs = results(store, tmp_path, "promote", lambda digest: digest)
    found = published(store, tmp_path, inputs)
    assert published(store, tmp_path, inputs) == found
    assert current(store) == found.facts["version"]
    assert (store.root / found.facts["prefix"] / "model.safetensors").read_text() == "weights"
    assert (store.root / found.facts["prefix"] / "README.md").read_text() == "the card"
    assert registry.release(store, "support", current(store)).model == inputs["model"].outputs["model"].digest
    assert len(registry.moves(store, "support")) == 1


@pytest.mark.parametrize(
    ("verdict", "about", "sentence"),
    [
        ("hold", str, "the verdict is hold: too few lists"),
        ("reject", str, "the verdict is reject"),
        ("promote", lambda digest: "0" * 64, "about another model"),
    ],
)
def test_nothing_else_is_published(
    store: LocalStore, tmp_path: Path, verdict: str, about: Callable[[str], str], sentence: str
) -> None:
    inputs = results(store, tmp_path, verdict, about)
    with pytest.raises(UserError, match=sentence):
        published(store, tmp_path, inputs)
    assert list(store.objects("models")) == []
