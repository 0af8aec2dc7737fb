"""What makes a query usable, whoever wrote it: pure rules, each with a fixed phrase as its reason."""

import re
from collections.abc import Set
from dataclasses import dataclass
from functools import cached_property

from hone.backends.generators.answers import without_reasoning
from hone.core import forms
from hone.core.borrowed import Seen, borrowed
from hone.core.forms import Form
from hone.core.hashing import hashed
from hone.core.languages import foreign
from hone.core.near_duplicates import NearTexts
from hone.core.personal_data import has_personal_data, masked
from hone.core.query_text import comparable
from hone.core.rejection import Rejection
from hone.core.segmentation import count_words, rounded, weight

NOT_ABOUT = "not about the document"
QUOTES = (('"', '"'), ("'", "'"), ("`", "`"), ("“", "”"), ("‘", "’"), ("«", "»"), ("**", "**"), ("*", "*"), ("_", "_"))

_LABEL = re.compile(
    r"^(?:(?:document |search |web )*(?:query|question|claim|title|keywords?)\s*:|[-*•]\s|\d{1,2}[.)]\s)\s*", re.I
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
_TELLS = r"(?:describe|discusse?|examine|explain|indicate|involve|present|propose|report|show|suggest)s?"
_WORKS = (
    r"(?:address|analy[sz]e|compare|conclude|consider|deal|demonstrate|derive|develop|explore|find|focus|highlight|introduce|"
    r"investigate|outline|provide|review|summari[sz]e)(?:e?s)?|aims|stud(?:y|ies)"
)
"""What papers and authors do besides. After a bare "document" these are what people search for: document review."""
_PASSAGE = re.compile(
    r"\b(?:the|this|that|above|given|provided) (?:above |given |provided |following )?"
    r"(?:passage|documents?|text|excerpt|paragraph|snippet|abstract|article)\b"
    rf"|\bthis (?:paper|report|research|study|work)\b|\bthe (?:paper|authors?) (?:\w+ly )?(?:{_TELLS}|{_WORKS})\b"
    r"|\bthe paper (?:is|was) (?:about|concerned|intended)\b"
    rf"|^document (?:summary|{_TELLS})\b",
    re.I,
)


@dataclass(frozen=True)
class Draft:
    """A query before it is judged. `max_words` is the limit of its style; `doc` is empty for queries from a log; `cut`
    says that a model ran out of tokens; `fault` is what its source found already; `form` is what its style asks for,
    and `seen` what the prompt showed beside the document."""

    source: str
    style: str
    doc_id: str
    text: str
    doc: str = ""
    max_words: int = 0
    by_model: bool = False
    cut: bool = False
    fault: Rejection | None = None
    form: Form = "any"
    seen: Seen | None = None

    @cached_property
    def plain(self) -> str:
        """The comparable text."""
        return comparable(self.text)

    @cached_property
    def query_id(self) -> str:
        """A hash of where the query comes from and how it reads."""
        return f"{hashed(self.source, self.style, self.doc_id, self.text):016x}"


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

    def __init__(self, tests: Set[str], rules: Rules, near_tests: NearTexts | None = None) -> None:
        """`tests` are the comparable texts of the test queries, and `near_tests` finds those a draft is close to."""
        self.tests, self.rules, self._near_tests = tests, rules, near_tests
        self._kept: set[str] = set()
        self._leaks: dict[str, str] = {}

    def check(self, draft: Draft) -> Rejection | None:
        """The first fault of a draft, or None. Where personal data is unwanted, no fault's detail shows any."""
        fault = draft.fault or self._model_habit(draft) or self._length(draft) or _form(draft)
        fault = fault or self._content(draft) or self._known(draft)
        if fault is None:
            self._kept.add(draft.plain)
        elif self.rules.personal_data:
            return Rejection(fault.reason, masked(fault.detail))
        return fault

    def _length(self, draft: Draft) -> Rejection | None:
        words = count_words(draft.text)
        limit = min(self.rules.max_words, draft.max_words or self.rules.max_words)
        if not draft.plain:
            return Rejection("empty", draft.text)
        if words < self.rules.min_words:
            return Rejection("too short", f"{words} words: {draft.text}")
        return Rejection("too long", f"{words} words, at most {limit}: {draft.text}") if words > limit else None

    def _model_habit(self, draft: Draft) -> Rejection | None:
        """Faults that only language models have: users do type "this document", and extracts do copy."""
        if not draft.by_model:
            return None
        if not draft.plain:  # nothing yet where the model was cut off while it still reasoned
            return Rejection("truncated", draft.text) if draft.cut else None
        for reason, pattern in (("refused", _REFUSAL), ("preamble", _PREAMBLE)):
            if pattern.match(draft.text):
                return Rejection(reason, draft.text)
        if draft.seen and (borrowed_from := borrowed(draft.text, draft.doc, draft.seen)):
            return Rejection(NOT_ABOUT, f"{borrowed_from}: {draft.text}")
        if draft.cut:
            return Rejection("truncated", draft.text)
        if _PASSAGE.search(draft.text):
            return Rejection("refers to the passage", draft.text)
        copied = copied_words(draft.text, draft.doc)
        if copied > self.rules.max_copied_words:
            return Rejection("copies a long span", f"{copied} words: {draft.text}")
        return None

    def _content(self, draft: Draft) -> Rejection | None:
        """What users ask to have left out, which details must not repeat, and the language."""
        if any(f" {term} " in f" {draft.plain} " for term in self.rules.blocked):
            return Rejection("blocked word", f"in the query of {draft.doc_id or 'the log'}")
        if self.rules.personal_data and has_personal_data(draft.text):
            return Rejection("personal data", f"in the query of {draft.doc_id or 'the log'}")
        check = self.rules.check_language and draft.by_model
        other_language = foreign(draft.text, draft.doc, self.rules.language) if check else ""
        return Rejection("wrong language", f"{other_language}: {draft.text}") if other_language else None

    def _known(self, draft: Draft) -> Rejection | None:
        if draft.plain in self._kept:
            return Rejection("duplicate", draft.text)
        if draft.plain in self.tests:
            return Rejection("test query", draft.text)
        leak = self._leaks.get(draft.plain) or (self._near_tests.find(draft.plain) if self._near_tests else "")
        if leak:
            self._leaks[draft.plain] = leak
        return Rejection("near duplicate of a test query", f"{draft.text} | {leak}") if leak else None


def _form(draft: Draft) -> Rejection | None:
    wrong = forms.wrong_form(draft.text, draft.form, draft.doc) if draft.by_model else ""
    return Rejection("wrong form", f"{wrong}: {draft.text}") if wrong else None


def answered(answer: str, style: str = "query") -> str:
    """The one line that a language model meant as its query: no reasoning, label, list mark, markdown or outer quotes,
    and no remarks after it."""
    line = unquoted(" ".join(without_reasoning(answer).partition("\n")[0].split()))
    bare = _unlabelled(_unlabelled(forms.tidied(line), style), style)
    return unquoted(bare)


def _unlabelled(line: str, style: str) -> str:
    named = line[len(style) + 1 :].lstrip() if line.lower().startswith(f"{style.lower()}:") else line
    return _LABEL.sub("", named)


def unquoted(text: str) -> str:
    """The text without quotes around the whole of it; `"a" or "b"` stays as it is."""
    for left, right in QUOTES:
        inner = text[len(left) : -len(right)]
        around = len(text) > len(left + right) and text.startswith(left) and text.endswith(right)
        if around and left not in inner and right not in inner:
            return inner.strip()
    return text


def copied_words(query: str, doc: str) -> int:
    """The length of the longest run of consecutive words of `query` that also stands in `doc`, both comparable."""
    words, passage = comparable(query).split(), f" {comparable(doc)} "
    weights = [weight(word) for word in words]
    start, longest = 0, 0.0
    for end in range(1, len(words) + 1):
        while start < end and f" {' '.join(words[start:end])} " not in passage:
            start += 1
        longest = max(longest, sum(weights[start:end]))
    return rounded(longest)
