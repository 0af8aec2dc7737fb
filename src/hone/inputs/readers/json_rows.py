"""JSON as people keep documents in it: an object a line, an array, one object a file, and what databases dump.

Known dumps are read as the documents in them: lines with `_source` (Elasticsearch), lines in pairs for its bulk
interface, its answers to a search and Solr's, and tables that pandas wrote by column. Numbers that are none (NaN) are
nulls.
"""

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, cast

from hone.errors import UserError
from hone.inputs.readers.decoding import Encoding, encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.foreign import refuse_pages
from hone.inputs.readers.table import Dialect, Fields, Row, Table

PIECE = 1 << 20
BLANKS = 4096
BLANK = " \t\r\n\x1e"
"""What may stand around a value on its line: sequences of JSON (RFC 7464) have a separator before each."""
LONGEST_TOKEN = 400
"""Characters of a number or word that may be cut in two."""
LARGEST_WHOLE = 512 << 20
"""Bytes of a file that is one object."""
ACTIONS = ("index", "create", "update", "delete")
ANSWERS = (("hits", "hits"), ("response", "docs"), ("result", "points"))
"""Where search engines put documents in their answers."""
HOLDERS = ("docs", "documents", "data", "rows", "records", "items", "results", "corpus", "passages", "articles")
COLUMNS = {"text", "body", "content", "contents", "passage"}
OWN_IDS = {"_id", "id", "doc_id", "docid", "document_id", "docno", "pid", "uuid"}
Json = dict[str, Any]

_decoder = json.JSONDecoder(parse_constant=lambda name: None)


def open_json(file: File, fields: Fields, dialect: Dialect) -> Table:
    """JSON of whatever shape. Raises UserError."""
    encoding = encoding_of(file, dialect.encoding)
    facts = {"encoding": str(encoding)}
    if packing := file.packing():
        facts["packed"] = f"packed by {packing}"
    first = next((line for _, line in lines(file, encoding) if line.strip(BLANK)), "").strip(BLANK)
    if first.startswith("{") and _is_object(first) and not _is_alone(file, encoding):
        facts["shape"] = "one object a line"
        rows = _line_rows(file, encoding)
    elif first.startswith("["):
        facts["shape"] = "an array of objects"
        rows = _value_rows(file, encoding, first)
    else:
        if first and not first.startswith("{"):
            refuse_pages(file, first, "JSON")
            raise UserError(
                f"{file} is not JSON, it begins with {first[:40]!r}; set prepare.format to how it is written"
            )
        rows = _spread_rows(file, encoding, facts)
    head = list(islice(rows, 1))
    return _as_documents(file, head, chain(head, rows), facts)


def _as_documents(file: File, head: list[Row], rows: Iterator[Row], facts: dict[str, str]) -> Table:
    """The documents in the rows of a dump."""
    row = head[0][1] if head else {}
    if (answer := _answer(row)) is not None:  # of a line each
        facts["shape"] = f"answers whose {answer[0]} hold the rows"
        rows = _of_answers(rows)
        head = list(islice(rows, 1))
        return _as_documents(file, head, chain(head, rows), facts)
    if isinstance(row.get("_source"), dict):
        facts["dump"] = "Elasticsearch: the document is in _source"
        return Table(_sources(rows), facts=facts)
    if len(row) == 1 and next(iter(row)) in ACTIONS and isinstance(next(iter(row.values())), dict):
        facts["dump"] = "Elasticsearch bulk: a line says what to do, the next holds the document"
        return Table(_bulk(file, rows), facts=facts)
    if isinstance(row.get("_id"), dict) and "$oid" in row["_id"]:
        facts["dump"] = "MongoDB: the id is in $oid"
    return Table(rows, facts=facts)


def _of_answers(rows: Iterator[Row]) -> Iterator[Row]:
    for where, row in rows:
        path, items = _answer(row) or ("", [])
        yield from ((f"{where}, item {at} of {path}", cast(Json, item)) for at, item in enumerate(items, 1))


def _sources(rows: Iterator[Row]) -> Iterator[Row]:
    for where, row in rows:
        source = row.get("_source")
        inner = cast(Json, source) if isinstance(source, dict) else {}
        yield where, {**inner, **({"_id": row["_id"]} if "_id" in row else {})}


def _bulk(file: File, rows: Iterator[Row]) -> Iterator[Row]:
    for where, row in rows:
        name, action = next(iter(row.items()), ("", None))
        if len(row) != 1 or name not in ACTIONS or not isinstance(action, dict):
            known = ", ".join(ACTIONS)
            raise UserError(f"{where}: not one of {known}, with which every document of a bulk file begins; correct it")
        if name == "delete":
            continue
        below = next(rows, None)
        if below is None:
            raise UserError(f"{where}: the last line of a bulk file lacks its document; download the file again")
        document = below[1].get("doc", below[1]) if name == "update" else below[1]
        own = cast(Json, action).get("_id")
        yield below[0], {**cast(Json, document), **({} if own is None else {"_id": own})}


