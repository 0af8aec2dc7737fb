"""Queries as TREC and its kin distribute them: topics in SGML or XML, or lines that begin with the id."""

import html
import re
from collections.abc import Iterator

from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.decoding import encoding_of, lines
from hone.inputs.readers.files import File

SUFFIXES = (".txt", ".xml", ".topics", ".trec", ".sgml", ".sgm", "")
TOPIC = re.compile(r"<(topic|top|query|DOC)\b([^>]*)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
OWN_ID = re.compile(r"""\b(?:number|num|id|qid)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
INNER_ID = re.compile(r"<(?:num|number|qid|docno|id)>\s*(?:Number:)?\s*([^<\s]+)", re.IGNORECASE)
ASKED = ("title", "query", "question", "text", "summary", "desc")
FORMS = (
    re.compile(r"([^\t]+)\t+([^\t]*).*"),
    re.compile(r"([\w.-]*\d[\w.-]*):\s*(.*)"),
    re.compile(r"(\w*\d\w*)\s+(.*)"),
)
"""Lines of an id and a text: with a tab, a colon or a space between."""


def of_topics(file: File) -> Iterator[tuple[str, str, str]]:
    """(where, query_id, text) of every topic. Raises UserError."""
    numbered = [(number, line) for number, line in lines(file, encoding_of(file)) if line.strip()]
    whole = "\n".join(line for _, line in numbered)
    if whole.lstrip().startswith("<"):
        yield from _marked_up(file, whole)
        return
    form = next((form for form in FORMS if all(form.fullmatch(line.strip()) for _, line in numbered)), None)
    for number, line in numbered:
        topic = form.fullmatch(line.strip()) if form else None
        if not topic:
            raise UserError(
                f"{file}, line {number}: a query needs an id; write the id, a tab and the text on each line"
            )
        yield f"{file}, line {number}", topic[1].strip(), flat(topic[2])


def _marked_up(file: File, whole: str) -> Iterator[tuple[str, str, str]]:
    for number, topic in enumerate(TOPIC.finditer(whole), 1):
        _, attributes, inside = topic.groups()
        where = f"{file}, topic {number}"
        own = OWN_ID.search(attributes) or INNER_ID.search(inside)
        if not own:
            raise UserError(f"{where}: it has no number; write it as <num> or number=")
        texts = (re.search(rf"<{tag}\b[^>]*>\s*(?:Topic:)?([^<]*)", inside, re.IGNORECASE) for tag in ASKED)
        text = next((flat(html.unescape(match[1])) for match in texts if match and match[1].strip()), "")
        yield where, own[1].strip(), text or flat(html.unescape(inside)) * ("<" not in inside)
