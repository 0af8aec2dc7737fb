"""A folder in which everything is sound, for a case to spoil, and what a case is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

import chain
import corpora
from hone.storage.base import sha256_of
from hone.storage.local import LocalStore


class Home:
    """A folder in which everything is sound, for a case to spoil."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.until, self.arguments = folder, "evaluate", list[str]()
        self.store = LocalStore(folder / "store")

    def settings(self, **changes: Any) -> None:
        """The usual settings, with other sections in place of some."""
        self.write("s.yaml", yaml.safe_dump({"name": "r", **chain.SETTINGS, **changes}))

    def write(self, name: str, content: str | bytes) -> None:
        (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def corpus(self, name: str, content: str | bytes) -> None:
        """Another corpus: one file."""
        self.write(name, content)
        self.settings(prepare={"corpus": name})

    def docs(self, *rows: object) -> None:
        corpora.jsonl(self.folder / "corpus" / "corpus.jsonl", rows)

    def call(self, *arguments: object) -> None:
        """Another command than running the settings."""
        self.arguments = [str(argument) for argument in arguments]

    def command(self) -> list[str]:
        usual = ["run", str(self.folder / "s.yaml"), "--store", self.store.uri, "--until", self.until]
        return self.arguments or usual

    def digests(self) -> dict[str, str]:
        """Every object of the store by its sha256."""
        return {one.key: sha256_of(self.store.root / one.key) for one in self.store.objects()}


Spoil = Callable[[Home], object]
Case = tuple[Spoil, str]
"""What is done to a sound home, and a pattern of the sentence that is said of it."""