def _is_object(line: str) -> bool:
    try:
        return isinstance(_decoder.decode(line), dict)
    except (ValueError, RecursionError):
        return False


def _is_alone(file: File, encoding: Encoding) -> bool:
    """Whether a file holds one line with something in it."""
    return sum(1 for _ in islice((1 for _, line in lines(file, encoding) if line.strip()), 2)) == 1


def _line_rows(file: File, encoding: Encoding) -> Iterator[Row]:
    start = f"{file}, line "
    decode = _decoder.decode
    for number, line in lines(file, encoding):
        try:
            row = decode(line.lstrip(BLANK))
        except (ValueError, RecursionError) as error:
            if not line.strip(BLANK):
                continue
            fault = f"{start}{number}: not valid JSON ({error})"
            raise UserError(f"{fault}; write one JSON object a line") from error
        if not isinstance(row, dict):
            raise UserError(f"{start}{number}: not a JSON object but {line[:40]!r}; write one object a line")
        yield f"{start}{number}", row


def _spread_rows(file: File, encoding: Encoding, facts: dict[str, str]) -> Iterator[Row]:
    """One object, perhaps with the rows inside it, or objects one after another over several lines."""
    values = _values(file, encoding, array=False)
    head = list(islice(values, 2))
    if len(head) == 1 and isinstance(head[0][1], dict):
        return _of_one_object(file, cast(Json, head[0][1]), facts)
    facts["shape"] = "objects one after another"
    return (_checked(where, value) for where, value in chain(head, values))


def _value_rows(file: File, encoding: Encoding, first: str) -> Iterator[Row]:
    return (_checked(where, value) for where, value in _values(file, encoding, array=True))


def _checked(where: str, value: object) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object but {json.dumps(value)[:40]!r}; write an object for each row")
    return where, cast(Json, value)


def _of_one_object(file: File, whole: Json, facts: dict[str, str]) -> Iterator[Row]:
    """The rows in a file that is one object: in a list inside it, by column, by id, or the object itself."""
    if columns := _columns(whole):
        facts["shape"] = "a list of values for every field"
        return (
            (f"{file}, row {at}", dict(zip(columns, values, strict=True)))
            for at, values in enumerate(zip(*columns.values(), strict=True), 1)
        )
    if isinstance(corpus := whole.get("corpus"), dict) and isinstance(whole.get("queries"), dict) and corpus:
        facts["shape"] = "an object whose corpus holds a document for every id; its queries and judgements are not read"
        whole = cast(Json, corpus)
        return iter(
            (f"{file}, {key!r}", {"_id": key, **(cast(Json, value) if isinstance(value, dict) else {"text": value})})
            for key, value in whole.items()
        )
    if (inside := _list_inside(whole)) is not None:
        facts["shape"] = f"an object whose {inside[0]} holds the rows"
        return iter((f"{file}, item {at} of {inside[0]}", cast(Json, row)) for at, row in enumerate(inside[1], 1))
    if set(whole) >= {"columns", "data"} and isinstance(whole["data"], list):
        facts["shape"] = "a table as pandas writes it, split into columns and data"
        names = cast(list[str], whole["columns"])
        return (
            (f"{file}, row {at}", dict(zip(names, cast(list[Any], row), strict=False)))
            for at, row in enumerate(cast(list[object], whole["data"]), 1)
        )
    if len(whole) > 1 and all(isinstance(value, dict) for value in whole.values()):
        inner = [cast(Json, value) for value in whole.values()]
        columns = all(key.isdecimal() for key in inner[0]) or bool(set(map(str.lower, whole)) & COLUMNS)
        if inner[0] and columns and all(list(one) == list(inner[0]) for one in inner):
            facts["shape"] = "a table as pandas writes it, column by column"
            given = bool(set(map(str.lower, whole)) & OWN_IDS)
            cells = zip(*(one.values() for one in inner), strict=True)
            rows = (dict(zip(whole, row, strict=True)) for row in cells)
            return (
                (f"{file}, row {at}", row if given else {"_id": key, **row})
                for at, (key, row) in enumerate(zip(inner[0], rows, strict=True), 1)
            )
        numbered = list(whole) == [str(at) for at in range(len(whole))]
        if numbered and set(map(str.lower, inner[0])) & OWN_IDS:
            facts["shape"] = "a table as pandas writes it, row by row"
            return ((f"{file}, row {at}", value) for at, value in enumerate(inner, 1))
        facts["shape"] = "an object for every id"
        return ((f"{file}, {key!r}", {"_id": key, **cast(Json, value)}) for key, value in whole.items())
    if len(whole) == 1 and isinstance(only := next(iter(whole.values())), dict) and set(map(str.lower, only)) & COLUMNS:
        facts["shape"] = "an object for every id"
        return iter([(f"{file}, {next(iter(whole))!r}", {"_id": next(iter(whole)), **cast(Json, only)})])
    if len(whole) > 2 and all(isinstance(value, str) for value in whole.values()) and not set(whole) & set(HOLDERS):
        known = {"_id", "id", "title", "text", "body", "content", "name", "url"}
        if not known & set(whole):
            facts["shape"] = "a text for every id"
            return ((f"{file}, {key!r}", {"_id": key, "text": value}) for key, value in whole.items())
    facts["shape"] = "one object a file"
    return iter([(f"{file}, line 1", whole)])


