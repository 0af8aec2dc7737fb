"""Lines of text in whatever encoding they were written, recognised by the bytes."""

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from hone.errors import UserError
from hone.inputs.readers.files import BUFFER, File
from hone.inputs.readers.foreign import refuse_binary

LARGEST_FIELD = 64 << 20
LOOKED_AT = 64 << 20
"""Bytes in which the encoding is looked for. What comes later and does not fit is refused with its line."""
GUESSED_FROM = 1 << 16
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEVERAL = re.compile(rb"[\x80-\xff]{4}")
BESIDE_LETTERS = re.compile(rb"[A-Za-z][\x80-\xff]|[\x80-\xff][A-Za-z]")
FILLING = 0.3
"""So many bytes of UTF-16 without a mark are 0 at every second place, in text of Latin letters."""


@dataclass(frozen=True)
class Encoding:
    """How text is encoded, and what ends its lines."""

    name: str
    newline: str = "\n"
    guessed: bool = False
    """Whether the bytes do not prove it."""

    def __str__(self) -> str:
        return f"{self.name} (recognised by its letters)" if self.guessed else self.name.removesuffix("-sig")


def encoding_of(file: File, given: str = "") -> Encoding:
    """The encoding of a file, or the `given` one with the ends of its lines. Raises UserError."""
    with file.open() as stream:
        start = stream.peek(BUFFER)[:BUFFER]
        refuse_binary(file, start)
        name = given or next((name for mark, name in MARKS if start.startswith(mark)), "") or _wide(start)
        if name:
            try:
                sample = codecs.getincrementaldecoder(name)("replace").decode(start)
            except LookupError as error:
                raise UserError(f"{given!r} is not an encoding; write one such as utf-8, cp1252 or utf-16") from error
            return Encoding(name, _newline(sample))
        newline = _newline(start.decode("latin-1"))
        odd = _not_utf8(stream)
    if not odd:
        return Encoding("utf-8", newline)
    guess = _guess(odd)
    return Encoding(guess, newline, True) if guess else Encoding("utf-8", newline)


def lines(file: File, encoding: Encoding | None = None) -> Iterator[tuple[int, str]]:
    """Lines without their ends, numbered from 1. Raises UserError on bytes that are not in the encoding."""
    chosen = encoding or encoding_of(file)
    with file.open() as stream:
        if chosen.newline == "\n" and chosen.name in ("utf-8", "utf-8-sig"):
            yield from _utf8_lines(file, stream)
        else:
            yield from _other_lines(file, stream, chosen)


def _utf8_lines(file: File, stream: io.BufferedReader) -> Iterator[tuple[int, str]]:
    for number in count(1):
        line = stream.readline(LARGEST_FIELD + 1)
        if not line:
            return
        if len(line) > LARGEST_FIELD:
            raise _too_long(file, number)
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            fault = f"{file}, line {number}: not UTF-8 (byte {error.start + 1} of the line)"
            raise UserError(f"{fault}; save the file as UTF-8, or name its encoding in the settings") from error


def _other_lines(file: File, stream: io.BufferedReader, encoding: Encoding) -> Iterator[tuple[int, str]]:
    number = 0
    with io.TextIOWrapper(stream, encoding.name, newline=encoding.newline) as text:
        try:
            for number in count(1):
                line = text.readline(LARGEST_FIELD + 1)
                if not line:
                    return
                if len(line) > LARGEST_FIELD:
                    raise _too_long(file, number)
                yield number, line.rstrip("\r\n")
        except UnicodeError as error:
            fault = f"{file}, line {number} or soon after: not {encoding.name} ({error})"
            raise UserError(f"{fault}; save the file as UTF-8, or name its encoding in the settings") from error


def _too_long(file: File, number: int) -> UserError:
    return UserError(f"{file}, line {number}: longer than {LARGEST_FIELD >> 20} MiB; split it into documents")


def _newline(sample: str) -> str:
    """A file without any line feed has lines that end in carriage returns, as old spreadsheets write them."""
    return "\r" if "\r" in sample.rstrip("\r") and "\n" not in sample else "\n"


def _wide(start: bytes) -> str:
    """UTF-16 without a mark, recognised by its zero bytes."""
    pairs = max(1, len(start[:4096]) // 2)
    even, odd = (start[:4096][place::2].count(0) / pairs for place in (0, 1))
    if odd > FILLING and even < FILLING / 10:
        return "utf-16-le"
    return "utf-16-be" if even > FILLING and odd < FILLING / 10 else ""


def _not_utf8(stream: io.BufferedReader) -> bytes:
    """Some lines with bytes that are not UTF-8, of text that is not UTF-8 with a few damaged places; else nothing."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = 0
    while seen < LOOKED_AT and (chunk := stream.read(BUFFER)):
        seen += len(chunk)
        if chunk.isascii() and not decoder.getstate()[0]:
            continue
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError:
            odd = b"\n".join(line for line in chunk.splitlines() if not line.isascii())[:GUESSED_FROM]
            read = odd.decode("utf-8", "replace")
            bad = read.count("\ufffd")
            whole = sum(1 for char in read if not char.isascii()) - bad
            return odd if bad > whole else b""
    return b""


def _guess(odd: bytes) -> str:
    """The encoding of lines that are not UTF-8; empty if they look like no text."""
    import chardet

    if not (BESIDE_LETTERS.search(odd) or SEVERAL.search(odd)):
        return ""
    name = chardet.detect(odd)["encoding"] or ""
    try:
        return "" if not name or codecs.lookup(name).name in ("ascii", "utf-8") else codecs.lookup(name).name
    except LookupError:
        return ""
