"""Every byte of every kind of stored object, flipped once: it is noticed, or it changes nothing."""

import random
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from hone.backends.training.checkpoints import Checkpoints
from hone.engine import maintenance, record
from hone.errors import UserError
from hone.kubeflow import attempts, settings_text
from hone.results import registry
from hone.results.content_cache import ContentCache
from hone.results.manifest import Part, load_manifest
from hone.results.table_io import fetch_part
from hone.storage import leases
from hone.storage.local import LocalStore
from hone.storage.sealed import seal

pytestmark = pytest.mark.long

KEPT = sorted((Path(__file__).parent / "stores").glob("*.tar.gz"))[-1]
KINDS = {
    "attempts": "note of a task",
    "leases": "lease",
    "memo": "content cache",
    "models": "release or move of the registry",
    "runs": "run record",
    "settings": "settings of a run on Kubeflow",
}
"""By the first folder of a key; what lies in a stage's folder is told by `kind`."""
FLIPS_OF_A_PART = 400
"""So many bytes of a part are flipped, spread over it, of all else every one: its sha256 treats all alike."""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """The kept store as this version would have written it, with what only a running training or process has."""
    with tarfile.open(KEPT) as packed:
        packed.extractall(tmp_path, filter="data")
    made = LocalStore(tmp_path / "store")
    done = record.results(made, "tiny")
    for one in done.values():
        made.replace(f"{one.prefix}/manifest.json", one.stored())
    record.record(made, "tiny", done)
    release, moves = registry.release(made, "support", "a1"), registry.moves(made, "support")
    made.replace("models/support/a1/release.json", seal(release.model_dump(mode="json")))
    made.replace("models/support/current/00000001.json", seal(moves[0].model_dump(mode="json")))
    Checkpoints(made, "distill/0/checkpoints", tmp_path, 1).save(1, {"a": torch.ones(8)}, {"step": 1, "best": 0.5})
    leases.Lease(made).hold(["distill/0"])
    ended = leases.Lease(made)
    ended.hold(["mine/0"])
    ended.end()
    settings_text.keep(made, "name: tiny\nseed: 7\n")
    with attempts.noting(made, "run-1", "prepare", ""):
        pass
    return made


def kind(key: str) -> str:
    """What an object is that is not a part."""
    first = key.partition("/")[0]
    return KINDS.get(first) or ("checkpoint" if "/checkpoints/" in key else "manifest")


def told(look: Callable[[], Any]) -> Any:
    """What is found, or that a sentence says what is wrong."""
    try:
        return look()
    except UserError:
        return None


def test_every_flip_is_noticed_or_harmless(store: LocalStore, tmp_path: Path) -> None:
    draw, counts, objects = random.Random(7), Counter[tuple[str, str]](), Counter[str]()
    done = record.results(store, "tiny")
    parts = {f"{one.prefix}/{part.path}": (one.prefix, part) for one in done.values() for _, part in
             maintenance.parts_of(one)}  # fmt: skip
    parts |= {f"models/support/a1/{part.path}": ("models/support/a1", part)
              for part in registry.release(store, "support", "a1").parts}  # fmt: skip

    def look(key: str) -> Callable[[], Any]:
        place = key.split("/")
        if key in parts:
            return lambda: _part(*parts[key])
        if place[0] == "memo":
            return lambda: ContentCache(store, place[1], "x", pa.int64(), tmp_path)._fetch(key).num_rows or None
        if place[0] == "runs":
            return lambda: record.results(store, "tiny")
        if place[0] == "models":
            return lambda: (registry.moves(store, "support"), list(registry.releases(store, "support")))
        if place[0] == "settings":
            digest = Path(key).stem
            return lambda: settings_text.fetch(f"{store.place}/{key}@{digest}")
        if place[0] == "attempts":
            return lambda: attempts.notes(store, "run-1")
        if place[0] == "leases":
            return lambda: leases.prefixes_of(store, key)
        if "checkpoints" in place:
            return lambda: (Checkpoints(store, "distill/0/checkpoints", tmp_path, 1).latest() or (None, None))[1]
        return lambda: load_manifest(store, key)

    def _part(prefix: str, part: Part) -> Any:
        return fetch_part(store, prefix, part, tmp_path).read_bytes()

    for one in list(store.objects()):
        path, read = store.root / one.key, look(one.key)
        data = path.read_bytes()
        meant = read() if not one.key.startswith("memo/") else True
        what = "part" if one.key in parts else kind(one.key)
        step = max(1, len(data) // FLIPS_OF_A_PART) if what == "part" else 1
        for at in range(0, len(data), step):
            flipped = bytearray(data)
            flipped[at] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped)
            if one.key.startswith("memo/"):
                outcome = "noticed" if _damaged_memo(store, one.key) else "believed"
            else:
                found = told(read)
                outcome = "noticed" if found is None else "harmless" if found == meant else "believed"
            assert outcome != "believed", f"{one.key}, byte {at}"
            counts[what, outcome] += 1
        path.write_bytes(data)
        objects[what] += 1
    for what, number in sorted(objects.items()):
        print(f"| {what} | {number} | {counts[what, 'noticed']:,} | {counts[what, 'harmless']:,} |")
    assert set(objects) == {"part", "manifest", "checkpoint", *KINDS.values()}
    assert sum(count for (_, outcome), count in counts.items() if outcome == "noticed") > 45_000


def _damaged_memo(store: LocalStore, key: str) -> bool:
    _, sha256 = store.fetch(key, store.root)
    return not key.endswith(f"{sha256}.arrow")
