"""What every reader of tables gives: rows with the place they stand at, and what was understood of the file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from hone.config import Settings

Row = tuple[str, dict[str, Any]]
"""Where it stands (file and row), and its fields."""


class Dialect(Settings):
    """How a table of text is written. Recognised by content and reported; what is set here is not guessed."""

    encoding: str = ""
    """Such as utf-8, cp1252 or utf-16; empty recognises it."""
    delimiter: str = ""
    """What stands between two fields, such as `,` or a tab; empty recognises it."""
    quotes: Literal["auto", "cells", "text"] = "auto"
    """cells: a field may stand in quotation marks, with delimiters and line breaks inside; text: quotation marks are
    text like any other, and a line is a row."""
    header: Literal["auto", "present", "absent"] = "auto"
    """Whether the first line holds the names of the fields."""


MOST_NAMES = 12


def first_names(names: Sequence[str]) -> str:
    """Names of fields for people: the first ones, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


class Fields(NamedTuple):
    """The fields that are wanted of a table; a field of an object is named with a dot, as in title.en."""

    id: str = "_id"
    title: str = "title"
    text: str = "text"

    @property
    def columns(self) -> list[str]:
        """The names, empty ones left out."""
        return [name for name in self if name]


@dataclass
class Table:
    """A table file that has been opened."""

    rows: Iterator[Row]
    columns: tuple[str, ...] = ()
    """The names of its fields, where the file says them before its rows."""
    facts: dict[str, str] = field(default_factory=dict[str, str])
    """What was understood of it, in words."""
    named: bool = True
    """Whether the file names its fields, and not their order."""
