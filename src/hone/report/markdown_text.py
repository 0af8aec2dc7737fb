"""Text inside Markdown, and tables of it."""

import html
import re
from collections.abc import Sequence

MENTION = re.compile(r"(?<!\w)@(?=\w)")
MARKS = re.compile(r"([\\`*_{}\[\]()#+!|~$])")


def escaped(text: str, *, edges: bool = False) -> str:
    """Text that Markdown and HTML inside it take literally, on one line; `edges` keeps a space at either end.

    A document's "@name" would notify whoever bears that name where pull requests are hosted: a space of no width
    keeps it from being one.
    """
    flat = re.sub(r"\s+", " ", text)
    literal = MARKS.sub(r"\\\1", html.escape(flat if edges else flat.strip(), quote=False))
    return MENTION.sub("@\u200b", literal)


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of texts, which are taken literally."""
    body = [f"| {' | '.join(map(escaped, row))} |" for row in rows]
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *body]
