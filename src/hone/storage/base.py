"""Where results live: one small interface; `addresses` lists what implements it.

A key is a relative path of plain segments made by Hone (digests, stage names, numbers), never an id from a corpus.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from hone.errors import UserError

LONGEST_KEY = 1_024
LONGEST_SEGMENT = 255
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\%]")


class ReadOnlyError(UserError):
    """Nothing can be written to a store, which may still be read."""


class Object(NamedTuple):
    """A stored object; with `upload` an upload that was begun under that key and has not ended."""

    key: str
    size: int
    modified: float
    """Seconds since the epoch."""
    upload: str = ""


class Fetched(NamedTuple):
    """A local file with an object's content, and the sha256 (hex) of its bytes."""

    path: Path
    sha256: str


class Store(Protocol):
    uri: str
    place: str
    """The store for people: an absolute path, or its address."""
    faults: Counter[str]
    """Requests that failed and were tried again, by kind of fault."""

    def check_writable(self) -> None:
        """Raises UserError if nothing can be written here."""
        ...

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None if there is no such object."""
        ...

    def fetch(self, key: str, folder: Path, *, anew: bool = False) -> Fetched:
        """The object itself if it is local, else a copy in `folder`, made once unless `anew`. Its bytes are hashed.

        Raises FileNotFoundError if there is no such object.
        """
        ...

    def put(self, key: str, path: Path) -> None:
        """Stores a local file. A reader sees all of it or nothing."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Stores a small object if there is none under that key yet; says whether this call made it."""
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Stores a small object, in place of any other."""
        ...

    def objects(self, prefix: str = "") -> Iterator[Object]:
        """Every object in the folder `prefix`, sorted by key."""
        ...

    def unfinished(self) -> Iterator[Object]:
        """What writers began and have not ended, or never will: it is not an object and no reader sees it."""
        ...

    def delete(self, unwanted: Object) -> None:
        """Removes an object, or an unfinished upload; none there is no error."""
        ...


def checked_key(key: str) -> str:
    """The key itself. Raises UserError if it could mean anything but an object below the store's root."""
    segments = key.split("/")
    plain = all(0 < len(part.encode(errors="replace")) <= LONGEST_SEGMENT and part.strip(".") for part in segments)
    if not plain or len(key.encode(errors="replace")) > LONGEST_KEY or UNSAFE.search(key):
        raise UserError(f"{key[:80]!r} is not a valid store key: it must be a relative path of plain names")
    return key


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
