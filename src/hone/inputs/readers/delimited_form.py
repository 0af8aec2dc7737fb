"""How the fields of a table are written: what stands between them, and whether quotation marks are part of the text.

It is recognised in a sample of lines: of all forms the one that gives known names and equal numbers of fields.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.decoding import LARGEST_FIELD
from hone.inputs.readers.delimited_names import NUMBER, USUAL, plain_cell, trimmed
from hone.inputs.readers.table import Fields

DELIMITERS = ("\t", ",", ";", "|", "\x01", "^", "~")
NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", "\x01": "control-A", "^": "caret", "~": "tilde"}
ALONE = "\x1f"
"""Stands in no text: then a line is one field."""
ESCAPED = re.compile(r"\\(.)")
RAW_BY_CUSTOM = ("\t", "|", "\x01")
"""Between these, many writers put no quotation marks around fields."""


@dataclass(frozen=True)
class Form:
    """How the fields of a table are written."""

    delimiter: str
    quoted: bool
    escape: str = ""
    """What stands before a quotation mark inside quotation marks, where it is not said twice."""
    mark: str = '"'
    """The quotation mark."""
    spaced: bool = False
    """Whether a space after the delimiter belongs to neither field."""
    dumped: bool = False
    r"""Whether a database wrote it: \N is a null, and in text without quotation marks \n is a line break, and a
    backslash stands before one, or before a delimiter, that is text."""

    def __str__(self) -> str:
        marks = "single quotes" if self.mark == "'" else "quotation marks"
        quotes = f"{marks} around fields" if self.quoted else "quotation marks are text"
        escaped = f", {self.escape} before a quotation mark" if self.escape else ""
        if self.delimiter == ALONE:
            return "one field a line, quotation marks are text"
        dumped = r", a dump of a database (\N is a null)" if self.dumped else ""
        return f"{NAMES.get(self.delimiter, repr(self.delimiter))} between fields, {quotes}{escaped}{dumped}"

    def records(self, lines: Iterable[str]) -> "csv.reader":  # type: ignore[valid-type]
        """The fields of every record. Raises csv.Error."""
        csv.field_size_limit(LARGEST_FIELD)
        return csv.reader(
            (f"{line}\n" for line in (map(self._undumped, lines) if self.dumped else lines)),
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            quotechar=self.mark,
            doublequote=not self.escape,
            escapechar=self.escape or ("\\" if self.dumped and not self.quoted else None),
            skipinitialspace=self.spaced,
            strict=True,
        )

    def _undumped(self, line: str) -> str:
        if "\\" not in line:
            return line
        apart = re.escape(self.delimiter)
        line = re.sub(rf"(?<![^{apart}])\\N(?![^{apart}])", "", line)
        return line if self.quoted else ESCAPED.sub(self._meant, line)

    def _meant(self, escape: re.Match[str]) -> str:
        """What a backslash and the character after it stand for, as csv reads it."""
        if escape[1] in ("\\", self.delimiter):
            return escape[0]
        return " " if escape[1] in "ntrbfv0" else f"\\{escape[0]}"


def form_of(sample: list[str], later: list[str], suffix: str, fields: Fields, given: str, quotes: str) -> Form:
    """The form that fits the sample best: names that are known, then equal numbers of fields, then what is usual."""
    filled = [line for line in sample if line.strip()]
    whole = not later
    usual = {".tsv": "\t", ".tab": "\t", ".psv": "|"}.get(suffix, ",")
    delimiters = [given] if given else sorted(DELIMITERS, key=lambda one: one != usual)
    best, most = Form(given or usual, quotes != "text"), (-1, -1.0, -1, -1.0)
    for delimiter in delimiters:
        if len(delimiter) != 1:
            raise UserError(f"{delimiter!r} is not one character; set prepare.dialect.delimiter to one")
        for form in _candidates(delimiter, [*filled, *later], quotes):
            counts, hits, exact = _fit(form, sample, whole, fields)
            if not counts or (counts[0] < 2 and not given):
                continue
            fits = sum(count == counts[0] for count in counts) / len(counts)
            if fits < 1 and not form.quoted and delimiter not in RAW_BY_CUSTOM and quotes == "auto":
                continue  # a mark that is not closed is reported as such
            score = (hits, round(fits, 3), min(counts[0], 2), exact)
            if score > most:
                best, most = form, score
    if most[1] < 0 and not given and quotes == "auto" and filled and _is_alone(filled[0], fields):
        counts, *_ = _fit(best, sample, whole, fields)
        best = best if counts and set(counts) == {1} else Form(ALONE, False)
    spaced = _spaced(best, filled)
    nulls = any(cell.strip() == r"\N" for line in filled if r"\N" in line for cell in line.split(best.delimiter))
    return replace(best, spaced=spaced, dumped=best.dumped or nulls)


def _is_alone(first: str, fields: Fields) -> bool:
    """Whether the first line is the name of a field and nothing else."""
    return flat(first).strip('"') in fields.columns or plain_cell(first.strip('"')) in USUAL


def _candidates(delimiter: str, filled: list[str], quotes: str) -> list[Form]:
    """How fields with this delimiter may be quoted, the likeliest first."""
    cells, escaped, text = Form(delimiter, True), Form(delimiter, True, "\\"), Form(delimiter, False)
    quoted = [cells]
    if _escapes(cells, filled):
        quoted = [escaped, cells] if _breaks_escaped(cells, filled) or not _read(cells, filled) else [cells, escaped]
    elif any('\\"' in line for line in filled):
        quoted = [cells, escaped]
    if any(line.startswith("'") or f"{delimiter}'" in line for line in filled):
        single = Form(delimiter, True, mark="'")
        quoted = [single, *quoted] if _quotes_fields(single, filled) else [*quoted, single]
    if quotes == "cells":
        return quoted
    texts = [text]
    if any(line.endswith("\\") or f"\\{delimiter}" in line for line in filled):
        texts.append(Form(delimiter, False, dumped=True))
    if quotes == "text":
        return texts
    raw = delimiter in RAW_BY_CUSTOM and not any(_quotes_fields(form, filled) for form in quoted)
    return [*texts, *quoted] if raw else [*quoted, *texts]


def _escapes(form: Form, filled: list[str]) -> bool:
    """Whether every mark inside quotation marks has a backslash before it, and some have: it may also be the last
    letter of a field."""
    if not any('\\"' in line or line.endswith("\\") for line in filled):
        return False
    records = _read(form, [ESCAPED.sub("", line) for line in filled])
    return bool(records) and not any(form.mark in cell for record in records for cell in record)


def _breaks_escaped(form: Form, filled: list[str]) -> bool:
    """Whether a backslash stands before every line break inside quotation marks, as MySQL writes them."""
    breaks = [before for record in _read(form, filled) for cell in record for before in cell.split("\n")[:-1]]
    return bool(breaks) and all(before.endswith("\\") for before in breaks)


def _read(form: Form, filled: list[str]) -> list[list[str]]:
    """The records of lines of which the last may be cut; none if they cannot be read so."""
    records: list[list[str]] = []
    try:
        records += form.records(filled)
    except csv.Error as error:
        return records if "unexpected end of data" in str(error) else []
    return records


def _quotes_fields(form: Form, filled: list[str]) -> bool:
    """Whether quotation marks are those that a writer of quoted fields leaves: around every field that needs them, each
    said twice inside, and beside these around empty ones or around all. A mark that somebody wrote in a text says
    otherwise, and what fits both is text."""
    records = _read(form, filled)
    if len({len(record) for record in records}) != 1:
        return False
    special = (form.mark, form.delimiter, "\n")
    cells = [cell for record in records for cell in record]
    needed = [cell for cell in cells if any(char in cell for char in special)]
    marks = sum(line.count(form.mark) for line in filled)
    spare, odd = divmod(marks - sum(2 + 2 * cell.count(form.mark) for cell in needed), 2)
    if odd or spare < 0:
        return False
    plain = [cell for cell in cells if not any(char in cell for char in special)]
    empty = sum(not cell for cell in plain)
    words = sum(bool(cell) and not NUMBER.fullmatch(cell) for cell in plain)
    if spare == 0:
        return any(form.mark in cell and "\n" not in cell and form.delimiter not in cell for cell in needed)
    return spare in (words, words + empty, len(plain)) or (
        spare <= empty and any(f"{form.mark}{form.mark}" in line.split(form.delimiter) for line in filled)
    )


def _fit(form: Form, sample: list[str], whole: bool, fields: Fields) -> tuple[list[int], int, float]:
    """How many fields the records of a sample have, the first record's number first, empty ones at the end left out;
    how many of the first record's are names that are known; and the share of records with as many fields as the first,
    empty ones and all. No numbers if it cannot be read so."""
    records: list[list[str]] = []
    try:
        records += (record for record in form.records(sample) if any(record))
    except csv.Error:
        if whole or len(records) < 2:
            return [], 0, 0.0
    if not whole and len(records) > 1:
        records.pop()  # its last lines may be missing
    if not records:
        return [], 0, 0.0
    width = len(trimmed(records[0]))
    counts = [width, *(max(len(trimmed(record)), min(width, len(record))) for record in records[1:])]
    named = {name.partition(".")[0] for name in fields.columns}
    hits = sum(flat(cell) in named or plain_cell(cell) in USUAL for cell in records[0])
    exact = sum(len(record) == len(records[0]) for record in records) / len(records)
    return counts, hits, exact


def _spaced(form: Form, filled: list[str]) -> bool:
    """Whether a space follows every delimiter of the first line, as people write tables by hand."""
    if form.delimiter == "\t" or not filled:
        return False
    after = filled[0].split(form.delimiter)[1:]
    return bool(after) and all(cell.startswith(" ") for cell in after)
