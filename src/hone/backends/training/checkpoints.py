"""Checkpoints of a training in the store: tensors as safetensors, then a JSON that vouches for them. Two stay."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from hone.log import log
from hone.storage.base import Store, sha256_of
from hone.storage.sealed import SealError, read_sealed, seal

KEPT = 2
SECONDS = 300.0
"""After so many there is a checkpoint, however few the steps: one of all layers on a processor may take a minute."""
SECONDS_AT_THE_END = 60.0
"""What took less since the last one is done again where a run is killed after its training."""


class Checkpoints:
    """Those of one training, under one folder of the store. A checkpoint is there when its JSON is, written last."""

    def __init__(self, store: Store, folder: str, scratch: Path, every: int) -> None:
        self.store, self.folder, self.scratch, self.every = store, folder, scratch, every
        self.last = time.monotonic()

    def due(self, step: int, *, over: bool = False) -> bool:
        """Whether there should be a checkpoint after this step, or when training is `over`: what follows may fail."""
        slow = time.monotonic() - self.last >= (SECONDS_AT_THE_END if over else SECONDS)
        return self.every > 0 and (slow or (not over and step % self.every == 0))

    def save(self, step: int, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Stores a checkpoint and then removes all but the last two."""
        path = self.scratch / "checkpoint.safetensors"
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        self.store.put(self._key(step, "safetensors"), path)
        self.store.replace(self._key(step, "json"), seal({**record, "sha256": sha256_of(path)}))
        path.unlink()
        # A listing may be some seconds behind: what was just stored counts, seen or not.
        self._remove(before=sorted({*self._steps(), step})[-KEPT:][0])
        self.last = time.monotonic()

    def latest(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and record of the last checkpoint that is whole; a damaged one is passed over."""
        for step in sorted(self._steps(), reverse=True):
            try:
                record = read_sealed(self.store, self._key(step, "json")) or {}
                path, sha256 = self.store.fetch(self._key(step, "safetensors"), self.scratch)
                if sha256 == record["sha256"]:
                    return load_file(path), record
            except (SealError, KeyError, FileNotFoundError):
                pass
            log.warning("checkpoint damaged, passed over", checkpoint=self._key(step, "json"))
        return None

    def clear(self) -> None:
        """Removes all: the training is through."""
        self._remove(before=1 << 62)

    def _steps(self) -> set[int]:
        keys = (one.key for one in self.store.objects(self.folder))
        return {int(Path(key).stem) for key in keys if key.endswith(".json") and Path(key).stem.isdecimal()}

    def _remove(self, before: int) -> None:
        # The JSON of a checkpoint sorts before its tensors, so that it never vouches for what is gone.
        for one in list(self.store.objects(self.folder)):
            if Path(one.key).stem.isdecimal() and int(Path(one.key).stem) < before:
                self.store.delete(one)

    def _key(self, step: int, kind: str) -> str:
        return f"{self.folder}/{step:08d}.{kind}"
