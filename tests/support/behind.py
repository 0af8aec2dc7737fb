"""A store whose listings are some seconds behind, as those of a replicated bucket may be."""

import time
from collections.abc import Iterator
from pathlib import Path

from hone.storage.base import Object
from hone.storage.local import LocalStore


class BehindStore(LocalStore):
    """A folder whose objects are read and written at once, while a listing shows what was there `seconds` ago."""

    def __init__(self, root: Path, seconds: float = 2.0) -> None:
        super().__init__(root)
        self.seconds = seconds
        self._written: dict[str, float] = {}
        self._deleted: dict[str, tuple[Object, float]] = {}

    def put(self, key: str, path: Path) -> None:
        self._note(key)
        super().put(key, path)

    def create(self, key: str, data: bytes) -> bool:
        self._note(key)
        return super().create(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._note(key)
        super().replace(key, data)

    def delete(self, unwanted: Object) -> None:
        for there in super().objects():
            if there.key == unwanted.key:
                self._deleted[there.key] = (there, time.monotonic())
        super().delete(unwanted)

    def objects(self, prefix: str = "") -> Iterator[Object]:
        until = time.monotonic() - self.seconds
        there = {one.key: one for one in super().objects(prefix) if self._written.get(one.key, until) <= until}
        start = f"{prefix.strip('/')}/" if prefix else ""
        there |= {key: one for key, (one, at) in self._deleted.items() if at > until and key.startswith(start)}
        return iter([there[key] for key in sorted(there)])

    def _note(self, key: str) -> None:
        if not (self.root / key).exists():
            self._written[key] = time.monotonic()
