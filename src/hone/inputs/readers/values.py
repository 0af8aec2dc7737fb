"""Values as files hold them, read as what they mean: a null is not text, a list is its items, 0 is a number."""

import datetime
import decimal
import re
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, cast

from hone.core.text import flat
from hone.errors import UserError

LONGEST_ID = 512
LARGEST_EXACT = 2**53
"""Whole numbers up to here are exact as floating point."""
LIKELY = ("text", "content", "value", "name", "title", "en", "label")
"""What the text in an object is often called."""
BREAKS = ("Cc", "Zl", "Zp", "Cs")
"""Categories of characters that would tear a line of a run or a judgement apart, or cannot be written."""


def pick(row: Mapping[str, Any], field: str) -> Any:
    """The value of a field; `title.en` is the field en of the object title, or of each object in a list. None if there
    is no such field."""
    if field in row:
        return row[field]
    value: Any = row
    for part in field.split("."):
        if isinstance(value, (list, tuple)):
            items = [item for item in cast(Sequence[Any], value) if isinstance(item, Mapping) and part in item]
            value = [cast(Mapping[str, Any], item)[part] for item in items] or None
        elif isinstance(value, Mapping) and part in value:
            value = cast(Mapping[str, Any], value)[part]
        else:
            return None
    return value


def plain_name(name: str) -> str:
    """A name of a field as it is compared: `Doc-ID`, `#doc id` and `doc_id` are one."""
    return "_".join(re.split(r"[\W_]+", flat(name).lower())).strip("_")


def has(row: Mapping[str, Any], field: str) -> bool:
    """Whether a row has a field, even if its value is null."""
    return field in row or pick(row, field) is not None


def text_of(value: object, where: str, field: str, between: str = " ") -> str:
    """A value as text, the items of a list joined. Raises UserError on an object, and on bytes that are not text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)):
        parts = (text_of(item, where, field, between) for item in cast(Sequence[object], value))
        return between.join(part for part in parts if part)
    if isinstance(value, Mapping):
        return _object(cast(Mapping[str, object], value), where, field, between)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decoded(bytes(value), where, field)
    if isinstance(value, float):
        return "" if value != value else _number(value)
    if isinstance(value, decimal.Decimal):
        return "" if value.is_nan() else _number(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)


def id_of(value: object, where: str) -> str:
    """A value as an id, kept exactly: any text without line breaks and control characters, or a whole number.

    Raises UserError.
    """
    text = value if isinstance(value, str) else _id_text(value, where)
    if text and (text.isprintable() or not any(map(_breaks, text))) and len(text.encode()) <= LONGEST_ID:
        return text
    if not text:
        raise UserError(f"{where}: the id is empty; give every row its own id")
    what = (
        f"is longer than {LONGEST_ID} bytes"
        if not any(map(_breaks, text))
        else "holds a line break or control character"
    )
    raise UserError(f"{where}: the id {text[:40]!r} {what}; give the row another")


def _breaks(char: str) -> bool:
    return unicodedata.category(char) in BREAKS


def _id_text(value: object, where: str) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        if value.is_integer() and abs(value) <= LARGEST_EXACT:
            return str(int(value))
    elif isinstance(value, decimal.Decimal):
        if value.is_finite() and value == int(value):
            return str(int(value))
    elif isinstance(value, (bytes, bytearray)):
        return _decoded(bytes(value), where, "id")
    elif isinstance(value, (list, tuple)) and len(cast(Sequence[object], value)) == 1:  # as Solr and OpenSearch give it
        return id_of(cast(Sequence[object], value)[0], where)
    elif isinstance(value, Mapping) and len(cast(Mapping[str, object], value)) == 1:
        ((name, inner),) = cast(Mapping[str, object], value).items()
        if name.startswith("$"):
            return inner if isinstance(inner, str) else _id_text(inner, where)
    elif isinstance(value, (int, uuid.UUID, datetime.date)) and not isinstance(value, bool):
        return value.isoformat() if isinstance(value, datetime.date) else str(value)
    kind = type(value).__name__
    raise UserError(f"{where}: the id {str(value)[:40]!r} is neither text nor a whole number but {kind}; write text")


def _number(value: float | decimal.Decimal) -> str:
    if isinstance(value, decimal.Decimal):
        return str(int(value)) if value.is_finite() and value == int(value) else format(value, "f")
    return str(int(value)) if float(value).is_integer() and abs(value) <= LARGEST_EXACT else repr(value)


def _decoded(value: bytes, where: str, field: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        fault = f"{where}: field {field!r} is binary ({len(value)} bytes that are not UTF-8)"
        raise UserError(f"{fault}; write text there or name another field in the settings") from error


def _object(value: Mapping[str, object], where: str, field: str, between: str) -> str:
    """An object of one value that MongoDB marks with `$`, or none at all. Raises UserError on any other."""
    if len(value) == 1:
        ((name, inner),) = value.items()
        if name.startswith(("$", "#")):
            return text_of(inner, where, field, between)
    if not value:
        return ""
    names = ", ".join(map(str, list(value)[:5]))
    likely = next((name for name in LIKELY if name in value), next(iter(value)))
    first = f"{field}.{likely}"
    raise UserError(
        f"{where}: field {field!r} is an object with {names}, not text; name one of them, such as {first!r}"
    )
