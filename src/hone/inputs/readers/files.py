"""Files as they lie in a folder or an archive, packed or not: what every reader opens.

gzip, bzip2, xz and zstd are recognised by the first bytes, not by the suffix; a .zip file is read like a folder.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import zstandard

from hone.errors import UserError

BUFFER = 1 << 20
SUFFIXES_OF_PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst")
ARCHIVE = ".zip"
EXPANDS = 4
"""About how much text takes less room when packed."""
PASSED_OVER = ("node_modules", "__MACOSX", "__pycache__")
"""Folders of tools. Hidden ones are passed over too, and the stores that Hone keeps its results in."""
RESULT = re.compile(r"[0-9a-f]{16}")
FAULTS = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, zstandard.ZstdError)

UNPACK: tuple[tuple[bytes, str, Callable[[BinaryIO], BinaryIO]], ...] = (
    (b"\x1f\x8b", "gzip", lambda raw: cast(BinaryIO, gzip.GzipFile(fileobj=raw))),
    (b"BZh", "bzip2", lambda raw: cast(BinaryIO, bz2.BZ2File(raw))),
    (b"\xfd7zXZ\x00", "xz", lambda raw: cast(BinaryIO, lzma.LZMAFile(raw))),  # noqa: SIM115
    (b"\x5d\x00\x00", "lzma", lambda raw: cast(BinaryIO, lzma.LZMAFile(raw))),  # noqa: SIM115
    (b"\x28\xb5\x2f\xfd", "zstd", lambda raw: cast(BinaryIO, _Zstandard(raw))),
)
"""First bytes, name, and what unpacks a stream of them."""


@dataclass(frozen=True)
class File:
    """A file of a corpus: where it lies on disk, and its name below the corpus, with `/` between folders."""

    path: Path
    name: str
    member: str = ""
    """Its name inside `path`, if that is an archive."""

    def __str__(self) -> str:
        return shown(f"{self.path}/{self.member}" if self.member else str(self.path))

    @property
    def suffix(self) -> str:
        """The suffix in lower case, that of the packing left out: `.csv` of `A.CSV.gz`."""
        return PurePosixPath(unpacked_name(self.name)).suffix.lower()

    @property
    def stem(self) -> str:
        """The last part of the name without its suffixes."""
        return PurePosixPath(unpacked_name(self.name)).stem

    @property
    def size(self) -> int:
        """Bytes as it lies there."""
        if self.member:
            with zipfile.ZipFile(self.path) as archive:
                return archive.getinfo(self.member).file_size
        return self.path.stat().st_size

    def raw(self) -> BinaryIO:
        """The bytes as they lie there. Raises UserError."""
        try:
            if self.member:
                return cast(BinaryIO, zipfile.ZipFile(self.path).open(self.member))
            return self.path.open("rb", buffering=BUFFER)
        except (OSError, zipfile.BadZipFile, RuntimeError) as error:
            why = getattr(error, "strerror", "") or str(error)
            hint = "unpack it with its password" if "encrypted" in why else "correct the path or its permissions"
            raise UserError(f"cannot read {self}: {why}; {hint}") from error

    def open(self) -> "io.BufferedReader[Any]":
        """The bytes, unpacked. Raises UserError, while they are read too."""
        raw = self.raw()
        buffered: Any = raw if isinstance(raw, io.BufferedReader) else io.BufferedReader(cast(Any, raw), BUFFER)
        try:
            packing = _packing(buffered.peek(8)[:8])
        except FAULTS as error:
            raise UserError(f"{self} is damaged ({error}); pack or download it again") from error
        if packing is None and not self.member:
            return buffered
        stream = packing[2](cast(BinaryIO, buffered)) if packing else cast(BinaryIO, buffered)
        return io.BufferedReader(_Unpacked(str(self), stream), BUFFER)

    def packing(self) -> str:
        """gzip, bzip2, xz, zstd, or empty."""
        with self.raw() as raw:
            packing = _packing(raw.read(8))
        return packing[1] if packing else ""


class _Unpacked(io.RawIOBase):
    """A stream whose faults are reported in one sentence."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self.name, self.stream, self.held = name, stream, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        if not self.held:
            try:
                self.held = memoryview(self.stream.read(len(buffer)))
            except FAULTS as error:
                raise UserError(f"{self.name} is damaged ({error}); pack or download it again") from error
        data, self.held = self.held[: len(buffer)], self.held[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.stream.close()
        super().close()


class _Zstandard:
    """Unpacks frames one after another. Raises EOFError if the last one is cut short."""

    def __init__(self, raw: BinaryIO) -> None:
        self.raw, self.waiting = raw, b""
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.inside = False

    def read(self, size: int) -> bytes:
        """About as much as one piece holds; empty at the end."""
        while True:
            packed = self.waiting or self.raw.read(max(1, size // EXPANDS))
            self.waiting = b""
            if not packed:
                if self.inside:
                    raise EOFError("the last frame is cut short")
                return b""
            data = self.frame.decompress(packed)
            self.inside = not self.frame.eof
            if self.frame.eof:
                self.waiting = self.frame.unused_data
                self.frame = zstandard.ZstdDecompressor().decompressobj()
            if data:
                return data

    def close(self) -> None:
        self.raw.close()


def _packing(start: bytes) -> tuple[bytes, str, Callable[[BinaryIO], BinaryIO]] | None:
    return next((row for row in UNPACK if start.startswith(row[0])), None)


def shown(name: str) -> str:
    """A name that can be printed and stored: bytes of it that are not UTF-8 are written as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unpacked_name(name: str) -> str:
    """A file's name without the suffix of its packing."""
    return next((name[: -len(end)] for end in SUFFIXES_OF_PACKED if name.lower().endswith(end)), name)


def one_file(path: Path) -> File:
    """The file that a path means; of an archive the only file in it. Raises UserError."""
    if path.suffix.lower() != ARCHIVE or not path.is_file():
        return File(path, shown(path.name))
    inside = list(members(path))
    if len(inside) != 1:
        names = ", ".join(file.name for file in inside[:5]) or "none"
        raise UserError(f"{path} holds {len(inside)} files ({names}); unpack it and name one")
    return inside[0]


def files_below(path: Path) -> Iterator[File]:
    """Every file that may belong to a corpus: the path itself, what an archive holds, or what a folder and the folders
    linked in it hold, sorted by name. Raises UserError."""
    if path.is_file():
        yield from members(path) if path.suffix.lower() == ARCHIVE else (File(path, shown(path.name)),)
        return
    files = sorted(_walk(path, "", set()), key=lambda file: file.name)
    plain = [file for file in files if not file.name.lower().endswith(ARCHIVE)]
    yield from plain or (inside for file in files for inside in members(file.path))


def members(path: Path) -> Iterator[File]:
    """The files in an archive; one folder around all of them is left out of their names. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not a readable zip archive ({error}); pack or download it again") from error
    seen = [name for name in names if all(_visible(part) for part in name.split("/"))]
    tops = {name.partition("/")[0] for name in seen}
    top = f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in seen) else ""
    yield from (File(path, shown(name.removeprefix(top)), name) for name in seen)


def _visible(name: str) -> bool:
    return bool(name) and not name.startswith(".") and name not in PASSED_OVER


def _walk(folder: Path, below: str, seen: set[str]) -> Iterator[File]:
    real = os.path.realpath(folder)
    if real in seen or _is_store(folder):
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"cannot read {shown(str(folder))}: {error.strerror}; correct its permissions") from error
    for entry in entries:
        if not _visible(entry.name):
            continue
        name = f"{below}{shown(entry.name)}"
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{name}/", seen)
        elif entry.is_file():
            yield File(folder / entry.name, name)


def _is_store(folder: Path) -> bool:
    """Whether Hone keeps results here: a folder prepare with results in it."""
    made = folder / "prepare"
    return made.is_dir() and any(RESULT.fullmatch(entry.name) for entry in os.scandir(made))
