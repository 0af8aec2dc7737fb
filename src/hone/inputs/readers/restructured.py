"""reStructuredText: cut at its underlined headings, read as its readers see it."""

import io
from collections.abc import Iterator

from docutils import nodes
from docutils.core import publish_doctree
from docutils.utils import SystemMessage

from hone.inputs.readers.decoding import encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.plain_text import open_text
from hone.inputs.readers.sections import Page, Section
from hone.inputs.readers.table import Dialect

NOTHING_ELSE = {
    "file_insertion_enabled": False, "raw_enabled": False, "report_level": 5, "halt_level": 6, "warning_stream": None,
    "docinfo_xform": False, "doctitle_xform": False, "embed_stylesheet": False, "_disable_config": True,
}  # fmt: skip
"""Neither other files nor settings of the machine are read, and what is unknown is not a fault."""
UNSEEN = (
    nodes.comment,
    nodes.system_message,
    nodes.problematic,
    nodes.substitution_definition,
    nodes.target,
    nodes.raw,
)


def open_restructured(file: File, dialect: Dialect) -> Page:
    """A page of reStructuredText; one that cannot be parsed is read as plain text. Raises UserError."""
    encoding = encoding_of(file, dialect.encoding)
    source = "\n".join(line for _, line in lines(file, encoding))
    try:
        tree = publish_doctree(source, settings_overrides={**NOTHING_ELSE, "warning_stream": io.StringIO()})
    except (SystemMessage, ValueError, RecursionError):
        page = open_text(file, dialect)
        return Page(page.sections, {**page.facts, "markup": "damaged; read as plain text"})
    return Page(_sections(tree, ()), {"encoding": str(encoding)})


def _sections(node: nodes.Element, above: tuple[str, ...]) -> Iterator[Section]:
    """The texts of a section under its headings, then those of the sections in it."""
    title = next((child.astext() for child in node.children if isinstance(child, nodes.title)), "")
    path = (*above, title) if title else above
    own = [child for child in node.children if not isinstance(child, (nodes.section, nodes.title, *UNSEEN))]
    texts = tuple(text for child in own if (text := child.astext()).strip())
    inner = [child for child in node.children if isinstance(child, nodes.section)]
    if texts or (path and not inner):
        yield Section(path, texts)
    for section in inner:
        yield from _sections(section, path)
