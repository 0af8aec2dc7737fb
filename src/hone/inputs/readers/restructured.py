"""reStructuredText: cut at its underlined headings, read as its readers see it."""

import io
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hone.inputs.readers.decoding import encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.plain_text import open_text
from hone.inputs.readers.sections import Page, Section
from hone.inputs.readers.table import Dialect

if TYPE_CHECKING:
    from docutils import nodes

NOTHING_ELSE = {
    "file_insertion_enabled": False, "raw_enabled": False, "report_level": 5, "halt_level": 6, "warning_stream": None,
    "docinfo_xform": False, "doctitle_xform": False, "embed_stylesheet": False, "_disable_config": True,
}  # fmt: skip
"""Neither other files nor settings of the machine are read, and what is unknown is not a fault."""
ROLE = re.compile(r":[\w:+-]+:`([^`<]*?)\s*(?:<[^`>]*>)?`")
"""Roles of Sphinx and of docutils: what is said stands between the marks, but for a target."""
DIRECTIVE = re.compile(r"\.\. +([\w:+-]+)::([^\n]*)\n?(.*)", re.DOTALL)
OPTION = re.compile(r":[\w-]+:")
WITHOUT_TEXT = (
    "toctree", "index", "currentmodule", "automodule", "autoclass", "autofunction", "autosummary", "highlight",
    "tabularcolumns", "image", "figure", "literalinclude", "program", "default-domain", "sectionauthor", "codeauthor",
)  # fmt: skip
DEEPEST = 5
UNSEEN = ("comment", "system_message", "substitution_definition", "target", "raw")
"""Kinds of nodes that a reader does not see."""


def open_restructured(file: File, dialect: Dialect) -> Page:
    """A page of reStructuredText; one that cannot be parsed is read as plain text. Raises UserError."""
    from docutils.utils import SystemMessage

    encoding = encoding_of(file, dialect.encoding)
    source = "\n".join(line for _, line in lines(file, encoding))
    try:
        tree = _tree(source)
    except (SystemMessage, ValueError, RecursionError):
        page = open_text(file, dialect)
        return Page(page.sections, {**page.facts, "markup": "damaged; read as plain text"})
    return Page(_sections(tree, ()), {"encoding": str(encoding)})


def _tree(source: str, depth: int = 0) -> "nodes.document":
    """The parsed page, what its readers do not see left out. Raises SystemMessage and ValueError."""
    from docutils import nodes
    from docutils.core import publish_doctree

    unseen = _unseen()
    source = ROLE.sub(lambda role: role[1].lstrip("~!"), source)
    tree = publish_doctree(source, settings_overrides={**NOTHING_ELSE, "warning_stream": io.StringIO()})
    for message in list(tree.findall(nodes.system_message)):
        block = next((child for child in message.children if isinstance(child, nodes.literal_block)), None)
        unknown = DIRECTIVE.match(block.astext()) if block is not None else None
        instead = _of_unknown(unknown, depth) if unknown and depth < DEEPEST else []
        message.parent.replace(message, instead)
    for node in list(tree.findall(lambda one: isinstance(one, unseen))):
        if node.parent is not None:
            node.parent.remove(node)
    return tree


def _unseen() -> "tuple[type[nodes.Node], ...]":
    from docutils import nodes

    return tuple(getattr(nodes, name) for name in UNSEEN)


def _of_unknown(directive: re.Match[str], depth: int) -> "list[nodes.Node]":
    """What stands in a directive that is not docutils' own, such as Sphinx's `versionadded` and `function`."""
    from docutils import nodes

    name, arguments, inside = directive.groups()
    if name in WITHOUT_TEXT:
        return []
    body = "\n".join(line for line in textwrap.dedent(inside).split("\n") if not OPTION.match(line))
    said = [nodes.paragraph("", arguments.strip())] if arguments.strip() else []
    return [*said, *_tree(body, depth + 1).children] if body.strip() else [*said]


def _sections(node: "nodes.Element", above: tuple[str, ...]) -> Iterator[Section]:
    """The texts of a section under its headings, then those of the sections in it."""
    from docutils import nodes

    title = next((child.astext() for child in node.children if isinstance(child, nodes.title)), "")
    path = (*above, title) if title else above
    own = [child for child in node.children if not isinstance(child, (nodes.section, nodes.title, *_unseen()))]
    texts = tuple(text for child in own if (text := child.astext()).strip())
    inner = [child for child in node.children if isinstance(child, nodes.section)]
    if texts or (path and not inner):
        yield Section(path, texts)
    for section in inner:
        yield from _sections(section, path)
