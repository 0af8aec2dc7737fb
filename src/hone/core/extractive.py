"""Queries without a model, cut from a document's own words. They are named extractive wherever they are shown.

A style is a pure function of title, text and a random generator, and gives None where a document has nothing for it.
A new style is one function and one line in STYLES.
"""

import random
import re
from collections.abc import Callable, Iterator

from hone.core.segmentation import count_words, has_runs, letters, places, without_runs

Style = Callable[[str, str, random.Random], str | None]

SHORTEST_SENTENCE = 6
SPAN_WORDS = (6, 14)
SEARCH_WORDS = (3, 7)
SENTENCE_WORDS = (6, 30)
SHORTEST_CONTENT_WORD = 3

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；।။។])\s*")
_EDGES = " \t,.;:!?…\"'()[]，。、；：！？「」『』（）《》〈〉【】“”‘’·・—–-ฯ။၊។៕"
_STRETCH = re.compile(
    "[\u3400-\u4dbf\u4e00-\u9fff\u3005\uf900-\ufaff]+|[\u30a1-\u30fa\u30fc]+|[^\x00-\u0e00\u2000-\uffef]+"
)
"""What in a run may be a content word: Chinese characters, katakana, or letters of South-East Asia. Hiragana are mostly
endings and particles."""
_PARTICLES = re.compile("[的了是在和与及或等也都而被把对为有不这那之于从以将可会能要其中上下我你他她它们個个嗎吗呢吧]")
"""Chinese characters that join words more often than they make them."""
FRAGMENT = (2, 4)
"""Letters of a piece of a run that is taken for a word."""
_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_STOP = """
    about above after again against all also although among and any are because been before being below between both
    but can could did does doing down during each either few for from further had has have having her here hers him his
    how however into its itself just may might more most must neither nor not off once one only onto other our ours out
    over own per same shall she should show shown since some such than that the their theirs them then there therefore
    these they this those through thus too under until up upon use used uses using very via was well were what when
    where whether which while who whom whose why will with within without would you your yours
"""
STOP_WORDS = frozenset(_STOP.split())


def title(title: str, text: str, rng: random.Random) -> str | None:
    """The title as it stands."""
    return title or None


def sentence(title: str, text: str, rng: random.Random) -> str | None:
    """One whole sentence of 6 to 30 words."""
    low, high = SENTENCE_WORDS
    fitting = [one for one in sentences(text) if low <= count_words(one) <= high]
    return rng.choice(fitting) if fitting else None


def span(title: str, text: str, rng: random.Random) -> str | None:
    """6 to 14 consecutive words of one sentence."""
    sentence = rng.choice(sentences(text))
    low, high = SPAN_WORDS
    if has_runs(sentence):
        return _span_of_letters(sentence, low, high, rng)
    words = sentence.split()
    if len(words) < low:
        return None
    size = rng.randint(low, min(high, len(words)))
    start = rng.randrange(len(words) - size + 1)
    return " ".join(words[start : start + size])


def search(title: str, text: str, rng: random.Random) -> str | None:
    """3 to 7 content words of one sentence in random order, as people type into a search box."""
    low, high = SEARCH_WORDS
    words = content_words(rng.choice(sentences(text)))
    if len(words) < low:
        return None
    return " ".join(rng.sample(words, rng.randint(low, min(high, len(words)))))


STYLES: dict[str, Style] = {"title": title, "sentence": sentence, "span": span, "search": search}


def draw(style: str, title: str, text: str, *, seed: int, doc_id: str, number: int) -> str | None:
    """The `number`-th query of a style for a document: the same in any order of documents and in any shard."""
    return STYLES[style](title, text, random.Random(f"{seed}\0{doc_id}\0{style}\0{number}"))


def sentences(text: str) -> list[str]:
    """The sentences of some length; the whole text if there are none."""
    return [part for part in _SENTENCE_END.split(text) if count_words(part) >= SHORTEST_SENTENCE] or [text]


def content_words(text: str) -> list[str]:
    """Distinct lower-case words that are neither very short nor stop words, in order of appearance."""
    words = (word.lower() for word in _words(text))
    return list(dict.fromkeys(word for word in words if _says_something(word) and word not in STOP_WORDS))


def _words(text: str) -> Iterator[str]:
    if has_runs(text):
        for run in _STRETCH.findall(text):
            yield from (piece for part in _PARTICLES.split(run) for piece in _fragments(letters(part)))
        text = without_runs(text)
    yield from _WORD.findall(text)


def _fragments(parts: list[str]) -> Iterator[str]:
    """A stretch of letters in pieces of 2 to 4."""
    low, high = FRAGMENT
    while len(parts) >= low:
        size = high if len(parts) >= high + low or len(parts) == high else min(len(parts), high - 1)
        yield "".join(parts[:size])
        parts = parts[size:]


def _says_something(word: str) -> bool:
    return len(word) >= (FRAGMENT[0] if has_runs(word) else SHORTEST_CONTENT_WORD)


def _span_of_letters(sentence: str, low: int, high: int, rng: random.Random) -> str | None:
    """A stretch of a sentence in a script without spaces, of as many words as of others."""
    words = places(sentence)
    total = sum(weight for _, _, weight in words)
    if total < low:
        return None
    size = rng.randint(low, min(high, int(total)))
    last, rest = len(words) - 1, words[-1][2]
    while rest < size and last:
        last -= 1
        rest += words[last][2]
    start = end = rng.randrange(last + 1)
    length = words[start][2]
    while length < size and end + 1 < len(words):
        end += 1
        length += words[end][2]
    return sentence[words[start][0] : words[end][1]].strip(_EDGES) or None
