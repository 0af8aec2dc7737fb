"""Secrets that this process knows, and the one place that takes them out of whatever is said or kept."""

import os
import re

SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|KEY", re.IGNORECASE)

SHORTEST_SECRET = 8

_secrets: set[str] = set()


def secret(value: str) -> str:
    """The value itself, which from now on is taken out of whatever is logged or told."""
    _secrets.add(value)
    return value


def without_secrets(text: str) -> str:
    """The text without known secrets: those read from files, and environment variables that are named like some."""
    named = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    # The longest first: one may be part of another.
    for value in sorted(_secrets | named, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text
