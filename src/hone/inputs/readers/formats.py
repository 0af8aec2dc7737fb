"""READ FIRST to add a format: one file that opens it, and one row here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hone.inputs.readers.arrow import open_arrow
from hone.inputs.readers.delimited import open_table
from hone.inputs.readers.files import File
from hone.inputs.readers.html_pages import open_html
from hone.inputs.readers.json_rows import open_json
from hone.inputs.readers.markdown import open_markdown
from hone.inputs.readers.parquet import open_parquet
from hone.inputs.readers.plain_text import open_text
from hone.inputs.readers.restructured import open_restructured
from hone.inputs.readers.sections import Page
from hone.inputs.readers.table import Dialect, Fields, Table
from hone.inputs.readers.trec_docs import is_trec, open_trec

FIRST_BYTES = 1 << 10
Format = Literal["auto", "beir", "jsonl", "csv", "tsv", "parquet", "arrow", "trec", "text"]
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
    "trec": Tables((".trec", ".sgml", ".sgm"), open_trec),
    "text": Texts(
        {
            **dict.fromkeys(
                (".md", ".markdown", ".mdx", ".mdown", ".mkd", ".mkdn", ".mdwn", ".qmd", ".rmd"), open_markdown
            ),
            ".rst": open_restructured,
            **dict.fromkeys((".html", ".htm", ".xhtml"), open_html),
            ".txt": open_text,
        }
    ),
}
SIGNS: tuple[tuple[bytes, Format], ...] = ((b"{", "jsonl"), (b"[", "jsonl"), (b"PAR1", "parquet"), (b"ARROW1", "arrow"))
"""How files begin whose name does not tell."""


def format_of(suffix: str) -> Format | None:
    """The format of files with this suffix; None if there is none."""
    return next((name for name, row in FORMATS.items() if suffix in row.suffixes), None)


def kind_of(file: File, *, alone: bool = False) -> Format | None:
    """The format of a file by its suffix, and where that says nothing by its content: TREC's documents have none, or
    that of text, and lines of JSON may have none; of a file that is `alone`, and so was named, more is recognised.
    Raises UserError."""
    by_suffix = format_of(file.suffix)
    if by_suffix and file.suffix != ".txt":
        return by_suffix
    if is_trec(file):
        return "trec"
    if by_suffix or (file.suffix and not alone):
        return by_suffix
    with file.open() as stream:
        start = stream.read(FIRST_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for sign, kind in SIGNS if start.startswith(sign) and (alone or kind == "jsonl")), None)


def opener(suffix: str) -> Tables | Texts | None:
    """What opens files with this suffix; None if nothing does."""
    return next((row for row in FORMATS.values() if suffix in row.suffixes), None)
