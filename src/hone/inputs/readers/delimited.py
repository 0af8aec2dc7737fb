"""Tables with a line for each row and something between the fields: CSV of spreadsheets, TSV of collections.

What stands between the fields, whether quotation marks are part of the text, and whether the first line holds names is
recognised in the first lines of the file. A later line that does not fit is refused with its number.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from statistics import mean

from hone.core.segmentation import count_words
from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.decoding import LARGEST_FIELD, LOOKED_AT, Encoding, encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.foreign import refuse_pages
from hone.inputs.readers.table import Dialect, Fields, Row, Table, first_names

SAMPLE_LINES = 2_000
SAMPLE_CHARS = 4 << 20
MARKED_LINES = 500
DELIMITERS = ("\t", ",", ";", "|", "\x01", "^", "~")
NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar", "\x01": "control-A", "^": "caret", "~": "tilde"}
ALONE = "\x1f"
"""Stands in no text: then a line is one field."""
ESCAPED = re.compile(r"\\(.)")
MOST_ABOVE = 20
RAW_BY_CUSTOM = ("\t", "|", "\x01")
"""Between these, many writers put no quotation marks around fields."""
USUAL = {
    "id", "doc_id", "docid", "document_id", "docno", "pid", "uuid", "url", "title", "headline", "heading", "name",
    "subject", "text", "body", "content", "contents", "passage", "document", "abstract", "description", "query",
    "query_id", "qid", "corpus_id", "score", "relevance", "question", "date", "time", "timestamp", "author", "language",
}  # fmt: skip
LONGEST_NAME = 64
WORDS_OF_TEXT = 5
SEPARATOR_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


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
    above = _lines_above(texts[skipped:], fields, given)
    skipped += above
    later = [] if whole else [_one_line(line) for line in _later_marks(file, encoding, len(sample))]
    form = _form(texts[skipped:], later, file.suffix, fields, given, dialect.quotes)
    first = _first_records(form, texts[skipped:], whole)
    header = dialect.header == "present" or (dialect.header == "auto" and _is_header(first, fields, form.delimiter))
    names = [flat(name) for name in first[0]] if header and first else _assigned(first, fields)
    facts = {"fields": str(form), "names": _told_names(names, header), "encoding": str(encoding)}
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


def _told_names(names: Sequence[str], header: bool) -> str:
    known = first_names([name for name in names if name])
    unnamed = sum(not name for name in names)
    columns = "a column" if unnamed == 1 else f"{unnamed} columns"
    more = f" (and {columns} without a name, not read)" if unnamed else ""
    return f"the first line names {known}{more}" if header else f"no line of names, columns taken as {known}"


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


def _lines_above(texts: Sequence[str], fields: Fields, given: str) -> int:
    """How many lines stand above that of the names: what a report is called and when it was made, or remarks."""
    for at, line in enumerate(texts[:MOST_ABOVE]):
        for delimiter in (given,) if given else DELIMITERS:
            cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
            hits = sum(bool(cell) and (cell in fields.columns or _plain(cell) in USUAL) for cell in cells)
            above = [one for one in texts[:at] if one.strip(f'{delimiter}" ')]
            remarks = bool(above) and all(one.startswith("#") for one in above)
            if hits < (1 if at == 0 or remarks else 2):
                continue
            return at if all(len(_trimmed(one.split(delimiter))) < len(cells) for one in above) else 0
    return 0


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


def _form(sample: list[str], later: list[str], suffix: str, fields: Fields, given: str, quotes: str) -> Form:
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
    return flat(first).strip('"') in fields.columns or _plain(first.strip('"')) in USUAL


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
    width = len(_trimmed(records[0]))
    counts = [width, *(max(len(_trimmed(record)), min(width, len(record))) for record in records[1:])]
    named = {name.partition(".")[0] for name in fields.columns}
    hits = sum(flat(cell) in named or _plain(cell) in USUAL for cell in records[0])
    exact = sum(len(record) == len(records[0]) for record in records) / len(records)
    return counts, hits, exact


def _trimmed(record: Sequence[str]) -> Sequence[str]:
    end = len(record)
    while end and not record[end - 1].strip():
        end -= 1
    return record[:end]


def _plain(name: str) -> str:
    return flat(name).lower().strip("_ ").replace("-", "_").replace(" ", "_")


def _spaced(form: Form, filled: list[str]) -> bool:
    """Whether a space follows every delimiter of the first line, as people write tables by hand."""
    if form.delimiter == "\t" or not filled:
        return False
    after = filled[0].split(form.delimiter)[1:]
    return bool(after) and all(cell.startswith(" ") for cell in after)


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


def _is_header(records: list[list[str]], fields: Fields, delimiter: str) -> bool:
    """Whether the first record holds names: known ones, or short words where the others hold text."""
    if not records:
        return True
    first, rest = records[0], records[1:]
    cells = [cell for cell in first if cell.strip()]
    if any(flat(cell) in fields.columns for cell in cells):
        return True
    if any(len(cell) > LONGEST_NAME for cell in cells) or len({flat(cell) for cell in cells}) < len(cells):
        return False
    numbers = [NUMBER.fullmatch(cell.strip()) is not None for cell in cells]
    if all(numbers):
        return [cell.strip() for cell in cells] == [str(place) for place in range(len(cells))]
    if any(_plain(cell) in USUAL for cell in cells):
        return not any(numbers)
    if len(cells) < 2 or any(numbers) or any(count_words(cell) >= WORDS_OF_TEXT - 1 for cell in cells):
        return False
    if _numbered(first[0]) and any(record and _numbered(record[0]) for record in rest):
        return False
    if not rest:
        return False
    for place, cell in enumerate(first):
        column = [record[place] for record in rest if place < len(record)]
        if column and cell.strip() and _like(cell, column):
            return False
    return True


def _like(cell: str, column: list[str]) -> bool:
    """Whether the first cell of a column looks like those below it: an id of their shape, or as long a text."""
    words = [count_words(value) for value in column[:200]]
    if mean(words) >= WORDS_OF_TEXT:
        return count_words(cell) >= WORDS_OF_TEXT
    shapes = {_shape(value) for value in column[:100]}
    return len(shapes) == 1 and _shape(cell) in shapes and any(char.isdigit() for char in cell)


def _numbered(text: str) -> bool:
    return any(char.isdigit() for char in text)


def _shape(text: str) -> str:
    return re.sub(r"[^\W\d]+", "a", re.sub(r"\d+", "0", text.strip()))


def _assigned(records: list[list[str]], fields: Fields) -> list[str]:
    """Names for columns that have none: the id has no spaces and no value twice, the text is the longest column, the
    title another one in words."""
    if not records:
        return fields.columns
    width = Counter(len(record) for record in records[:100]).most_common(1)[0][0]
    columns = [[record[place] for record in records if place < len(record)] for place in range(width)]
    names = [f"column {place + 1}" for place in range(width)]
    lengths = [mean(map(len, column)) if column else 0.0 for column in columns]
    text = max(
        range(width), key=lambda place: (_are_words(columns[place]), not _are_marked_up(columns[place]), lengths[place])
    )
    names[text] = fields.text
    others = [place for place in range(width) if place != text]
    ids = [place for place in others if _are_ids(columns[place])]
    if ids or others:
        own = (ids or others)[0]
        names[own] = fields.id
        left = [place for place in others if place != own and _are_title(columns[place])]
        if left and fields.title:
            names[max(left, key=lambda place: lengths[place])] = fields.title
    return names


def _are_ids(column: list[str]) -> bool:
    filled = [value for value in column if value.strip()]
    return len(set(filled)) == len(column) and not any(" " in value.strip() for value in filled)


def _are_title(column: list[str]) -> bool:
    return _are_words(column) and not _are_marked_up(column)


def _are_marked_up(column: list[str]) -> bool:
    """Whether a column holds pages with their tags, such as those that the texts beside it were made of."""
    some = [value.strip() for value in column[:200] if value.strip()]
    return bool(some) and all(value.startswith("<") and value.endswith(">") for value in some)


def _are_words(column: list[str]) -> bool:
    some = [value for value in column[:200] if value.strip()]
    return bool(some) and sum(count_words(value) > 1 and "://" not in value for value in some) * 2 >= len(some)


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
