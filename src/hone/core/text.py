"""Text of documents: flattening, normalising, finding what is contained in what, and cutting files into chunks."""

import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from hone.core.segmentation import has_runs, places, spelt, without_accents

T = TypeVar("T")

ENDS = ".,;:!?"
LOOKED_FOR = 16
"""Characters at the end of a text that are looked for in another one before all of it is."""
ROUNDING = 1e-6
ASCII_QUOTES = "\"'`"
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
        bare = text
        for quote in ASCII_QUOTES:
            bare = bare.replace(quote, "") if quote in bare else bare
    else:
        bare = _ALIKE.sub(_alike, without_accents(text))
        bare = spelt(_BEFORE_LETTERS.sub(" ", bare)) if has_runs(bare) else bare
    if not _SAYS.search(bare):
        return ""
    return _without_ends(bare.lower())


def _without_ends(text: str) -> str:
    """The words of a text, one space between them, without the marks at their ends; a word of marks alone goes. Cutting
    the whole text where a mark stands before a space takes a fraction of going through its words."""
    spaced = f"{text} " if text.isascii() and text.isprintable() else f"{' '.join(text.split())} "
    for end in ENDS:
        if end in spaced:
            spaced = " ".join([part.rstrip(f"{ENDS} ") for part in spaced.split(f"{end} ")])
    while "  " in spaced:
        spaced = spaced.replace("  ", " ")
    return spaced.strip(" ")


def letters_key(text: str) -> str:
    """The key of arXiv 2502.19712: letters alone, without digits, punctuation, symbols and accents, in lower case."""
    return " ".join(unicodedata.normalize("NFKD", text).translate(_PLAIN).lower().split())


def _alike(match: re.Match[str]) -> str:
    return "-" if match[0] in _DASHES else " " if match[0] in _STOPS else ""


def contained(ordered: Iterable[tuple[str, str, T]], window: int) -> Iterator[tuple[T, T]]:
    """(part, whole) of texts that say no more than a near neighbour does.

    `ordered` holds texts with their titles, sorted, each with something that stands for it. Of equal pairs all but the
    first are parts of the first. A part is whole words of the other text and has no title of its own. A text is
    compared with the `window` distinct texts before and after it: in sorted order what starts with a text is close to
    it, and in the order of reversed texts what ends with it.
    """
    near: deque[tuple[str, str, int, str, T]] = deque(maxlen=window)
    before: tuple[str, str, T] | None = None
    for one in ordered:
        text, title, own = one
        if before and text == before[0] and title == before[1]:
            yield own, before[2]
            continue
        before, words = one, f" {text} "
        end = words[-LOOKED_FOR:]
        start = len(words) - len(end)
        for neighbour, its_end, its_start, named, item in near:
            # Where a text can be in another one its end is in the last part of it: looked for first, in few characters.
            if (
                its_start <= start
                and words.find(its_end, its_start) >= 0
                and neighbour in words
                and named in ("", title)
            ):
                yield item, own
            elif start <= its_start and neighbour.find(end, start) >= 0 and words in neighbour and title in ("", named):
                yield own, item
        near.append((words, end, start, title, own))


@dataclass(frozen=True)
class Chunking:
    """How long chunks are: at most `words` words and `chars` characters, the last `overlap` words said again."""

    words: int
    overlap: int
    chars: int


class Word(NamedTuple):
    """A word of running text, or a piece of one in a script without spaces, with what stands after it."""

    text: str
    words: float = 1.0
    """How much of a word it is."""
    after: str = " "


def windows(words: Iterable[Word], chunking: Chunking) -> Iterator[str]:
    """Overlapping runs of words, each with at least one word that no run before it has.

    An overlap is at most half a run, so that a run that was full early, of long words, is not said over and over.
    """
    held: deque[Word] = deque()
    length, count, fresh = 0, 0.0, 0
    for word in words:
        if fresh and _full(count, length, word, chunking):
            yield _joined(held)
            most, kept = min(float(chunking.overlap), count / 2), deque[Word]()
            length, count = 0, 0.0
            while held and count + held[-1].words <= most + ROUNDING:
                kept.appendleft(held.pop())
                length, count = length + _size(kept[0]), count + kept[0].words
            held, fresh = kept, 0
        while held and _full(count, length, word, chunking):
            length, count = length - _size(held[0]), count - held.popleft().words
        held.append(word)
        length, count, fresh = length + _size(word), count + word.words, fresh + 1
    if fresh:
        yield _joined(held)


def _full(count: float, length: int, word: Word, chunking: Chunking) -> bool:
    """Whether one more word is too many; `length` counts what stands after each word held."""
    return count + word.words > chunking.words + ROUNDING or length + len(word.text) > chunking.chars


def _size(word: Word) -> int:
    return len(word.text) + len(word.after)


def _joined(words: Iterable[Word]) -> str:
    return "".join(f"{word.text}{word.after}" for word in words).rstrip(" ")


def words_of(lines: Iterable[str], longest: int) -> Iterator[Word]:
    """Words one by one; of scripts without spaces, whose words do not show, a few letters; and what is longer than a
    chunk comes in pieces."""
    for line in lines:
        for word in flat(line).split():
            if has_runs(word):
                yield from _pieces(word, longest)
            else:
                yield from (Word(word[start : start + longest]) for start in range(0, len(word), longest))


def _pieces(run: str, longest: int) -> Iterator[Word]:
    """About a word each, never cut inside a letter with its marks."""
    start, held, last = 0, 0.0, 0
    for begin, end, weight in places(run):
        if last > start and (held + ROUNDING >= 1 or end - start > longest):
            yield Word(run[start:last], held, "")
            start, held = begin, 0.0
        last, held = end, held + weight
    yield Word(run[start:], held)
