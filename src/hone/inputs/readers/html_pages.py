"""HTML pages: cut at their headings, read as their readers see them, without menus, scripts and styles."""

import codecs
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

from hone.core.text import flat
from hone.inputs.readers.decoding import Encoding, encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.sections import Page, Section
from hone.inputs.readers.table import Dialect

UNSEEN = ("script", "style", "template", "noscript", "svg", "nav", "footer", "button", "select", "iframe")
INLINE = (
    "a", "abbr", "b", "bdi", "bdo", "cite", "code", "dfn", "em", "font", "i", "kbd", "mark", "q", "rp", "rt", "ruby",
    "s", "samp", "small", "span", "strong", "sub", "sup", "time", "u", "var", "wbr", "del", "ins", "tt",
)  # fmt: skip
"""Tags that part no words."""
HEADING = re.compile(r"h[1-6]")
CHARSET = re.compile(rb"""<meta[^>]+charset\s*=\s*["']?([\w.:-]+)""", re.IGNORECASE)
HEAD_BYTES = 1 << 12


def open_html(file: File, dialect: Dialect) -> Page:
    """An HTML page. Raises UserError."""
    encoding = _encoding(file, dialect.encoding)
    page = _Page()
    for _, line in lines(file, encoding):
        page.feed(f"{line}\n")
    page.close()
    return Page(iter(page.finished()), {"encoding": str(encoding), "markup": "HTML, without menus, scripts and styles"})


def _encoding(file: File, given: str) -> Encoding:
    """What the bytes prove, else what the page declares, else what its letters suggest."""
    encoding = encoding_of(file, given)
    if not encoding.guessed:
        return encoding
    with file.open() as stream:
        declared = CHARSET.search(stream.read(HEAD_BYTES))
    try:
        name = codecs.lookup(declared[1].decode("ascii")).name if declared else ""
    except (LookupError, UnicodeDecodeError):
        name = ""
    return replace(encoding, name=name, guessed=False) if name and name != "utf-8" else encoding


@dataclass
class _Open:
    """The section that is being read."""

    above: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    texts: list[str] = field(default_factory=list[str])


class _Page(HTMLParser):
    """Sections under their headings; what stands before the first one is headed by the page's title."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.in_title = False
        self.hidden: list[str] = []
        self.heading, self.level = [""], 0
        self.now = _Open()
        self.sections: list[Section] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in UNSEEN:
            self.hidden.append(tag)
        elif tag == "title" and not self.hidden:
            self.in_title = True
        elif HEADING.fullmatch(tag) and not self.hidden:
            self._end_section()
            self.heading, self.level = [], int(tag[1])
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.hidden:
            while self.hidden.pop() != tag:
                pass
        elif tag == "title":
            self.in_title = False
        elif HEADING.fullmatch(tag) and self.level:
            above = [one for one in self.now.above if one[0] < self.level]
            name = flat("".join(self.heading)).removesuffix("\u00b6").rstrip()
            self.now = _Open([*above, (self.level, name)] if name else above)
            self.level = 0
        self._part(tag)

    def handle_data(self, data: str) -> None:
        if self.in_title:
            self.title.append(data)
        elif not self.hidden:
            (self.heading if self.level else self.now.texts).append(data)

    def _part(self, tag: str) -> None:
        """Blocks stand apart."""
        if tag not in INLINE and not self.hidden:
            (self.heading if self.level else self.now.texts).append(" ")

    def _end_section(self) -> None:
        text = flat("".join(self.now.texts))
        headings = tuple(name for _, name in self.now.above)
        if text or (headings and not any(one.headings[: len(headings)] == headings for one in self.sections)):
            self.sections.append(Section(headings, (text,) if text else ()))
        self.now.texts = []

    def finished(self) -> list[Section]:
        """All sections; a heading with others below it and no text of its own is in their paths."""
        self._end_section()
        title = flat("".join(self.title))
        sections: list[Section] = []
        for at, one in enumerate(self.sections):
            below = self.sections[at + 1].headings if at + 1 < len(self.sections) else ()
            if one.texts or below[: len(one.headings)] != one.headings:
                sections.append(one if one.headings or not title else Section((title,), one.texts))
        return sections or ([Section((title,), ())] if title else [])
