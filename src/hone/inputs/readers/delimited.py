"""Tables with a line for each row and something between the fields: CSV of spreadsheets, TSV of collections.

How the fields are written (`delimited_form`) and what the columns are called (`delimited_names`) is recognised in the
first lines of the file. A later line that does not fit is refused with its number.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.decoding import LARGEST_FIELD, LOOKED_AT, Encoding, encoding_of, lines
from hone.inputs.readers.delimited_form import DELIMITERS, Form, form_of
from hone.inputs.readers.delimited_names import as_told, assigned, is_header, lines_above
from hone.inputs.readers.files import File
from hone.inputs.readers.foreign import refuse_pages
from hone.inputs.readers.table import Dialect, Fields, Row, Table

SAMPLE_LINES = 2_000
SAMPLE_CHARS = 4 << 20
MARKED_LINES = 500
SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?", re.IGNORECASE)


def open_table(file: File, fields: Fields, dialect: Dialect) -> Table:
    """A table of text. Raises UserError."""
    encoding = encoding_of(file, dialect.encoding)
    numbered = ((number, _one_line(line)) for number, line in lines(file, encoding))
    sample, whole = _sample(numbered)
    texts = [line for _, line in sample]
    _refuse_others(file, next((line.strip() for line in texts if line.strip()), ""))
    skipped = 1 if texts and SEPARATOR_LINE.fullmatch(texts[0]) else 0
    named = SEPARATOR_LINE.fullmatch(texts[0]) if skipped else None
    given = dialect.delimiter or (named[1] if named else "")
    above = lines_above(texts[skipped:], fields, (given,) if given else DELIMITERS)
    skipped += above
    later = [] if whole else [_one_line(line) for line in _later_marks(file, encoding, len(sample))]
    form = form_of(texts[skipped:], later, file.suffix, fields, given, dialect.quotes)
    first = _first_records(form, texts[skipped:], whole)
    header = dialect.header == "present" or (dialect.header == "auto" and is_header(first, fields, form.delimiter))
    names = [flat(name) for name in first[0]] if header and first else assigned(first, fields)
    facts = {"fields": str(form), "names": as_told(names, header), "encoding": str(encoding)}
    if named:
        facts["separator"] = "the first line names what stands between"
    if above:
        facts["above"] = (
            f"{above} lines above the names passed over" if above > 1 else "the line above the names passed over"
        )
    if packing := file.packing():
        facts["packed"] = f"packed by {packing}"
    rest = (line for _, line in chain(sample[skipped:], numbered))
    rows = _rows(file, form, rest, names, fields, skipped, header)
    return Table(rows, tuple(name for name in names if name), facts, named=header)


def _refuse_others(file: File, first: str) -> None:
    """Raises UserError if the first line is that of something else than a table."""
    refuse_pages(file, first, "a table")
    if first.startswith("{"):
        try:
            value: object = json.loads(first)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            raise UserError(
                f"{file} contains JSON, not a table; give it the suffix .jsonl or set prepare.format: jsonl"
            )


def _one_line(line: str) -> str:
    """A carriage return inside a line is a space like any other."""
    return line.replace("\r", " ") if "\r" in line else line


def _sample(numbered: Iterator[tuple[int, str]]) -> tuple[list[tuple[int, str]], bool]:
    """The first lines, and whether they are all."""
    sample: list[tuple[int, str]] = []
    chars = 0
    for number, line in numbered:
        sample.append((number, line))
        chars += len(line)
        if len(sample) >= SAMPLE_LINES or chars >= SAMPLE_CHARS:
            return sample, False
    return sample, True


def _later_marks(file: File, encoding: Encoding, after: int) -> Iterator[str]:
    """Later lines with quotation marks, from which it shows what the marks are."""
    seen = 0
    marked = 0
    for number, line in lines(file, encoding):
        seen += len(line)
        if seen > LOOKED_AT or marked >= MARKED_LINES:
            return
        if number > after and '"' in line:
            marked += 1
            yield line


def _first_records(form: Form, texts: list[str], whole: bool) -> list[list[str]]:
    try:
        records = list(islice((record for record in form.records(texts) if any(record)), SAMPLE_LINES))
    except csv.Error:
        records = []
        try:
            for record in form.records(texts):
                records += [record] if any(record) else []
        except csv.Error:
            return records
    return records[:-1] if not whole and len(records) > 1 else records


def _rows(
    file: File, form: Form, texts: Iterable[str], names: list[str], fields: Fields, skipped: int, header: bool
) -> Iterator[Row]:
    reader = form.records(texts)
    named = [(place, name) for place, name in enumerate(names) if name]
    known = [name for _, name in named]
    twice = {name for name in known if known.count(name) > 1}
    if clash := twice & set(fields.columns):
        raise UserError(f"{file}, line 1: two columns are called {clash.pop()!r}; give each its own name")
    width, needed, plain = len(names), _needed(names, fields), len(named) == len(names) and not twice
    if not header and twice:
        raise AssertionError(names)
    waiting = header
    start = f"{file}, line "
    try:
        for record in reader:
            if len(record) != width or not record[0]:
                if not any(map(str.strip, record)):
                    continue
                if len(record) != width and not waiting:
                    record = _fitted(record, width, needed, f"{start}{reader.line_num + skipped}", form)
            if waiting:
                waiting = False
                continue
            where = f"{start}{reader.line_num + skipped}"
            yield where, dict(zip(names, record, strict=True)) if plain else {n: record[p] for p, n in named}
    except csv.Error as error:
        fault = _told(str(error))
        raise UserError(f"{file}, line {reader.line_num + skipped}: {fault}") from error


def _needed(names: list[str], fields: Fields) -> int:
    """How many fields a row must have at least: those up to the last of the id and the text."""
    places = [names.index(name) for name in (fields.id, fields.text) if name in names]
    return max(places, default=len(names) - 1) + 1


def _fitted(record: list[str], width: int, needed: int, where: str, form: Form) -> list[str]:
    """A record with as many fields as there are names: empty ones at the end may be missing, or too many."""
    if needed <= len(record) < width:
        return [*record, *[""] * (width - len(record))]
    if len(record) > width and not any(cell.strip() for cell in record[width:]):
        return record[:width]
    quotes = (
        "in quotation marks" if form.quoted else "read as text; if they hold fields, set prepare.dialect.quotes: cells"
    )
    hint = "a field that holds the delimiter stands in quotation marks"
    if not form.quoted:
        hint = f"quotation marks are {quotes}" if '"' in "".join(record) else "no field may hold the delimiter"
    raise UserError(f"{where}: {len(record)} fields where the first line has {width}; correct the line ({hint})")


def _told(error: str) -> str:
    if "field larger than" in error:
        return f"a field is longer than {LARGEST_FIELD >> 20} MiB; split it into documents"
    if "unexpected end of data" in error:
        return "a quotation mark is opened and never closed; close it, or set prepare.dialect.quotes: text"
    return f"{error}; write a quotation mark inside a quoted field twice, or set prepare.dialect.quotes: text"
