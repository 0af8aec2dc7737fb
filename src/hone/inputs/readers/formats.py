"""READ FIRST to add a format: one file that opens it, and one row here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hone.inputs.readers.arrow import open_arrow
from hone.inputs.readers.delimited import open_table
from hone.inputs.readers.files import File
from hone.inputs.readers.json_rows import open_json
from hone.inputs.readers.markdown import open_markdown
from hone.inputs.readers.parquet import open_parquet
from hone.inputs.readers.plain_text import open_text
from hone.inputs.readers.restructured import open_restructured
from hone.inputs.readers.sections import Page
from hone.inputs.readers.table import Dialect, Fields, Table

Format = Literal["auto", "beir", "jsonl", "csv", "tsv", "parquet", "arrow", "text"]
"""beir is a layout, whose files are tables of any of the others."""


@dataclass(frozen=True)
class Tables:
    """A format of tables: the suffixes of its files, and what opens one."""

    suffixes: tuple[str, ...]
    open: Callable[[File, Fields, Dialect], Table]


@dataclass(frozen=True)
class Texts:
    """A format of pages: what opens a file, by its suffix."""

    by_suffix: dict[str, Callable[[File, Dialect], Page]]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of its files."""
        return tuple(self.by_suffix)


FORMATS: dict[Format, Tables | Texts] = {
    "jsonl": Tables((".jsonl", ".ndjson", ".jl", ".json"), open_json),
    "csv": Tables((".csv", ".psv"), open_table),
    "tsv": Tables((".tsv", ".tab"), open_table),
    "parquet": Tables((".parquet", ".pq"), open_parquet),
    "arrow": Tables((".arrow", ".feather"), open_arrow),
    "text": Texts(
        {
            ".md": open_markdown,
            ".markdown": open_markdown,
            ".mdx": open_markdown,
            ".mdown": open_markdown,
            ".rst": open_restructured,
            ".txt": open_text,
        }
    ),
}


def format_of(suffix: str) -> Format | None:
    """The format of files with this suffix; None if there is none."""
    return next((name for name, row in FORMATS.items() if suffix in row.suffixes), None)


def opener(suffix: str) -> Tables | Texts | None:
    """What opens files with this suffix; None if nothing does."""
    return next((row for row in FORMATS.values() if suffix in row.suffixes), None)
