"""The sections of the page as Markdown, each folded: what a pull request's comment can hold of the same report."""

from collections.abc import Sequence
from html.parser import HTMLParser

from hone.report.findings import Findings
from hone.report.html import Html
from hone.report.markdown_text import escaped
from hone.report.page import sections

SHOWN = ("Before and after",)
"""Sections that the Markdown report has at its top already."""
SKIPPED = ("svg", "nav")


def folded(findings: Findings) -> str:
    """Every section of the page as a block to unfold; charts are left out, their captions are not."""
    parts = [(title, content) for title, content in sections(findings).items() if title not in SHOWN]
    return "\n".join(_fold(title, _markdown(content)) for title, content in parts)


def _fold(title: str, content: str) -> str:
    return f"<details><summary>{escaped(title)}</summary>\n\n{content}\n</details>\n"


def _markdown(content: Html) -> str:
    reader = _Reader()
    reader.feed(content)
    return "\n".join(reader.blocks)


class _Reader(HTMLParser):
    """Reads the few elements that sections are made of. Text is escaped anew, for Markdown."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[str] = []
        self._text = ""
        self._rows: list[list[str]] = []
        self._skipping = ""
        self._code = False

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        if tag in SKIPPED or ("class", "hidden") in attrs or ("class", "bars") in attrs:
            self._skipping = self._skipping or tag
        elif tag == "tr":
            self._rows.append([])
        elif tag == "li" and self._text:
            self._text += "<br>"
        elif tag in ("p", "h3", "caption", "figcaption", "td", "th", "summary"):
            self._text = ""
        self._code = tag == "code"

    def handle_data(self, data: str) -> None:
        if not self._skipping:
            self._text += f"`{data.replace('`', '')}`" if self._code else escaped(data, edges=True)

    def handle_endtag(self, tag: str) -> None:
        if self._skipping:
            self._skipping = "" if tag == self._skipping else self._skipping
            return
        self._code = False
        if tag in ("td", "th"):
            self._rows[-1].append(self._text.strip())
        elif tag == "table":
            self.blocks += [_table(self._rows), ""]
            self._rows = []
        elif tag in ("p", "figcaption", "caption", "h3", "summary"):
            block = {"h3": "#### {}", "caption": "**{}**", "summary": "<details><summary>{}</summary>"}.get(tag, "{}")
            self.blocks += [block.format(self._text.strip()), ""]
            self._text = ""
        elif tag == "details":
            self.blocks += ["</details>", ""]


def _table(rows: list[list[str]]) -> str:
    """A table without the columns that only a chart fills."""
    filled = [at for at in range(len(rows[0])) if any(row[at] for row in rows)]
    head, *body = [f"| {' | '.join(row[at] for at in filled)} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(filled)}", *body])
