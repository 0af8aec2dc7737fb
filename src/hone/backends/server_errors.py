"""What servers say when they refuse, in whichever of their dialects."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

LONGEST = 200
_PAGE = re.compile(r"^\s*(?:<!doctype html|<html|<\?xml|<head|<body)", re.I)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.I | re.DOTALL)
_KNOWN = ("message", "msg", "error", "detail", "errors", "error_description", "reason", "title")


def reason(answer: Any) -> str:
    """Why a server refused, from what it sent: {"error": {"message": ...}}, {"detail": [{"loc": ..., "msg": ...}]},
    {"message": ...}, {"error": "..."} or plain text; empty if it gives none."""
    return " ".join(_reason(answer).split())[:LONGEST]


def _reason(answer: Any) -> str:
    if isinstance(answer, bytes):
        answer = answer.decode("utf-8", "replace")
    if isinstance(answer, str):
        try:
            return _reason(json.loads(answer)) or answer
        except ValueError:
            return web_page(answer) or answer
    if isinstance(answer, list):
        return "; ".join(filter(None, map(_reason, cast(list[Any], answer))))
    if not isinstance(answer, Mapping):
        return "" if answer is None or isinstance(answer, bool | int | float) else str(answer)
    fields = cast(Mapping[str, Any], answer)
    said = next((text for key in _KNOWN if (text := _reason(fields.get(key)))), "")
    place = ".".join(str(part) for part in fields.get("loc") or () if part != "body")
    return f"{place}: {said}" if place and said else said


def web_page(text: str) -> str:
    """What a web page is called that came in place of an answer; empty if it is none."""
    if not _PAGE.match(text):
        return ""
    title = _TITLE.search(text)
    return f"a web page called {' '.join(title[1].split())[:80]!r}" if title else "a web page"


def lower_limit(said: str, sent: int) -> int:
    """The largest number below `sent` that a refusal names, such as 32 in "batch size 64 > maximum 32"; 0 for none."""
    numbers = [int(number) for number in re.findall(r"(?<![\w.])\d{1,6}(?![\w.]*\d)", said)]
    return max((number for number in numbers if 0 < number < sent), default=0)
