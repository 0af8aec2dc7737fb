"""Personal data in text: e-mail addresses, telephone and card numbers, IBANs."""

import re

_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]*\w")

_NUMBER = re.compile(r"\+?\d(?:[ ()./-]{0,2}\d){8,18}\b")

_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")

_HTTP = re.compile(r"https?://\S+", re.I)


def has_personal_data(text: str) -> bool:
    """Whether a text holds an e-mail address, a telephone or card number (9 digits and more) or an IBAN."""
    bare = _HTTP.sub(" ", text)
    return any(pattern.search(bare) for pattern in (_EMAIL, _NUMBER, _IBAN))
