"""Text without markup: one section, in whatever encoding."""

from hone.inputs.readers.decoding import encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.sections import Page, Section
from hone.inputs.readers.table import Dialect


def open_text(file: File, dialect: Dialect) -> Page:
    """A text file. Raises UserError."""
    encoding = encoding_of(file, dialect.encoding)
    section = Section((), tuple(line for _, line in lines(file, encoding)))
    return Page(iter([section]), {"encoding": str(encoding)})
