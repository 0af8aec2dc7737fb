"""Stored JSON vouches for itself; a record is one plan; an older store is read, a newer one is recognised."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hone import __version__
from hone.engine import garbage, maintenance, record
from hone.errors import UserError
from hone.results import registry
from hone.results.manifest import Manifest, load_manifest
from hone.results.registry import Move, Release
from hone.storage.local import LocalStore
from hone.storage.sealed import SCHEMA, NewerError, SealError, read_sealed, seal, unseal

pytestmark = pytest.mark.slow

RELEASED = sorted((Path(__file__).parent / "stores").glob("*.tar.gz"))
FIELDS = {
    Manifest: "code config cost facts fingerprint history input_digests inputs outputs overhead seconds sources spent"
    " stage version",
    Release: "domain finding lists model parts start tests verdict version",
    Move: "action at by number version",
}


def manifest(stage: str = "prepare", digit: str = "0", **inputs: str) -> Manifest:
    return Manifest(
        stage=stage, fingerprint=digit * 16, code="c", version="v", config={"top_k": 8}, sources={}, inputs=inputs,
        input_digests={}, outputs={}, facts={"verdict": "promote", "gain": 0.5}, cost={}, seconds=1.0,
    )  # fmt: skip


def stored(store: LocalStore, *made: Manifest) -> None:
    for one in made:
        store.replace(f"{one.prefix}/manifest.json", one.stored())


def newer(content: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the next Hone would write."""
    with monkeypatch.context() as patched:
        patched.setattr("hone.storage.sealed.SCHEMA", SCHEMA + 1)
        return seal(content)


@pytest.mark.parametrize("content", [
    manifest().stored(),
    seal({"stages": {"prepare": "prepare/" + "0" * 16}, "at": "", "before": {}}),
    seal({"number": 1, "version": "a1", "action": "publish", "by": "me", "at": "now"}),
    seal({"step": 3, "best": {"badness": 0.25}, "sha256": "0" * 64}),
], ids=["manifest", "record", "move", "checkpoint"])  # fmt: skip
def test_every_flipped_bit_of_a_sealed_object_is_noticed_or_changes_nothing(content: bytes) -> None:
    meant, harmless = unseal(content), 0
    for at in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[at] ^= 1 << bit
            try:
                assert unseal(bytes(flipped)) == meant, f"byte {at}, bit {bit}"
                harmless += 1
            except (SealError, NewerError):
                continue
    assert harmless < len(content) // 10, "white space only"


def test_what_a_proxy_answered_in_the_stores_place_is_not_believed(tmp_path: Path) -> None:
    class Proxied(LocalStore):
        lies = 1

        def read(self, key: str) -> bytes | None:
            self.lies -= 1
            return b"<html>please log in</html>" if self.lies >= 0 else super().read(key)

    store = Proxied(tmp_path)
    stored(store, manifest())
    assert load_manifest(store, f"{manifest().prefix}/manifest.json") == manifest()


def test_a_newer_hone_is_named_and_nothing_of_it_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, key = LocalStore(tmp_path), f"{manifest().prefix}/manifest.json"
    store.replace(key, newer(manifest().model_dump(mode="json"), monkeypatch))
    store.replace("runs/tiny.json", seal({"stages": {"prepare": manifest().prefix}, "at": "", "before": {}}))
    before = store.read(key)
    for use in (lambda: load_manifest(store, key), lambda: list(maintenance.repair(store, "tiny"))):
        with pytest.raises(NewerError, match=rf"{key} in .* was written by a newer Hone \(schema {SCHEMA + 1};"):
            use()
    assert "newer Hone" in maintenance.flaws(store, manifest().prefix)[0]
    assert store.read(key) == before


@pytest.mark.parametrize("kind", FIELDS)
def test_what_a_stored_object_holds_changes_only_with_its_schema(kind: Any) -> None:
    assert SCHEMA == 2, "a new schema: keep a store made by the version before in tests/stores, and list the fields"
    assert " ".join(sorted(kind.model_fields)) == FIELDS[kind]


@pytest.mark.parametrize("archive", RELEASED, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_a_store_of_every_released_version_is_read(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    store = LocalStore(tmp_path / "store")
    assert garbage.runs(store) == ["tiny"]
    done = record.results(store, "tiny")
    assert list(done) == ["prepare", "generate", "mine", "score", "curate", "distill", "evaluate", "gate"]
    assert [flaw for one in done.values() for flaw in maintenance.flaws(store, one.prefix)] == []
    assert list(registry.flaws(store)) == []
    assert registry.release(store, "support", registry.moves(store, "support")[-1].version).version == "a1"
    gone = {one.stored.key for one in garbage.garbage(store, -1.0, results=True)}
    made_again = {one.key for folder in garbage.MADE_AGAIN for one in store.objects(folder)}
    assert gone == made_again != set(), "gc takes nothing else of an old store for garbage"


def test_this_version_or_the_one_before_is_among_the_kept_stores() -> None:
    assert RELEASED, f"keep a small store made by {__version__} in tests/stores"


def test_a_record_is_one_plan(tmp_path: Path) -> None:
    """A second run under the name, with other settings and stopped early, leaves nothing of the first behind."""
    store = LocalStore(tmp_path)
    first = {one.stage: one for one in (manifest("prepare"), manifest("mine", docs="prepare/" + "0" * 16))}
    first["distill"] = manifest("distill", lists="mine/" + "0" * 16, docs="prepare/" + "0" * 16)
    stored(store, *first.values())
    record.record(store, "tiny", first)
    assert list(record.results(store, "tiny")) == ["prepare", "mine", "distill"]
    other = manifest("prepare", "1")
    stored(store, other)
    record.record(store, "tiny", {"prepare": other}, at="mine/" + "1" * 16)
    assert list(record.results(store, "tiny")) == ["prepare"]
    assert record.needed(store, "tiny") == {other.prefix, "mine/" + "1" * 16}
    assert record.last_known(store, "tiny")["distill"] == first["distill"].prefix, "what the next plan is compared with"


def test_a_mixed_record_of_an_older_version_shows_only_what_belongs_together(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    made = [manifest("prepare", "1"), manifest("mine", docs="prepare/" + "0" * 16)]
    stored(store, *made, manifest("prepare"))
    store.replace("runs/tiny.json", json.dumps({one.stage: one.prefix for one in made}).encode())
    assert list(record.results(store, "tiny")) == ["prepare"]


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"null", seal({"stages": {"prepare": "mine/x"}, "at": "", "before": {}})]
)
def test_a_damaged_record_is_one_sentence(tmp_path: Path, data: bytes) -> None:
    store = LocalStore(tmp_path)
    store.replace("runs/tiny.json", data)
    with pytest.raises(UserError, match=r"runs/tiny\.json in .* is damaged"):
        record.results(store, "tiny")


def test_an_object_that_is_gone_is_none(tmp_path: Path) -> None:
    assert read_sealed(LocalStore(tmp_path), "a/b") is None
