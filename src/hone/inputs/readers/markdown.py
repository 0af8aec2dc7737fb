"""Markdown as sites keep it: cut at its headings, read as its readers see it.

What stands between two lines at the head of a page (front matter: YAML, TOML or JSON) is not text: its title is the
page's, its description and tags belong to the first section. Comments, tags of HTML and targets of links are not read.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, cast

import yaml

from hone.core.text import flat
from hone.errors import UserError
from hone.inputs.readers.decoding import encoding_of, lines
from hone.inputs.readers.files import File
from hone.inputs.readers.sections import Page, Section
from hone.inputs.readers.table import Dialect
from hone.inputs.readers.values import text_of

if TYPE_CHECKING:
    from markdown_it.token import Token

FENCES = {"---": ("---", "..."), "+++": ("+++",)}
KEY = re.compile(r"(\w[\w -]*):(?:\s+(.*))?")
ANCHOR = re.compile(r"\s*\{#[^{}]*\}$")
"""What sites write after a heading to name its link."""
REMARK = re.compile(r"\{/\*.*\*/\}", re.DOTALL)
ESM = re.compile(r"(?:import|export)\s")
UNSEEN = ("script", "style", "head", "template")
BREAKS = ("br", "p", "div", "li", "tr", "td", "th", "details", "summary", "h1", "h2", "h3", "h4", "h5", "h6")
SUMMARY = ("description", "summary", "excerpt")
TAGS = ("tags", "keywords", "categories")


def open_markdown(file: File, dialect: Dialect) -> Page:
    """A Markdown page. Raises UserError."""
    encoding = encoding_of(file, dialect.encoding)
    text = [line for _, line in lines(file, encoding)]
    matter, body = front_matter(text)
    facts = {"encoding": str(encoding)}
    if matter:
        facts["front matter"] = "front matter read as title, description and tags"
    return Page(_sections(matter, "\n".join(body), esm=file.suffix == ".mdx"), facts)


def front_matter(text: Sequence[str]) -> tuple[Mapping[str, Any], Sequence[str]]:
    """The metadata at the head of a page, and the lines after it; nothing and all lines if there is none."""
    start = next((at for at, line in enumerate(text) if line.strip()), 0)
    first = text[start].rstrip() if text else ""
    if first in FENCES:
        end = next((at for at in range(start + 1, len(text)) if text[at].rstrip() in FENCES[first]), 0)
        matter = _parsed(text[start + 1 : end], first) if end else None
        return (matter, text[end + 1 :]) if matter is not None else ({}, text)
    if first == "{":
        end = next((at for at in range(start + 1, len(text)) if text[at].rstrip() == "}"), 0)
        try:
            fields: object = json.loads("\n".join(text[start : end + 1])) if end else None
        except ValueError:
            fields = None
        return (cast(Mapping[str, Any], fields), text[end + 1 :]) if isinstance(fields, dict) else ({}, text)
    return {}, text


def _parsed(inside: Sequence[str], fence: str) -> Mapping[str, Any] | None:
    """What stands between the fences; None if it is not metadata but text between two rules."""
    source = "\n".join(inside)
    try:
        fields: object = tomllib.loads(source) if fence == "+++" else yaml.safe_load(source)
    except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
        keys = [KEY.fullmatch(line.rstrip()) for line in inside if line.strip() and not line[0].isspace()]
        named = {match[1]: (match[2] or "").strip("\"' ") for match in keys if match}
        return named if named and len(named) * 2 >= len(keys) else None
    if fields is None:  # nothing, or remarks alone
        return {}
    return cast(Mapping[str, Any], fields) if isinstance(fields, dict) else None


def _field(matter: Mapping[str, Any], names: Sequence[str], between: str = " ") -> str:
    lowered = {str(key).lower(): value for key, value in matter.items()}
    for name in names:
        try:
            if text := flat(text_of(lowered.get(name), "", name, between)):
                return text
        except UserError:  # an object, such as a title for each language
            continue
    return ""


def _sections(matter: Mapping[str, Any], body: str, *, esm: bool) -> Iterator[Section]:
    """The sections with text in them; of a page that has none, its title."""
    from markdown_it import MarkdownIt

    title = _field(matter, ("title",))
    tags = _field(matter, TAGS, ", ")
    matter_texts = [text for text in (_field(matter, SUMMARY), f"Tags: {tags}" if tags else "") if text]
    texts = list(matter_texts)
    above: list[tuple[int, str]] = [(0, title)] if title else []
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body)
    html, said, inside_heading = _Visible(), False, False
    for place, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0:
            if texts and texts != matter_texts:
                said, matter_texts = True, []
                yield Section(tuple(name for _, name in above), tuple(texts))
            level, name = int(token.tag[1:]), ANCHOR.sub("", flat(_inline(tokens[place + 1])))
            above = [one for one in above if one[0] < level]
            above = above if above and name == above[-1][1] else [*above, (level, name)]
            texts, inside_heading = list(matter_texts), True
        elif token.type == "heading_close":
            inside_heading = inside_heading and token.level != 0
        elif not inside_heading and (text := _seen(token, html, esm=esm)).strip():
            texts.append(text)
    if texts or (above and not said):
        yield Section(tuple(name for _, name in above), tuple(texts))


def _seen(token: "Token", html: "_Visible", *, esm: bool) -> str:
    """What readers see of a block that is not a heading; of MDX neither imports nor exports."""
    if token.type == "inline":
        if esm and REMARK.fullmatch(token.content.strip()):
            return ""
        return "" if esm and token.level == 1 and ESM.match(token.content) else _inline(token)
    if token.type == "html_block":
        return html.read(token.content)
    return token.content if token.type in ("fence", "code_block") else ""


def _inline(token: "Token") -> str:
    """What readers see of a line: text and code, the words of links, and what stands for a picture."""
    pieces: list[str] = []
    for child in token.children or []:
        if child.type in ("text", "code_inline"):
            pieces.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            pieces.append(" ")
        elif child.type == "image":
            pieces.append(_inline(child) or child.content)
        elif child.type == "html_inline" and child.content.lower().startswith(("<br", "</p", "</li", "</td")):
            pieces.append(" ")
    return "".join(pieces)


class _Visible(HTMLParser):
    """The text of HTML: neither tags nor comments, scripts and styles. What is open stays so over several blocks."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.hidden = 0

    def read(self, html: str) -> str:
        self.found = []
        self.feed(html)
        return "".join(self.found)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in UNSEEN
        self.found += [" "] if tag in BREAKS else []

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in UNSEEN and self.hidden > 0
        self.found += [" "] if tag in BREAKS else []

    def handle_data(self, data: str) -> None:
        self.found += [] if self.hidden else [data]
