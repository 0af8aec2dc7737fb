"""Personal data in text: e-mail addresses, telephone and card numbers, IBANs."""

import re

_EMAIL = re.compile(r"[\w.+'-]+(?:@|%40| ?[\[(]at[\])] ?)[\w-]+(?:\.| ?[\[(]dot[\])] ?)[\w.-]*\w", re.I)
_BETWEEN = "[ ()./\u00a0\u2007\u2010-\u2014\u202f-]"
_NUMBER = re.compile(rf"[+(]{{0,2}}\d(?:{_BETWEEN}{{0,4}}\d){{8,18}}\b")
_WORDS = "tel|phone|telephone|telefon|fax|mobile|mobil|cell|call|dial|ring|whatsapp"
_NAMED = re.compile(
    rf"(\b(?:{_WORDS})\b[.:]*(?: *(?:no|nr|number|on|at)\b[.:]*)? *)[+(]{{0,2}}\d(?:{_BETWEEN}{{0,4}}\d){{5,18}}\b",
    re.I,
)
"""Shorter numbers too, where a word says what they are."""
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{4}){3,7}(?:[ -]?[A-Z0-9]{1,3})?\b", re.I)
_HTTP = re.compile(r"(https?://\S+)", re.I)

_DATE = re.compile(r"\d{4}[-./](?:0?[1-9]|1[0-2])[-./]\d\d?(?:[ -]+\d{1,6})?$")
LEAST_DIGITS = 8
EMAIL, NUMBER, IBAN = "[e-mail address]", "[number]", "[IBAN]"


def has_personal_data(text: str) -> bool:
    """Whether a text holds an e-mail address, a telephone or card number (9 digits and more, or fewer after a word such
    as phone) or an IBAN. Of web addresses only what is written as an e-mail address counts."""
    return masked(text) != text


def masked(text: str) -> str:
    """The text with what that is in place of each."""
    parts = _HTTP.split(_EMAIL.sub(EMAIL, text))
    parts[::2] = [_NAMED.sub(rf"\1{NUMBER}", _NUMBER.sub(_number, _IBAN.sub(_iban, part))) for part in parts[::2]]
    return "".join(parts)


def _number(number: re.Match[str]) -> str:
    """A date with its hour has as many digits as a telephone number."""
    return number[0] if _DATE.match(number[0]) else NUMBER


def _iban(match: re.Match[str]) -> str:
    """Words of four letters in a row are not an IBAN."""
    return IBAN if sum(map(str.isdigit, match[0])) >= LEAST_DIGITS else match[0]
