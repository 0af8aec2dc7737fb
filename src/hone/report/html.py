"""HTML that is escaped unless it says that it is markup already."""

import html
from collections.abc import Sequence

LONG = 24
"""Characters from which on a cell is given room for several words to a line."""


class Html(str):
    """Text that is markup already."""


def safe(value: object) -> Html:
    """Markup as it is; anything else escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. An attribute's trailing _ is dropped (class_) and any other _ becomes - (stroke_width)."""
    marks = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{marks}>{''.join(map(safe, children))}</{name}>")


def join(parts: Sequence[object], between: str = "") -> Html:
    return Html(between.join(map(safe, parts)))


def anchor(title: str) -> str:
    """A title as the id of its section."""
    return "".join(letter if letter.isalnum() else "-" for letter in title.lower())


def section(title: str, *children: object) -> Html:
    """A titled part of the page."""
    name = anchor(title)
    return element("section", element("h2", title, id=name), *children, aria_labelledby=name)


def table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[object]], numeric: str = "") -> Html:
    """A table whose first cells head their rows; `numeric` names the columns set to the right. Empty without rows."""
    if not rows:
        return Html()
    right = [heading in numeric.split("|") for heading in headings]
    head = (_cell("th", text, number, scope="col") for text, number in zip(headings, right, strict=True))
    body = (
        element(
            "tr",
            _cell("th", row[0], right[0], scope="row"),
            *(_cell("td", value, number) for value, number in zip(row[1:], right[1:], strict=True)),
        )
        for row in rows
    )
    whole = element(
        "table", element("caption", caption), element("thead", element("tr", *head)), element("tbody", *body)
    )
    return scrolled(whole, caption)


def scrolled(wide: Html, name: str) -> Html:
    """What scrolls sideways, by touch or keyboard, where the screen is too narrow for it."""
    return element("div", wide, class_="scroll", tabindex=0, role="group", aria_label=name)


def _cell(name: str, value: object, number: bool, **attributes: object) -> Html:
    words = not isinstance(value, Html) or value.startswith("<ul")
    # A sentence among numbers wraps like any other: it would push the columns after it out of sight.
    kind = "long" if words and len(str(value)) > LONG else "number" if number else ""
    return element(name, value, **({"class_": kind} if kind else {}), **attributes)
