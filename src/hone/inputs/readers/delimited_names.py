"""What the columns of a table are called: by its own line of names, if it has one, or else by what they hold."""

import re
from collections import Counter
from collections.abc import Sequence
from statistics import mean

from hone.core.segmentation import count_words
from hone.core.text import flat
from hone.inputs.readers.table import Fields, first_names

USUAL = {
    "id", "doc_id", "docid", "document_id", "docno", "pid", "uuid", "url", "title", "headline", "heading", "name",
    "subject", "text", "body", "content", "contents", "passage", "document", "abstract", "description", "query",
    "query_id", "qid", "corpus_id", "score", "relevance", "question", "date", "time", "timestamp", "author", "language",
}  # fmt: skip
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
LONGEST_NAME = 64
WORDS_OF_TEXT = 5
MOST_ABOVE = 20


def as_told(names: Sequence[str], header: bool) -> str:
    """What the columns are called and where that comes from, for people."""
    known = first_names([name for name in names if name])
    unnamed = sum(not name for name in names)
    columns = "a column" if unnamed == 1 else f"{unnamed} columns"
    more = f" (and {columns} without a name, not read)" if unnamed else ""
    return f"the first line names {known}{more}" if header else f"no line of names, columns taken as {known}"


def lines_above(texts: Sequence[str], fields: Fields, delimiters: Sequence[str]) -> int:
    """How many lines stand above that of the names: what a report is called and when it was made, or remarks."""
    for at, line in enumerate(texts[:MOST_ABOVE]):
        for delimiter in delimiters:
            cells = [cell.strip().strip('"') for cell in line.split(delimiter)]
            hits = sum(bool(cell) and (cell in fields.columns or plain_cell(cell) in USUAL) for cell in cells)
            above = [one for one in texts[:at] if one.strip(f'{delimiter}" ')]
            remarks = bool(above) and all(one.startswith("#") for one in above)
            if hits < (1 if at == 0 or remarks else 2):
                continue
            return at if all(len(trimmed(one.split(delimiter))) < len(cells) for one in above) else 0
    return 0


def is_header(records: list[list[str]], fields: Fields, delimiter: str) -> bool:
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
    if any(plain_cell(cell) in USUAL for cell in cells):
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


def assigned(records: list[list[str]], fields: Fields) -> list[str]:
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


def trimmed(record: Sequence[str]) -> Sequence[str]:
    """A record without the empty fields at its end."""
    end = len(record)
    while end and not record[end - 1].strip():
        end -= 1
    return record[:end]


def plain_cell(name: str) -> str:
    """A cell as it is compared with the usual names."""
    return flat(name).lower().strip("_ ").replace("-", "_").replace(" ", "_")
