"""Queries without a model, cut from a document's own words. They are named extractive wherever they are shown.

A style is a pure function of title, text and a random generator, and gives None where a document has nothing for it.
A new style is one function and one line in STYLES.
"""

import random
import re
from collections.abc import Callable

Style = Callable[[str, str, random.Random], str | None]

SHORTEST_SENTENCE = 6
SPAN_WORDS = (6, 14)
SEARCH_WORDS = (3, 7)
SENTENCE_WORDS = (6, 30)
SHORTEST_CONTENT_WORD = 3

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
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
    fitting = [one for one in sentences(text) if low <= len(one.split()) <= high]
    return rng.choice(fitting) if fitting else None


def span(title: str, text: str, rng: random.Random) -> str | None:
    """6 to 14 consecutive words of one sentence."""
    words = rng.choice(sentences(text)).split()
    low, high = SPAN_WORDS
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
    return [part for part in _SENTENCE_END.split(text) if len(part.split()) >= SHORTEST_SENTENCE] or [text]


def content_words(text: str) -> list[str]:
    """Distinct lower-case words that are neither very short nor stop words, in order of appearance."""
    words = (word.lower() for word in _WORD.findall(text))
    return list(dict.fromkeys(word for word in words if len(word) >= SHORTEST_CONTENT_WORD and word not in STOP_WORDS))
