"""Judgements in their usual forms: BEIR's three columns, TREC's four, tables with names, and JSON.

A relevance is a whole number; 1.0 is one, 0.5 is refused.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

from hone.errors import UserError
from hone.inputs.readers.decoding import Encoding, encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.values import id_of

LARGEST_RELEVANCE = 2**31 - 1
QUERY = ("query-id", "query_id", "queryid", "qid", "query", "topic", "topic_id", "topic-id", "question_id", "q_id")
DOC = (
    "corpus-id", "corpus_id", "corpusid", "doc-id", "doc_id", "docid", "docno", "did", "pid", "passage_id",
    "passage-id", "document_id", "documentid", "doc", "_id", "id",
)  # fmt: skip
GRADE = ("score", "relevance", "rel", "label", "grade", "judgment", "judgement", "relevancy", "gain", "value")
SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon"}
ITERATION = ("0", "Q0", "q0")
SAMPLE = 200
SCIENTIFIC = re.compile(r"[+-]?\d{1,20}\.?\d{0,20}[eE][+-]?\d{1,2}", re.ASCII)
WHOLE = re.compile(r"[+-]?\d{1,10}(\.0*)?")


class Qrel(NamedTuple):
    """One judgement, and where it stands."""

    where: str
    query_id: str
    doc_id: str
    relevance: int


class Order(NamedTuple):
    """Which columns hold the query, the document and the relevance (-1 where all are relevant), of how many; and how
    they are described."""

    query: int
    doc: int
    grade: int
    width: int
    description: str


THREE = Order(0, 1, 2, 3, "query, document, relevance")
TREC = Order(0, 2, 3, 4, "query, iteration, document, relevance (TREC)")
ITERATION_LAST = Order(0, 1, 2, 4, "query, document, relevance, iteration")


def named(fields: Sequence[str]) -> tuple[str, str, str] | None:
    """The fields of query, document and relevance among the names of a table; None if it holds no judgements."""
    plain = {name.strip().lower(): name for name in fields}
    query, doc, grade = (next((plain[name] for name in names if name in plain), "") for names in (QUERY, DOC, GRADE))
    return (query, doc, grade) if query and doc and grade and query != doc else None


def judgement(where: str, query_id: object, doc_id: object, grade: object) -> Qrel:
    """One judgement of whatever values. Raises UserError."""
    return Qrel(where, id_of(query_id, where), id_of(doc_id, where), _relevance(grade, where))


def of_rows(rows: Iterator[tuple[str, dict[str, Any]]], names: tuple[str, str, str]) -> Iterator[Qrel]:
    """The judgements in the rows of a table. Raises UserError."""
    for where, row in rows:
        yield judgement(where, *(row.get(name) for name in names))


def of_lines(file: File) -> tuple[Iterator[Qrel], str]:
    """The judgements in a file of lines, with or without names in the first one, and how it is read.

    Raises UserError.
    """
    encoding = encoding_of(file)
    numbered = list(islice(((number, line) for number, line in lines(file, encoding) if line.strip()), SAMPLE))
    if not numbered:
        return iter(()), "nothing"
    above = next((at for at, (_, line) in enumerate(numbered) if not line.startswith(("# ", "##"))), 0)
    numbered = numbered[above:]
    places, head = zip(*numbered, strict=True)
    between = next((mark for mark in SEPARATORS if all(line.count(mark) >= 2 for line in head)), "")
    pairs = next((mark for mark in SEPARATORS if all(line.count(mark) == 1 for line in head)), "")
    if pairs and (only := _all_relevant(_split(head[0], pairs))):
        return _of_lines(file, encoding, pairs, only, places[0]), f"{only.description}, {SEPARATORS[pairs]} between"
    first = _split(head[0], between)
    names = named(first)
    header = names is not None or (len(head) > 1 and not any(char.isdecimal() for char in first[-1]))
    if names:
        order = Order(*_places(first, names), len(first), f"columns {', '.join(names)}")
    else:
        order = _order(file, [_split(line, between) for line in head[header:]], places[header:])
    after = places[0] if header else places[0] - 1
    return _of_lines(
        file, encoding, between, order, after
    ), f"{order.description}, {SEPARATORS.get(between, 'spaces')} between"


def _all_relevant(first: list[str]) -> Order | None:
    """The order of a table that names query and document and no relevance: a list of what is relevant."""
    plain = [name.strip().lower() for name in first]
    if len(plain) != 2 or {plain[0] in QUERY, plain[1] in QUERY} != {True, False}:
        return None
    query = 0 if plain[0] in QUERY else 1
    if plain[1 - query] not in DOC:
        return None
    return Order(query, 1 - query, -1, 2, f"columns {first[query]}, {first[1 - query]}; all are relevant")


def _places(first: list[str], names: tuple[str, str, str]) -> tuple[int, int, int]:
    query, doc, grade = names
    return first.index(query), first.index(doc), first.index(grade)


def _of_lines(file: File, encoding: Encoding, between: str, order: Order, after: int) -> Iterator[Qrel]:
    """The judgements in the lines after one."""
    start = f"{file}, line "
    for number, line in lines(file, encoding):
        if number <= after or not line.strip():
            continue
        parts = _split(line, between)
        where = f"{start}{number}"
        if len(parts) != order.width:
            raise UserError(f"{where}: {len(parts)} columns where the others have {order.width}; correct the line")
        grade = "1" if order.grade < 0 else parts[order.grade].strip()
        yield judgement(where, parts[order.query], parts[order.doc], grade)


def _split(line: str, between: str) -> list[str]:
    """The columns of a line; marks around one of a table with commas are not part of it."""
    if not between:
        return line.split()
    return next(csv.reader([line], delimiter=between)) if between != "\t" and '"' in line else line.split(between)


def _order(file: File, sample: list[list[str]], places: Sequence[int]) -> Order:
    widths = {len(parts) for parts in sample}
    if not sample or widths == {3}:
        return THREE
    if widths == {4}:
        second, last = ({parts[place].strip() for parts in sample} for place in (1, 3))
        trec = second <= set(ITERATION) or not last <= set(ITERATION)
        return TREC if trec else ITERATION_LAST
    usual = min(widths & {3, 4}, default=0)
    number, odd = next(row for row in zip(places, sample, strict=True) if len(row[1]) != usual)
    wanted = "write query-id, corpus-id and score, separated by tabs, or TREC's four columns"
    raise UserError(f"{file}, line {number}: {len(odd)} columns; {wanted}")


def _relevance(value: object, where: str) -> int:
    if isinstance(value, bool):
        return int(value)
    text = str(value).strip()
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_RELEVANCE
    if whole:
        return cast(int, value)
    if WHOLE.fullmatch(text) and text.isascii() and abs(int(text.partition(".")[0])) <= LARGEST_RELEVANCE:
        return int(text.partition(".")[0])
    if SCIENTIFIC.fullmatch(text) and float(text).is_integer() and abs(float(text)) <= LARGEST_RELEVANCE:
        return int(float(text))
    raise UserError(f"{where}: relevance {text[:40]!r} is not a whole number; write 0, 1, 2 ...")


def of_mapping(rows: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[Qrel]:
    """The judgements of JSON that maps each query to its documents and their relevance. Raises UserError."""
    for where, row in rows:
        own = row.pop("_id", None)  # where each query is one object
        for query_id, docs in [(str(own), row)] if own is not None else row.items():
            if isinstance(docs, list):  # those that are relevant
                yield from (judgement(where, query_id, doc_id, 1) for doc_id in cast(list[object], docs))
                continue
            if not isinstance(docs, Mapping):
                raise UserError(f"{where}: {query_id[:40]!r} has no documents with their relevance; write them there")
            for doc_id, grade in cast(Mapping[str, object], docs).items():
                yield judgement(where, query_id, doc_id, grade)
