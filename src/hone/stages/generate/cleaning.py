"""What makes a query usable, whoever wrote it: pure rules, each with a fixed phrase as its reason."""

import re
import unicodedata
from collections.abc import Set
from dataclasses import dataclass

from hone.core.languages import foreign
from hone.core.near_duplicates import NearDuplicates

QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("«", "»"), ("**", "**"))

_REASONING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_LABEL = re.compile(
    r"^(?:(?:search |web )*(?:query|question|claim|title|keywords?)\s*:|[-*•]\s|\d{1,2}[.)]\s)\s*", re.I
)
_PREAMBLE = re.compile(
    r"^(?:sure|certainly|of course|okay|here(?:'s| is| are)"
    r"|(?:a|the|one) (?:possible |suitable |good )?(?:search )?(?:query|question|claim|title)"
    r" (?:is|could be|would be|might be))\b",
    re.I,
)
_REFUSAL = re.compile(
    r"^(?:as an ai|(?:i(?:'m| am) )?(?:sorry|afraid)|i (?:cannot|can['’]?t|am unable|won['’]?t)\b.{0,30}"
    r"\b(?:help|assist|provide|generate|create|write|answer|comply|fulfil)|unfortunately, i)\b",
    re.I,
)
_PASSAGE = re.compile(
    r"\b(?:the|this|that|above|given|provided) (?:above |given |provided |following )?"
    r"(?:passage|document|text|excerpt|paragraph|snippet|abstract|article)\b",
    re.I,
)


_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]*\w")
_NUMBER = re.compile(r"\+?\d(?:[ ()./-]{0,2}\d){8,18}\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")
_HTTP = re.compile(r"https?://\S+", re.I)


@dataclass(frozen=True)
class Fault:
    """Why a draft is dropped: a fixed phrase, and what in particular."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Draft:
    """A query before it is judged. `max_words` is the limit of its style; `doc` is empty for queries from a log; `cut`
    says that a model ran out of tokens; `fault` is what its source found already."""

    source: str
    style: str
    doc_id: str
    text: str
    doc: str = ""
    max_words: int = 0
    by_model: bool = False
    cut: bool = False
    fault: Fault | None = None


@dataclass(frozen=True)
class Rules:
    """The limits of `Cleaner`. Empty sets switch their rules off."""

    min_words: int
    max_words: int
    max_copied_words: int
    check_language: bool = False
    language: str = ""
    blocked: Set[str] = frozenset()
    personal_data: bool = False


class Cleaner:
    """Judges drafts one after another and remembers those it kept, so that none of a bucket is kept twice."""

    def __init__(self, tests: Set[str], rules: Rules, near_tests: NearDuplicates | None = None) -> None:
        """`tests` are the normalised texts of the test queries, and `near_tests` finds those a draft is close to."""
        self.tests, self.rules, self._near_tests = tests, rules, near_tests
        self._kept: set[str] = set()

    def judge(self, draft: Draft) -> Fault | None:
        """The first fault of a draft, or None."""
        plain = normalised(draft.text)
        fault = draft.fault or self._model_habit(draft) or self._length(draft) or self._content(draft, plain)
        fault = fault or self._known(draft, plain)
        if fault is None:
            self._kept.add(plain)
        return fault

    def _length(self, draft: Draft) -> Fault | None:
        words = len(draft.text.split())
        limit = min(self.rules.max_words, draft.max_words or self.rules.max_words)
        if not normalised(draft.text):
            return Fault("empty", draft.text)
        if words < self.rules.min_words:
            return Fault("too short", f"{words} words: {draft.text}")
        return Fault("too long", f"{words} words, at most {limit}: {draft.text}") if words > limit else None

    def _model_habit(self, draft: Draft) -> Fault | None:
        """Faults that only language models have: users do type "this document", and extracts do copy."""
        if not draft.by_model:
            return None
        if not normalised(draft.text):  # nothing yet where the model was cut off while it still reasoned
            return Fault("truncated", draft.text) if draft.cut else None
        for reason, pattern in (("refused", _REFUSAL), ("preamble", _PREAMBLE)):
            if pattern.match(draft.text):
                return Fault(reason, draft.text)
        if draft.cut:
            return Fault("truncated", draft.text)
        if _PASSAGE.search(draft.text):
            return Fault("refers to the passage", draft.text)
        copied = copied_words(draft.text, draft.doc)
        if copied > self.rules.max_copied_words:
            return Fault("copies a long span", f"{copied} words: {draft.text}")
        return None

    def _content(self, draft: Draft, plain: str) -> Fault | None:
        """What users ask to have left out, which details must not repeat, and the language."""
        if any(f" {term} " in f" {plain} " for term in self.rules.blocked):
            return Fault("blocked word", f"in the query of {draft.doc_id or 'the log'}")
        if self.rules.personal_data and has_personal_data(draft.text):
            return Fault("personal data", f"in the query of {draft.doc_id or 'the log'}")
        check = self.rules.check_language and draft.by_model
        found = foreign(draft.text, draft.doc, self.rules.language) if check else ""
        return Fault("wrong language", f"{found}: {draft.text}") if found else None

    def _known(self, draft: Draft, plain: str) -> Fault | None:
        if plain in self.tests:
            return Fault("test query", draft.text)
        leak = self._near_tests.find(plain) if self._near_tests else ""
        if leak:
            return Fault("near duplicate of a test query", f"{draft.text} | {leak}")
        return Fault("duplicate", draft.text) if plain in self._kept else None


def has_personal_data(text: str) -> bool:
    """Whether a text holds an e-mail address, a telephone or card number (9 digits and more) or an IBAN."""
    bare = _HTTP.sub(" ", text)
    return any(pattern.search(bare) for pattern in (_EMAIL, _NUMBER, _IBAN))


def normalised(text: str) -> str:
    """Lower case, without accents and punctuation, single spaces: queries that read alike become equal."""
    if text.isascii():
        bare = text  # the common case, in which the next line changes nothing
    else:
        bare = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return " ".join(re.findall(r"[^\W_]+", bare.casefold()))


def without_reasoning(answer: str) -> str:
    """An answer without its `<think>` blocks, closed or cut off, and without leading space."""
    return _REASONING.sub("", answer).lstrip()


def is_complete(answer: str) -> bool:
    """Whether a growing answer already has its one line."""
    return "\n" in without_reasoning(answer)


def answered(answer: str, style: str = "query") -> str:
    """The one line that a language model meant as its query: no reasoning, label, list mark or outer quotes."""
    line = unquoted(" ".join(without_reasoning(answer).partition("\n")[0].split()))
    named = line[len(style) + 1 :].lstrip() if line.lower().startswith(f"{style.lower()}:") else line
    return unquoted(_LABEL.sub("", named))


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
