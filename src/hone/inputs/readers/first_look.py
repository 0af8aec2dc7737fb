"""A first look at a corpus: what it seems to hold, for `hone init`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hone.core import scripts
from hone.core.segmentation import count_words
from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.corpus import Corpus, field_names, guess, read_qrels, read_queries
from hone.inputs.readers.files import File
from hone.inputs.readers.formats import FORMATS, Format, Tables
from hone.inputs.readers.layouts import Layout, layout
from hone.inputs.readers.table import Dialect, Fields, Row
from hone.inputs.readers.values import pick, text_of

ENOUGH_FOR_LANGUAGE = 200
ROWS_TO_GUESS = 200


@dataclass(frozen=True)
class Look:
    """What a corpus seems to hold, from its first documents.

    `docs` is the number of documents seen, all of them if `whole`. The three fields are guesses by name, empty if
    nothing fits; `fields` are all there are. `understood` says what was taken for what, and how the files are read.
    """

    format: Format
    docs: int
    whole: bool
    mean_words: float
    language: str
    fields: tuple[str, ...]
    id_field: str
    title_field: str
    text_field: str
    tables: bool
    splits: tuple[str, ...]
    understood: tuple[str, ...]

    def __str__(self) -> str:
        count = f"{self.docs:,}" if self.whole else f"{self.docs:,} or more"
        judged = f"judgements: {', '.join(self.splits)}" if self.splits else "no judgements"
        size = f"{count} document{'' if count == '1' else 's'}" + (
            f", {self.mean_words:.0f} words on average" if self.text_field else ""
        )
        return f"{self.format} format, {size}, language: {self.language}, {judged}"


def look(path: Path, most: int = 5_000) -> Look:
    """What the first `most` documents of a corpus are like. Raises UserError if there is no corpus."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder or file of a corpus")
    read_as = layout(path)
    names = field_names(read_as)
    head = list(islice(_rows(read_as), ROWS_TO_GUESS))
    fields = guess(names, head)
    if head:
        fields = Fields(*(_inside(name, head[0][1]) if "." not in name else name for name in fields))
    seen = Corpus(read_as, fields) if fields.text else None
    rows: list[Row] = list(islice(seen.documents() if seen else iter(head), most + 1))
    texts = [_said(pick(row, fields.text)) for _, row in rows[:most]]
    return Look(
        format=read_as.format,
        docs=min(len(rows), most),
        whole=len(rows) <= most and (seen is not None or len(head) < ROWS_TO_GUESS),
        mean_words=sum(map(count_words, texts)) / max(1, len(texts)),
        language=scripts.guess(texts[:ENOUGH_FOR_LANGUAGE]),
        fields=tuple(flat(name) for name in names),
        id_field=fields.id,
        title_field=fields.title,
        text_field=fields.text,
        tables=isinstance(FORMATS[read_as.format], Tables),
        splits=tuple(read_as.qrels),
        understood=(
            *(f"{name}: {value}" for name, value in read_as.facts().items()),
            *(seen.said() if seen else ()),
            *judged(read_as),
        ),
    )


def _rows(layout: Layout) -> Iterator[Row]:
    row = FORMATS[layout.format]
    if isinstance(row, Tables):
        yield from row.open(layout.corpus[0], Fields("", "", ""), Dialect()).rows
    else:
        yield from Corpus(layout).documents()


def judged(layout: Layout) -> list[str]:
    """How queries and the judgements of each split are read, a line for each file that stands for its kind."""
    asked = [f"{file.name}: {_how(read_queries, file)}" for file in layout.queries[:1]]
    return asked + [f"{files[0].name}: {_how(read_qrels, files[0])}" for files in layout.qrels.values()]


def _how(read: Callable[[File], tuple[object, str]], file: File) -> str:
    """How a file is read, or why it cannot be; whoever uses it refuses it."""
    try:
        return read(file)[1]
    except UserError as error:
        return f"not readable ({error})"


def _inside(name: str, row: Mapping[str, Any]) -> str:
    """The field itself, or where it is an object of texts (for each language, say) the first of them."""
    value = row.get(name)
    if isinstance(value, Mapping) and len(value) > 0 and not next(iter(value)).startswith(("$", "#")):
        return next((f"{name}.{key}" for key, inner in value.items() if isinstance(inner, str)), name)
    return name


def _said(value: object) -> str:
    try:
        return text_of(value, "", "")
    except UserError:
        return ""
