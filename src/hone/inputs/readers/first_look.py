"""A first look at a corpus: what it seems to hold, for `hone init`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hone.core import scripts
from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.corpus import USUAL_FIELDS, Corpus, field_names
from hone.inputs.readers.formats import FORMATS, Format, Tables
from hone.inputs.readers.layouts import Layout, layout
from hone.inputs.readers.table import Dialect, Fields, Row
from hone.inputs.readers.values import text_of

ENOUGH_FOR_LANGUAGE = 200


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
    splits: tuple[str, ...]
    understood: tuple[str, ...]

    def __str__(self) -> str:
        count = f"{self.docs:,}" if self.whole else f"{self.docs:,} or more"
        judged = f"judgements: {', '.join(self.splits)}" if self.splits else "no judgements"
        size = f"{count} documents, {self.mean_words:.0f} words on average"
        return f"{self.format} format, {size}, language: {self.language}, {judged}"


def look(path: Path, most: int = 5_000) -> Look:
    """What the first `most` documents of a corpus are like. Raises UserError if there is no corpus."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give the folder or file of a corpus")
    found = layout(path)
    names = field_names(found)
    guess = {role: next((name for name in usual if name in names), "") for role, usual in USUAL_FIELDS.items()}
    seen = Corpus(found, Fields(*guess.values())) if all(guess[role] for role in ("id", "text")) else None
    rows: list[Row] = list(islice(_rows(found, seen), most + 1))
    text = guess["text"]
    first = rows[0][1] if rows else {}
    guess = {role: _inside(name, first) for role, name in guess.items()}
    texts = [_said(row.get(text)) for _, row in rows[:most]]
    return Look(
        format=found.format,
        docs=min(len(rows), most),
        whole=len(rows) <= most,
        mean_words=sum(len(text.split()) for text in texts) / max(1, len(texts)),
        language=scripts.guess(texts[:ENOUGH_FOR_LANGUAGE]),
        fields=tuple(flat(name) for name in names),
        id_field=guess["id"],
        title_field=guess["title"],
        text_field=guess["text"],
        splits=tuple(found.qrels),
        understood=(*(f"{name}: {value}" for name, value in found.facts().items()), *(seen.said() if seen else ())),
    )


def _rows(found: Layout, seen: Corpus | None) -> Iterator[Row]:
    row = FORMATS[found.format]
    if seen:
        yield from seen.documents()
    elif isinstance(row, Tables):
        yield from row.open(found.corpus[0], Fields("", "", ""), Dialect()).rows
    else:
        yield from Corpus(found).documents()


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