def _columns(whole: Json) -> Json:
    """The fields of a table that is written as a list of values for each, by their names; none if it is no such."""
    lists = {key: cast(list[object], value) for key, value in whole.items() if isinstance(value, list)}
    named = {"ids": "_id", "documents": "text", "metadatas": "metadata"} if {"ids", "documents"} <= set(lists) else {}
    columns = {named.get(key, key): value for key, value in lists.items() if not named or key in named}
    texts = [value for key, value in columns.items() if key.lower() in COLUMNS]
    whole_rows = len({len(value) for value in columns.values()}) == 1 and (named or len(columns) == len(whole) > 1)
    return columns if whole_rows and texts and all(isinstance(one, str) or one is None for one in texts[0]) else {}


def _answer(whole: Json) -> tuple[str, list[Any]] | None:
    """Where the documents lie in the answer of a search engine, and the documents."""
    for path in ANSWERS:
        inner: Any = whole
        for part in path:
            inner = cast(Json, inner).get(part) if isinstance(inner, dict) else None
        if isinstance(inner, list):
            return ".".join(path), _objects(cast(list[object], inner))
    return None


def _list_inside(whole: Json) -> tuple[str, list[Any]] | None:
    """Where a list of objects lies: as in an answer, or under the one name that holds one."""
    if (answer := _answer(whole)) is not None:
        return answer
    lists = {key: cast(list[object], value) for key, value in whole.items() if isinstance(value, list) and value}
    held = {key: value for key, value in lists.items() if all(isinstance(item, dict) for item in value)}
    names = [name for name in HOLDERS if name in held]
    if names or (len(held) == 1 and len(whole) <= 3 and not {"_id", "id", "text"} & set(whole)):
        name = names[0] if names else next(iter(held))
        return name, _objects(held[name])
    return None


def _objects(items: list[object]) -> list[Any]:
    return [item for item in items if isinstance(item, dict)]


class _Reader:
    """Text of a file as far as it is needed: `text` from `at` on is not read yet."""

    def __init__(self, file: File, encoding: Encoding) -> None:
        self.file, self.pieces = file, _pieces(file, encoding)
        self.text, self.at, self.ended = next(self.pieces, ""), 0, False

    def more(self) -> bool:
        """Holds at least twice as much; says whether there was more."""
        wanted = max(PIECE, 2 * (len(self.text) - self.at))
        parts, size = [self.text[self.at :]], len(self.text) - self.at
        before = size
        while size < wanted and (piece := next(self.pieces, "")):
            parts.append(piece)
            size += len(piece)
        self.text, self.at = "".join(parts), 0
        self.ended = size < wanted
        return size > before

    def next_char(self) -> str:
        """The next character that is not a space, empty at the end."""
        while True:
            held = self.text[self.at : self.at + BLANKS]
            self.at += len(held) - len(held.lstrip(" \t\r\n"))
            if self.at < len(self.text) and self.text[self.at] not in " \t\r\n":
                return self.text[self.at]
            if self.at >= len(self.text) and not self.more():
                return ""

    def _is_cut(self, error: Exception) -> bool:
        """Whether a fault may be that the text ends too early here."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - LONGEST_TOKEN

    def value(self, number: int) -> object:
        """The value that begins here. Raises UserError."""
        while True:
            try:
                value, end = _decoder.raw_decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                if not self._is_cut(error) or len(self.text) - self.at > LARGEST_WHOLE or not self.more():
                    fault = f"{self.file}, item {number}: not valid JSON ({error})"
                    raise UserError(f"{fault}; correct it there") from error
                continue
            if end < len(self.text) or not self.more():
                self.at = end if end < len(self.text) else len(self.text)
                return value


def _values(file: File, encoding: Encoding, *, array: bool) -> Iterator[tuple[str, object]]:
    """The items of an array, or values one after another, held one at a time. Raises UserError."""
    reader, number = _Reader(file, encoding), 0
    if array:
        reader.next_char()
        reader.at += 1
    while char := reader.next_char():
        if array and char == "]":
            return
        if char == ",":
            reader.at += 1
            continue
        number += 1
        yield f"{file}, item {number}", reader.value(number)
    if array:
        raise UserError(f"{file}, after item {number}: the array is not closed; the file may be cut short")


def _pieces(file: File, encoding: Encoding) -> Iterator[str]:
    """A file's text in pieces of about a mebibyte, lines kept whole."""
    held: list[str] = []
    size = 0
    for _, line in lines(file, encoding):
        held.append(line)
        size += len(line)
        if size >= PIECE:
            yield "\n".join([*held, ""])
            held, size = [], 0
    if held:
        yield "\n".join(held)
