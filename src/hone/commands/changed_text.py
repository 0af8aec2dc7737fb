"""Settings laid into the text of a settings file, whose other lines and comments stay as they are."""

import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

from hone.settings import overlay


def with_changes(text: str, changes: Mapping[str, Any]) -> str:
    """The text with these settings in their sections; what stands there for a key already gives way."""
    lines = text.splitlines()
    for key, value in changes.items():
        lines = _placed(lines, key, value)
    return "\n".join(lines) + "\n"


def _placed(lines: list[str], key: str, value: Any) -> list[str]:
    start, end = _block(lines, key, 0, len(lines), "")
    if not isinstance(value, Mapping):
        return [*lines[:start], *_dumped(key, value, ""), *lines[end:]]
    if start == end:
        return [*lines, *_dumped(key, value, "")]
    for inner, own in cast(Mapping[str, Any], value).items():
        _, end = _block(lines, key, 0, len(lines), "")
        first, last = _block(lines, inner, start + 1, end, "  ")
        before: Any = yaml.safe_load("\n".join(lines[first:last])) or {}
        both = {inner: own} if not isinstance(own, Mapping) else overlay(before, {inner: own})
        lines = [*lines[:first], *_dumped(inner, both[inner], "  "), *lines[last:]]
    return lines


def _block(lines: list[str], key: str, start: int, end: int, indent: str) -> tuple[int, int]:
    """The lines of a key among some: its own and those that are indented more. Both are the same where it is not there,
    behind a section's first line or at the end of the file."""
    for at in range(start, end):
        if re.match(rf"{indent}{re.escape(key)}\s*:", lines[at]):
            deeper = f"{indent}  "
            after = at + 1
            while after < end and (lines[after].startswith(deeper) or (not indent and lines[after].startswith(" "))):
                after += 1
            return at, after
    return (start, start) if indent else (end, end)


def _dumped(key: str, value: Any, indent: str) -> list[str]:
    dumped: str = yaml.safe_dump({key: value}, allow_unicode=True, sort_keys=False, width=1 << 20)
    return [f"{indent}{line}" for line in dumped.splitlines()]
