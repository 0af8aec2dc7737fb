"""Text of documents: flattening, normalising, finding what is contained in what, and cutting files into chunks."""

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

from hone.core.segmentation import has_runs, spelt, without_accents

T = TypeVar("T")

ENDS = ".,;:!?"
_ASCII_QUOTES = dict.fromkeys(map(ord, "\"'`"))
_SAYS = re.compile(r"[^\W_]|[+<>=^~|$]|[^\x00-\x7f]")
"""Lines and dots alone say nothing."""
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_STOPS = "\u3001\u3002\u0964\u104a\u104b\u17d4\u061f\u060c"
_ALIKE = re.compile(f"[{_DASHES}{_STOPS}\"'`\u2018-\u201f\u00ab\u00bb\u2039\u203a\u300c-\u300f]")
"""Dashes of every kind are one, marks that end sentences of other scripts are spaces, and quotes are nothing."""
_BEFORE_LETTERS = re.compile("[,;:!?](?=[\u3400-\u9fff\u3041-\u30ff])")
"""In scripts without spaces none stands after a mark."""
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_HALF_PAIR = re.compile("[\ud800-\udfff]")


class _Plain(dict[int, int | None]):
    """What `str.translate` makes of a character, worked out when it is first met."""

    def __missing__(self, code: int) -> int | None:
        char = chr(code)
        dropped = unicodedata.combining(char) or unicodedata.category(char)[0] in "PSNC"
        self[code] = ord(" ") if char.isspace() else None if dropped else code
        return self[code]


_PLAIN = _Plain()


def flat(text: str) -> str:
    """Runs of whitespace and control characters to one space, ends stripped; always encodable as UTF-8."""
    if text.isascii():
        return text.strip() if text.isprintable() and "  " not in text else _BLANK.sub(" ", text).strip()
    return _HALF_PAIR.sub("\ufffd", _BLANK.sub(" ", text).strip())


def dedup_key(text: str) -> str:
    """What two texts have in common if they say the same: the key of deduplication.

    Lower case, NFKC, accents stripped, spaces squeezed, and without quotes and the marks that end sentences and their
    parts. Numbers, symbols, and marks within a word or a formula stay: they carry meaning.
    """
    if text.isascii():
        bare = text.translate(_ASCII_QUOTES)
    else:
        bare = _ALIKE.sub(_alike, without_accents(text))
        bare = spelt(_BEFORE_LETTERS.sub(" ", bare)) if has_runs(bare) else bare
    if not _SAYS.search(bare):
        return ""
    words = [word.rstrip(ENDS) for word in bare.lower().split()]
    return " ".join(words if all(words) else filter(None, words))


def letters_key(text: str) -> str:
    """The key of arXiv 2502.19712: letters alone, without digits, punctuation, symbols and accents, in lower case."""
    return " ".join(unicodedata.normalize("NFKD", text).translate(_PLAIN).lower().split())


def _alike(found: re.Match[str]) -> str:
    return "-" if found[0] in _DASHES else " " if found[0] in _STOPS else ""


def contained(ordered: Iterable[tuple[str, str, T]], window: int) -> Iterator[tuple[T, T]]:
    """(part, whole) of texts that say no more than a near neighbour does.

    `ordered` holds texts with their titles, sorted, each with something that stands for it. Of equal pairs all but the
    first are parts of the first. A part is whole words of the other text and has no title of its own. A text is
    compared with the `window` distinct texts before and after it: in sorted order what starts with a text is close to
    it, and in the order of reversed texts what ends with it.
    """
    near: deque[tuple[str, str, T]] = deque(maxlen=window)
    for (text, title), equals in groupby(ordered, key=itemgetter(0, 1)):
        first, *others = (item for _, _, item in equals)
        yield from ((other, first) for other in others)
        words = f" {text} "
        for neighbour, named, item in near:
            if neighbour in words and named in ("", title):
                yield item, first
            elif words in neighbour and title in ("", named):
                yield first, item
        near.append((words, title, first))


@dataclass(frozen=True)
class Chunking:
    """How long chunks are: at most `words` words and `chars` characters, the last `overlap` words said again."""

    words: int
    overlap: int
    chars: int


def windows(words: Iterable[str], chunking: Chunking) -> Iterator[str]:
    """Overlapping runs of words, each with at least one word that no run before it has.

    An overlap is at most half a run, so that a run that was full early, of long words, is not said over and over.
    """
    held: deque[str] = deque()
    length = fresh = 0
    for word in words:
        if fresh and _full(held, length, word, chunking):
            yield " ".join(held)
            keep = min(chunking.overlap, len(held) // 2)
            held = deque(list(held)[len(held) - keep :])
            length, fresh = sum(len(old) + 1 for old in held), 0
        while held and _full(held, length, word, chunking):
            length -= len(held.popleft()) + 1
        held.append(word)
        length, fresh = length + len(word) + 1, fresh + 1
    if fresh:
        yield " ".join(held)


def _full(held: deque[str], length: int, word: str, chunking: Chunking) -> bool:
    """Whether one more word is too many; `length` counts a space after each word held."""
    return len(held) >= chunking.words or length + len(word) > chunking.chars


def words_of(lines: Iterable[str], longest: int) -> Iterator[str]:
    """Words one by one; what is longer than a chunk (scripts without spaces, data) comes in pieces."""
    for line in lines:
        for word in flat(line).split():
            yield from (word[start : start + longest] for start in range(0, len(word), longest))
