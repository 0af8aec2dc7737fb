"""The form that a style's answers must have: what is put right where that is safe, and what is wrong.

Nothing is put right that could change what a query asks: marks around it go, and words after it that are about it.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

Form = Literal["any", "question", "statement", "title", "keywords"]
MOST_KEYWORDS = 5
REPEATS = 3
SCRIPTS = (
    "LATIN", "CYRILLIC", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "THAI", "ARMENIAN", "GEORGIAN", "HANGUL",
    "CJK", "HIRAGANA", "KATAKANA",
)  # fmt: skip
"""Scripts that are not mixed within a query. Greek is not among them: formulas have Greek letters in any language."""
EAST = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK"}
"""Scripts that are written beside another, and count as that."""

_HEADING = re.compile(r"^#{1,6}\s+")
_EMPHASIS = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_SEARCH_FOR = re.compile(r"^search(?: for)?:? [\"“](.+)[\"”]\.?$", re.I)
_WANTS_TEXTS = re.compile(
    r"^(?:search(?: for)?|find|look(?:ing)? for) "
    r"(?:articles|documents|information|papers|publications|research|studies) "
    r"(?:about|addressing|discussing|describing|examining|on|regarding|related to)\s+",
    re.I,
)
_ABOUT = re.compile(r"^(?:[Aa]bout other subjects\b[\s:,]*)?(?:about\s+)?")
"""What a small model makes of a prompt's heading and goes on from: examples "about other subjects"."""
_END = re.compile(r"\s*(?:<\|[^|<>]{1,40}(?:\|>?|$)|</s>|<(?:end_of_turn|eos)>).*$")
_ABOUT_ITSELF = re.compile(
    r"\s+\((?:\d+ words?|at most|note\b|this (?:query|question|claim|title)).*\)$"
    r"|[\s,;]+(?:\*\*)?(?:answer|explanation|note|reason(?:ing)?)(?:\*\*)?:.*$",
    re.I,
)
_SEPARATORS = re.compile(r"\s*[,;|•·]\s*|\s+[-*]\s+")
_ASKS = re.compile(
    r"^(?:what|why|how|who|whom|whose|which|is|are|was|were|does|do|did|can|could|should|would|will|has|have)\b", re.I
)
_ORDERS = re.compile(
    r"^(?:compare|describe|discuss|explain|find|list|search|summari[sz]e|write) (?:an?|for|how|the|whether|why)\b", re.I
)
_GLUED = re.compile(r"(?<![A-Za-z])([a-z]{5,})([A-Z][a-z]{2,})")


def tidied(answer: str) -> str:
    """A line without markdown, without what follows the end of the answer, and without remarks on itself."""
    line = _HEADING.sub("", answer)
    line = _END.sub("", line) or line
    line = _SEARCH_FOR.sub(r"\1", _EMPHASIS.sub(r"\2", line))
    line = (_ABOUT_ITSELF.sub("", line) or line).strip()
    for phrase in (_WANTS_TEXTS, _ABOUT):
        line = phrase.sub("", line) or line
    return _without_lone_quote(line).rstrip(" ,;")


def _without_lone_quote(line: str) -> str:
    """A quote that opens or ends a line and has no other half goes: the model was cut off, or forgot it."""
    for mark in ('"', "`"):
        if line.count(mark) == 1:
            return line.removeprefix(mark).removesuffix(mark)
    return line


def keywords(text: str, most_words: int, *, cut: bool) -> tuple[str, bool]:
    """A list of keywords as the words alone, and whether it is still cut off.

    Of phrases between commas, those said twice are left out, and so is the last where the model ran out of tokens; the
    first five are kept, as far as all of their words are at most `most_words`.
    """
    phrases = [phrase for phrase in _SEPARATORS.split(text.rstrip(" .")) if phrase]
    if len(phrases) < 2:
        return text.rstrip(" .") if phrases else text, cut
    phrases = phrases[:-1] if cut else phrases
    kept: list[str] = []
    for phrase in dict.fromkeys(phrase.strip(" .\"'`") for phrase in phrases):
        if len(kept) < MOST_KEYWORDS and len(" ".join([*kept, phrase]).split()) <= most_words:
            kept.append(phrase)
    return " ".join(kept) or phrases[0], False


def wrong_form(text: str, form: Form, doc: str) -> str:
    """What is wrong with the form of a query, or an empty string."""
    if asks(text, form):
        return f"a {'claim' if form == 'statement' else form} that is a question"
    if form == "statement" and _ORDERS.match(text):
        return "a claim that is an order"
    if alien := foreign_script(text, doc):
        return f"letters of another script ({alien.title()})"
    if "\ufffd" in text:
        return "a broken character"
    if glued := _glued(text, doc):
        return f"a broken word, {glued!r}"
    return f"the same words again and again, {again!r}" if (again := _repeated(text)) else ""


def asks(text: str, form: Form) -> bool:
    """Whether an answer that should be a statement or a title is a question."""
    if form not in ("statement", "title"):
        return False
    marked = text.rstrip("\"'”’»* ").endswith(("?", "？", "؟"))
    return marked or (form == "statement" and bool(_ASKS.match(text)) and not text.endswith("."))


def foreign_script(text: str, doc: str) -> str:
    """A second script in a text, of which the document has no letter; empty if there is none."""
    if text.isascii():
        return ""
    scripts = list(dict.fromkeys(_scripts(text)))
    if len(scripts) < 2:
        return ""
    known = set(_scripts(doc))
    return next((script for script in scripts[::-1] if script not in known), "")


def _scripts(text: str) -> Iterator[str]:
    for char in text:
        if char.isalpha():
            script = "LATIN" if char.isascii() else unicodedata.name(char, "").partition(" ")[0]
            if script in SCRIPTS:
                yield EAST.get(script, script)


def _glued(text: str, doc: str) -> str:
    """A word that breaks off and goes on as another: its beginning is that of a longer word of the document."""
    for match in _GLUED.finditer(text):
        begins = re.search(rf"(?<![A-Za-z]){match[1]}[a-z]", doc)
        if begins and match[0] not in doc and not re.search(rf"\b{match[1]}\b", doc):
            return match[0]
    return ""


def _repeated(text: str) -> str:
    """One to four words that follow on themselves at least three times, five where it is a single word."""
    words = text.lower().split()
    for length in range(1, 5):
        times = REPEATS if length > 1 else REPEATS + 2
        for start in range(len(words) - times * length + 1):
            run = words[start : start + length]
            if words[start : start + times * length] == run * times:
                return " ".join(run)
    return ""
