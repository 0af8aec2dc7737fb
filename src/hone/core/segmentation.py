"""The words of a text in any script: the one analyser behind BM25, extracts, lengths, copied spans and duplicates.

Most scripts put spaces between words. Those in UNSPACED do not: a run of their letters is taken letter by letter (a
letter is a consonant or character with the marks on it), and what is looked up are pairs of neighbouring letters, as
Lucene's CJKAnalyzer does. It needs no dictionary, and a word is found wherever it stands.
"""

import re
import unicodedata
from collections.abc import Iterator, Set
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Script:
    """One row: a script without spaces between words."""

    name: str
    ranges: str
    """Its letters and marks, as a regular expression's character class has them; digits are words of their own."""
    letters_per_word: float
    """About how many letters a word has, by which limits on words are applied."""
    alone: bool = False
    """Whether a letter says something by itself, and so is looked up alone too."""


UNSPACED = (
    Script(
        "Chinese characters",
        "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
        1.5,
        alone=True,
    ),
    Script(
        "Japanese syllables",
        "\u3041-\u3096\u3099-\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f",
        2,
    ),
    Script("Thai", "\u0e01-\u0e3a\u0e40-\u0e4e", 2.5),
    Script("Lao", "\u0e81-\u0ecf\u0edc-\u0edf", 2.5),
    Script("Khmer", "\u1780-\u17d3\u17d7\u17dc-\u17dd", 2),
    Script("Burmese", "\u1000-\u103f\u104c-\u108f\u109a-\u109f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7f", 2),
    Script("Tibetan", "\u0f00\u0f40-\u0f84\u0f88-\u0fbc", 2),
)
_LETTERS = "".join(script.ranges for script in UNSPACED)
_RUN = re.compile(f"[{_LETTERS}]+")
_PART = re.compile(f"[{_LETTERS}]+|[^\\s{_LETTERS}]+")
_FORMS = {script.name: re.compile(f"[{script.ranges}]") for script in UNSPACED}
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u06df-\u06e8\u06ea-\u06ed\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
_ALONE = re.compile(f"[{''.join(script.ranges for script in UNSPACED if script.alone)}]")
_JOINERS = re.compile("[\u200b-\u200d\u2060\ufeff]")
"""What stands between letters unseen: writers of Khmer and Burmese mark words by it, where they care to."""


MARKS = "".join(char for char in map(chr, range(0x0300, 0x10000)) if unicodedata.category(char)[0] == "M")
"""All marks of the basic plane, such as vowel signs: they stand on the letter before them and belong to its word."""
_LETTER = re.compile(f".[{MARKS}\uff9e\uff9f]*", re.DOTALL)


def without_accents(text: str) -> str:
    """Decomposed (NFKD), without the marks that letters of Latin, Greek, Cyrillic, Hebrew and Arabic can do without."""
    apart = unicodedata.normalize("NFKD", text)
    return apart if apart.isascii() else _ACCENTS.sub("", apart)


def has_runs(text: str) -> bool:
    """Whether a text has letters of a script without spaces."""
    return not text.isascii() and _RUN.search(text) is not None


def letters(run: str) -> list[str]:
    """A run letter by letter, each with its marks."""
    return _LETTER.findall(run)


def spelt(text: str) -> str:
    """The text with spaces around every letter of the scripts without spaces; other text as it is."""
    if not has_runs(text):
        return text
    return _RUN.sub(lambda run: f" {' '.join(letters(run[0]))} ", _JOINERS.sub("", text))


def terms(text: str) -> Iterator[str]:
    """What the runs of a text are looked up by: pairs of letters, and single ones where they say something or are all
    there is."""
    for run in _RUN.findall(_JOINERS.sub("", unicodedata.normalize("NFKC", text))):
        parts = letters(run)
        yield from ("".join(pair) for pair in pairwise(parts))
        yield from (part for part in parts if len(parts) == 1 or _ALONE.match(part))


def without_runs(text: str) -> str:
    """What is left of a text without them: words between spaces."""
    return _RUN.sub(" ", text)


def places(text: str) -> list[tuple[int, int, float]]:
    """Where each word of a text and each letter of its runs starts and ends, and how much of a word it is."""
    grams: list[tuple[int, int, float]] = []
    for part in _PART.finditer(text):
        at = part.start()
        for letter in letters(part[0]) if _RUN.match(part[0]) else [part[0]]:
            grams.append((at, at + len(letter), weight(letter)))
            at += len(letter)
    return grams


def weight(word: str) -> float:
    """How much of a word a spelt letter is; 1 for whatever else stands between spaces."""
    if word.isascii():
        return 1.0
    script = next((script for script in UNSPACED if _FORMS[script.name].match(word)), None)
    return 1 / script.letters_per_word if script else 1.0


def count_words(text: str) -> int:
    """How many words a text has; of scripts without spaces about as many as its letters make, rounded up."""
    if not has_runs(text):
        return len(text.split())
    return rounded(sum(map(weight, spelt(text).split())))


def rounded(words: float) -> int:
    """The next whole number of words, but for what adding thirds and halves gets wrong."""
    return -int(-(words - 1e-6) // 1)


def scripts(text: str) -> frozenset[str]:
    """The scripts without spaces that a text has letters of."""
    if not has_runs(text):
        return frozenset()
    return frozenset(script.name for script in UNSPACED if _FORMS[script.name].search(text))


def analyser(scripts: Set[str]) -> str:
    """How texts in these scripts are cut into words, for people."""
    spaced = "words between spaces, English stems"
    names = [script.name for script in UNSPACED if script.name in scripts]
    return f"{spaced}; pairs of letters in {', '.join(names)}" if names else spaced
