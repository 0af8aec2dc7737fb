"""Whether a language model's query is about its document, or made of what the prompt showed beside it.

A small model repeats what it was shown: examples whole, in pieces, shuffled or mixed, the instruction, the name of the
style, the marks of its chat template. This is found by comparing words, without any model. Words that stand in the
document are never held against a query, so queries about a subject that an example happens to share are kept.
"""

import re
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property, lru_cache

from hone.core.near_duplicates import shingles, similarity
from hone.core.query_text import comparable

NEAR = 0.6
"""Letter sequences in common (Jaccard) from which a query is an example in other words."""
RUN = 4
"""Fewer words in a row may be in common by chance, unless none of them is an everyday word."""
MOST = 0.5
"""The share of a query's telling words that may come from the examples alone."""
SCATTERED = 3
"""So many words, each of another example, are not an accident."""
STEM = 5
"""Words with this beginning in common are taken for forms of one word."""
COMMON = frozenset({
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been",
    "before", "being", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "for", "from",
    "get", "given", "had", "has", "have", "having", "how", "i", "if", "in", "into", "is", "it", "its", "just",
    "like", "make", "many", "may", "me", "might", "more", "most", "much", "must", "my", "no", "not", "of", "off",
    "on", "one", "only", "or", "other", "our", "out", "over", "own", "same", "shall", "she", "should", "so", "some",
    "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through",
    "to", "too", "under", "up", "us", "use", "used", "using", "very", "was", "we", "were", "what", "when", "where",
    "which", "while", "who", "whom", "whose", "why", "will", "with", "within", "without", "would", "you", "your",
})  # fmt: skip
"""Words that say nothing about a subject."""
_MARK = re.compile(
    r"<\|[^|<>]{1,40}(?:\|>?|$)|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|</?(?:s|bos|eos|pad|unk)>"
    r"|(?:(?<=[a-z.?!])|^)(?:Human|Assistant|User|System):"
)
_ORDER = re.compile(
    r"^(?:now |please |then )*(?:write|generate|create|provide|give|make|formulate|compose)\b(?:\W+\w+){0,8}?\W+"
    r"(?P<what>quer(?:y|ies)|questions?|claims?|titles?|keywords?|key phrases?|search(?:es)?|sentences?|statements?)\b",
    re.I,
)


@dataclass(frozen=True)
class Seen:
    """What a prompt showed beside its document: the whole of its text, and the examples and names of styles in it."""

    text: str
    examples: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @cached_property
    def plain(self) -> str:
        """All of it, normalised, between spaces."""
        return f" {comparable(self.text)} "

    @cached_property
    def words(self) -> Set[str]:
        """The words of instructions, names and rules: those of the examples are not among them."""
        text = self.text
        for example in self.examples:
            text = text.replace(example, " ")
        return frozenset(comparable(f"{text} {' '.join(self.names)}").split())

    @cached_property
    def styles(self) -> Set[str]:
        """Names of styles, normalised."""
        return frozenset(map(comparable, self.names))

    @cached_property
    def pieces(self) -> list[tuple[str, str, frozenset[bytes]]]:
        """Every example, normalised, and its letter sequences."""
        return [(example, plain, shingles(plain)) for example in self.examples for plain in [comparable(example)]]

    @cached_property
    def lent_by(self) -> list[frozenset[str]]:
        """Stems of the telling words of every example."""
        return [frozenset(map(_stem, telling(plain.split()))) for _, plain, _ in self.pieces]

    @cached_property
    def lent(self) -> Set[str]:
        """Stems of the telling words of all examples."""
        return frozenset[str]().union(*self.lent_by)


def borrowed(query: str, doc: str, seen: Seen) -> str:
    """What shows that a query is made of what the prompt showed and not of its document; empty if nothing does."""
    if (mark := _MARK.search(query)) and mark[0] not in doc:
        return f"a mark of the chat template, {mark[0]!r}"
    plain, known = comparable(query), stems_of(doc)
    words = plain.split()
    own = telling(words)
    strange = {word for word in own if _stem(word) not in known}
    if plain in seen.styles:
        return "the name of a style"
    order = _ORDER.match(query)
    if order and comparable(order["what"]).split()[-1] in strange:
        return "the instruction"
    if own and strange.issuperset(own) and 2 * sum(word in seen.words for word in own) >= len(own):
        return "words of the instruction"
    return _of_examples(plain, words, own, strange, seen)


def _of_examples(plain: str, words: list[str], own: list[str], strange: Set[str], seen: Seen) -> str:
    sequences = shingles(plain)
    for example, text, piece in seen.pieces:
        if text == plain or (strange and similarity(sequences, piece) >= NEAR):
            return f"the example {example!r}"
    if not strange:
        return ""
    for run in runs(words, seen.plain):
        inside = telling(run)
        foreign = sum(word in strange for word in inside)
        if foreign and ((len(run) >= RUN and len(inside) > 1) or (len(run) == RUN - 1 and foreign > 1)):
            return f"a piece of the prompt, {' '.join(run)!r}"
    lent = [word for word in own if word in strange and _stem(word) in seen.lent]
    if len(lent) >= MOST * len(own) and (lent == own or not _by_chance(lent, seen)):
        return f"words of the examples, {' '.join(lent)!r}"
    return ""


def _by_chance(lent: list[str], seen: Seen) -> bool:
    """Whether words are too few to tell: one of any example, or two of different ones."""
    stems = frozenset(map(_stem, lent))
    return len(stems) < SCATTERED and all(len(stems & part) < 2 for part in seen.lent_by)


def telling(words: list[str]) -> list[str]:
    """Words that say something about a subject."""
    return [word for word in words if word not in COMMON and len(word) > 1]


def runs(words: list[str], text: str) -> list[list[str]]:
    """The longest runs of consecutive words that also stand in `text`, which is normalised and between spaces."""
    stretches: list[list[str]] = []
    start = 0
    for end in range(1, len(words) + 1):
        while start < end and f" {' '.join(words[start:end])} " not in text:
            start += 1
        longer = end == len(words) or f" {' '.join(words[start : end + 1])} " not in text
        if start < end and longer:
            stretches.append(words[start:end])
    return stretches


@lru_cache(8)
def stems_of(doc: str) -> Set[str]:
    """Stems of all words of a document, which several queries in a row are about."""
    return frozenset(map(_stem, comparable(doc).split()))


def _stem(word: str) -> str:
    return word[:STEM]
