"""Documents as TREC distributes them: SGML with a DOC around each, its DOCNO, and its text between tags."""

import html
import re
from collections.abc import Iterator

from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.decoding import LARGEST_FIELD, encoding_of, lines
from hone.inputs.readers.files import FAULTS, File
from hone.inputs.readers.table import Dialect, Fields, Row, Table

BOUNDS = re.compile(r"(<DOC(?:\s[^>]*)?>|</DOC>)", re.IGNORECASE)
OWN_ID, OWN_TITLE = (re.compile(rf"""\s{name}\s*=\s*["']([^"']*)["']""", re.IGNORECASE) for name in ("id", "title"))
"""What the tag around a document says of it, as WikiExtractor writes it."""
NUMBER = re.compile(r"<DOCNO>(.*?)</DOCNO>", re.IGNORECASE | re.DOTALL)
TITLE = re.compile(r"<(HEADLINE|TITLE|TTL|HL|HEAD|DOCTITLE)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
TEXT = re.compile(r"<(TEXT|LEADPARA|LP|BODY|ABSTRACT)(?:\s[^>]*)?>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
ABOUT = re.compile(r"<(DOCNO|DOCHDR|DOCID|FILEID|DATE\d?)>.*?</\1>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"<!--.*?-->|</?[A-Za-z][^>]*>", re.DOTALL)
FIRST = re.compile(rb"\s*(<!--.*?-->\s*)?<DOC(\s[^>]*)?>", re.IGNORECASE | re.DOTALL)
FIRST_BYTES = 1 << 10


def is_trec(file: File) -> bool:
    """Whether a file begins as TREC's documents do."""
    try:
        with file.open() as stream:
            return FIRST.match(stream.read(FIRST_BYTES).removeprefix(b"\xef\xbb\xbf")) is not None
    except (UserError, *FAULTS):
        return False


def open_trec(file: File, fields: Fields, dialect: Dialect) -> Table:
    """A file of TREC documents. Raises UserError."""
    encoding = encoding_of(file, dialect.encoding)
    facts = {"markup": "TREC documents: the id is in DOCNO or in the tag", "encoding": str(encoding)}
    if packing := file.packing():
        facts["packed"] = f"packed by {packing}"
    names = Fields(fields.id or "_id", fields.title or "title", fields.text or "text")
    return Table(_rows(file, lines(file, encoding), names), tuple(names), facts)


def _rows(file: File, numbered: Iterator[tuple[int, str]], names: Fields) -> Iterator[Row]:
    held: list[str] = []
    start, size, opened = 0, 0, ""
    for number, line in numbered:
        for part in BOUNDS.split(line) if "<" in line else (line,):
            if part[:4].upper() == "<DOC" and BOUNDS.fullmatch(part):
                if start:
                    raise UserError(f"{file}, line {start}: a DOC is not closed before the next one; correct the file")
                start, held, size, opened = number, [], 0, part
            elif start and part.upper() == "</DOC>":
                where = f"{file}, line {start}"
                yield where, dict(zip(names, _document(opened, "\n".join(held), where), strict=True))
                start = 0
            elif start:
                held.append(part)
                size += len(part)
                if size > LARGEST_FIELD:
                    raise UserError(f"{file}, line {start}: a DOC of more than {LARGEST_FIELD >> 20} MiB; split it")
    if start:
        raise UserError(f"{file}, line {start}: the last DOC is not closed; the file may be cut short")


def _document(opened: str, inside: str, where: str) -> tuple[str, str, str]:
    number = NUMBER.search(inside) or OWN_ID.search(opened)
    if not number:
        raise UserError(f"{where}: a DOC without DOCNO; give it one")
    title, own = TITLE.search(inside), OWN_TITLE.search(opened)
    texts = [match[2] for match in TEXT.finditer(inside)]
    rest = ABOUT.sub(" ", inside)
    body = " ".join(texts) if texts else rest.replace(title[0], " ") if title else rest
    named = title[2] if title else own[1] if own else ""
    return number[1].strip(), _plain(named), _plain(body)


def _plain(markup: str) -> str:
    return flat(html.unescape(TAG.sub(" ", markup)))
