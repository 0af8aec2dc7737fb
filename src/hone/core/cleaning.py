"""What makes a query usable, whoever wrote it: pure rules, each with a fixed phrase as its reason."""

import re
import unicodedata
from collections.abc import Set
from dataclasses import dataclass

QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("«", "»"), ("**", "**"))

_REASONING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_LABEL = re.compile(
    r"^(?:(?:search |web )*(?:query|question|claim|title|keywords?)\s*:|[-*•]\s|\d{1,2}[.)]\s)\s*", re.I
)
_PREAMBLE = re.compile(
    r"^(?:sure|certainly|of course|okay|here(?:'s| is| are)|as an ai|i(?:'m| am) sorry|sorry|i (?:cannot|can't)"
    r"|(?:a|the|one) (?:possible |suitable |good )?(?:search )?(?:query|question|claim|title)"
    r" (?:is|could be|would be|might be))\b",
    re.I,
)
_PASSAGE = re.compile(
    r"\b(?:the|this|that|above|given|provided) (?:above |given |provided |following )?"
    r"(?:passage|document|text|excerpt|paragraph|snippet|abstract|article)\b",
    re.I,
)


@dataclass(frozen=True)
class Draft:
    """A query before it is judged. `max_words` is the limit of its style; `doc` is empty for queries from a log."""

    source: str
    style: str
    doc_id: str
    text: str
    doc: str = ""
    max_words: int = 0
    by_model: bool = False


@dataclass(frozen=True)
class Fault:
    """Why a draft is dropped: a fixed phrase, and what in particular."""

    reason: str
    detail: str


class Cleaner:
    """Judges drafts one after another and remembers those it kept, so that none is kept twice."""

    def __init__(self, tests: Set[str], min_words: int, max_words: int, max_copied_words: int) -> None:
        self.tests, self.min_words, self.max_words = tests, min_words, max_words
        self.max_copied_words = max_copied_words
        self._kept: set[str] = set()

    def judge(self, draft: Draft) -> Fault | None:
        """The first fault of a draft, or None. `tests` are the normalised texts of the test queries."""
        plain = normalised(draft.text)
        fault = self._length(draft) or self._model_habit(draft)
        if fault is None and plain in self.tests:
            fault = Fault("test query", draft.text)
        if fault is None and plain in self._kept:
            fault = Fault("duplicate", draft.text)
        if fault is None:
            self._kept.add(plain)
        return fault

    def _length(self, draft: Draft) -> Fault | None:
        words = len(draft.text.split())
        limit = min(self.max_words, draft.max_words or self.max_words)
        if not normalised(draft.text):
            return Fault("empty", draft.text)
        if words < self.min_words:
            return Fault("too short", f"{words} words: {draft.text}")
        return Fault("too long", f"{words} words, at most {limit}: {draft.text}") if words > limit else None

    def _model_habit(self, draft: Draft) -> Fault | None:
        """Faults that only language models have: users do type "this document", and extracts do copy."""
        if not draft.by_model:
            return None
        if _PREAMBLE.match(draft.text):
            return Fault("preamble", draft.text)
        if _PASSAGE.search(draft.text):
            return Fault("refers to the passage", draft.text)
        copied = copied_words(draft.text, draft.doc)
        if copied > self.max_copied_words:
            return Fault("copies a long span", f"{copied} words: {draft.text}")
        return None


def normalised(text: str) -> str:
    """Lower case, without accents and punctuation, single spaces: queries that read alike become equal."""
    bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(re.findall(r"[^\W_]+", bare.casefold()))


def without_reasoning(answer: str) -> str:
    """An answer without its `<think>` blocks, closed or cut off, and without leading space."""
    return _REASONING.sub("", answer).lstrip()


def is_complete(answer: str) -> bool:
    """Whether a growing answer already has its one line."""
    return "\n" in without_reasoning(answer)


def answered(answer: str) -> str:
    """The one line that a language model meant as its query: no reasoning, label, list mark or outer quotes."""
    line = without_reasoning(answer).partition("\n")[0]
    return unquoted(_LABEL.sub("", unquoted(" ".join(line.split()))))


def unquoted(text: str) -> str:
    """The text without quotes around the whole of it; `"a" or "b"` stays as it is."""
    for left, right in QUOTES:
        inner = text[len(left) : -len(right)]
        around = len(text) > len(left + right) and text.startswith(left) and text.endswith(right)
        if around and left not in inner and right not in inner:
            return inner.strip()
    return text


def copied_words(query: str, doc: str) -> int:
    """The length of the longest run of consecutive words of `query` that also stands in `doc`, both normalised."""
    words, passage = normalised(query).split(), f" {normalised(doc)} "
    start = longest = 0
    for end in range(1, len(words) + 1):
        while start < end and f" {' '.join(words[start:end])} " not in passage:
            start += 1
        longest = max(longest, end - start)
    return longest
