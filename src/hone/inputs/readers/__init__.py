"""Readers of corpora, queries and judgements as people keep them.

`layout` says what of a folder is what, `Corpus` reads its documents, `queries`, `qrels` and `rows` the rest. All of
them stream, name file and row of what they cannot read, and say what they understood. A format is one file and one row
of `formats`.
"""

from collections.abc import Iterator
from pathlib import Path

from hone.inputs.readers.corpus import (
    USUAL_CHUNKS,
    Corpus,
    count_documents,
    document,
    open_table,
    qrels,
    queries,
    read_qrels,
    rows,
    usual_fields,
)
from hone.inputs.readers.decoding import lines as file_lines
from hone.inputs.readers.files import File, one_file
from hone.inputs.readers.first_look import Look, judged, look
from hone.inputs.readers.formats import FORMATS, Format, Tables, format_of, opener
from hone.inputs.readers.layouts import Layout, layout
from hone.inputs.readers.table import Dialect, Fields, Row, Table, first_names
from hone.inputs.readers.values import has, id_of, pick, text_of

__all__ = [
    "FORMATS", "USUAL_CHUNKS", "Corpus", "Dialect", "Fields", "File", "Format", "Layout", "Look", "Row", "Table",
    "Tables", "count_documents", "document", "file_lines", "first_names", "format_of", "has", "id_of", "judged",
    "layout", "lines", "look", "one_file", "open_table", "opener", "pick", "qrels", "queries", "read_qrels", "rows",
    "text_of", "usual_fields",
]  # fmt: skip


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a text file without their ends, numbered from 1. Raises UserError."""
    return file_lines(one_file(path))
