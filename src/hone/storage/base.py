"""Where results live: one small interface over a local folder and S3 (`hone.storage.s3`).

A key is a relative path of plain segments made by Hone (digests, stage names, numbers), never an id from a corpus.
"""

import hashlib
import os
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from hone.errors import UserError

LONGEST_KEY = 1_024
LONGEST_SEGMENT = 255
TEMPORARY = re.compile(r"\.hone-[0-9a-f]{32}")
UNSAFE = re.compile(r"[\x00-\x1f\x7f\\%]")


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
    faults: Counter[str]
    """Requests that failed and were tried again, by kind of fault."""

    def check_writable(self) -> None:
        """Raises UserError if nothing can be written here."""
        ...

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None if there is no such object."""
        ...

    def fetch(self, key: str, folder: Path) -> Fetched:
        """The object itself if it is local, else a copy in `folder`, made once. Its bytes are hashed as they arrive.

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
        """What writers began and have not ended, or never will: it is no object and no reader sees it."""
        ...

    def delete(self, unwanted: Object) -> None:
        """Removes an object, or an unfinished upload; none there is no error."""
        ...


def open_store(uri: str) -> Store:
    """`s3://bucket/prefix`, or the path of a local folder (made when first written to). Raises UserError."""
    if uri.startswith("s3://"):
        from hone.storage.s3 import S3Store

        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise UserError(f"store {uri!r} names no bucket; write s3://bucket/prefix")
        return S3Store(bucket, prefix.strip("/"))
    if "://" in uri:
        raise UserError(f"store {uri!r} is neither a folder nor s3://bucket/prefix")
    return LocalStore(Path(uri))


def checked_key(key: str) -> str:
    """The key itself. Raises UserError if it could mean anything but an object below the store's root."""
    segments = key.split("/")
    plain = all(0 < len(part.encode(errors="replace")) <= LONGEST_SEGMENT and part.strip(".") for part in segments)
    if not plain or len(key.encode(errors="replace")) > LONGEST_KEY or UNSAFE.search(key):
        raise UserError(f"{key[:80]!r} is no key of a store: it must be a relative path of plain names")
    return key


def sha256_of(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LocalStore:
    """A folder. Objects are written beside their place and moved there, so that a crash leaves no half object."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)
        self.faults: Counter[str] = Counter()

    def check_writable(self) -> None:
        probe = self._temporary(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write to the store {self.uri}: {error.strerror}; give another --store") from error

    def read(self, key: str) -> bytes | None:
        path = self._path(key)
        return path.read_bytes() if path.is_file() else None

    def fetch(self, key: str, folder: Path) -> Fetched:
        path = self._path(key)
        if not path.is_file():
            raise FileNotFoundError(key)
        return Fetched(path, sha256_of(path))

    def put(self, key: str, path: Path) -> None:
        self._publish(key, lambda temporary: shutil.copyfile(path, temporary), os.replace)

    def create(self, key: str, data: bytes) -> bool:
        try:
            self._publish(key, lambda temporary: temporary.write_bytes(data), os.link)
        except FileExistsError:
            return False
        return True

    def replace(self, key: str, data: bytes) -> None:
        self._publish(key, lambda temporary: temporary.write_bytes(data), os.replace)

    def objects(self, prefix: str = "") -> Iterator[Object]:
        return self._files(prefix, temporary=False)

    def unfinished(self) -> Iterator[Object]:
        return self._files("", temporary=True)

    def delete(self, unwanted: Object) -> None:
        self._path(unwanted.key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _temporary(self, folder: Path) -> Path:
        return folder / f".hone-{uuid.uuid4().hex}"

    def _files(self, prefix: str, *, temporary: bool) -> Iterator[Object]:
        paths = sorted((self.root / prefix).rglob("*"), key=lambda path: path.relative_to(self.root).as_posix())
        for path in paths:
            if bool(TEMPORARY.fullmatch(path.name)) == temporary and path.is_file():
                found = path.stat()
                yield Object(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def _publish(self, key: str, write: Callable[[Path], object], place: Callable[[Path, Path], None]) -> None:
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(target.parent)
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            place(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
