"""Whether a query is in the language it should be in, by character statistics that py3langid ships."""

from functools import cache, lru_cache
from typing import Any

CERTAIN = 20.0
"""Difference of log-likelihoods (nats) between two languages. Of 4,400 English queries of four collections, terse
keywords and code among them, none came over 15; eleven German and French queries of 3 to 10 words came to 35 and more.
The limit was chosen on these same queries."""
LONGEST = 2_000


def foreign(query: str, doc: str, language: str) -> str:
    """The language (ISO 639-1) a query is certainly in if that is not `language`, or the document's where none is
    given; else empty."""
    expected = language or (_language(doc[:LONGEST]) if doc else "")
    if not expected:
        return ""
    ranked = dict(_identifier().rank(query))
    likeliest = next(iter(ranked))
    return likeliest if float(ranked[likeliest]) - float(ranked.get(expected, ranked[likeliest])) > CERTAIN else ""


@lru_cache(8)
def _language(text: str) -> str:
    """Of a document; its styles ask in a row."""
    return str(_identifier().rank(text)[0][0])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
