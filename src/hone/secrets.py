"""The one place that keeps secrets out of what is said and kept, and out of settings.

Known secrets (read from files, or held by an environment variable that is named like one) are taken out as they are;
the rest by form: user names and queries of addresses, headers, `password=...`, and values that look like keys.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|KEY", re.IGNORECASE)
SHORTEST_SECRET = 8
HIDDEN = "***"
ADDRESS = re.compile(r"""\b([a-z][a-z0-9+.-]*://)([^\s/?#'"<>\\]*@)?([^\s?'"<>\\]*)(\?[^\s'"<>\\]*)?""", re.IGNORECASE)
HEADER = re.compile(
    r"""\b((?:proxy-)?authorization|x-api-key|api-key|x-auth-token|(?:set-)?cookie)"""
    r"""(["']?\s*[:=]\s*["']?)((?:bearer|basic|token|negotiate)\s+)?[^\s"'\\,}]+""",
    re.IGNORECASE,
)
SCHEME = re.compile(r"\b(bearer|basic)(\s+)(?=[^\s\"']*[0-9=+/._-])[A-Za-z0-9+/=._~-]{8,}", re.IGNORECASE)
NAMED = re.compile(
    r"""([\w-]*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|signature|credentials?))"""
    r"""(\\?["']?\s*[:=]\s*\\?["']?)([A-Za-z0-9+/=._~%!@#$^&*-]{6,})""",
    re.IGNORECASE,
)
"""A name and its value, in `name=value`, in JSON, or in JSON within JSON."""
KEY_LIKE = re.compile(
    r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|glpat-[\w-]{16,}"
    r"|xox[a-z]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?"
)
SENT_ALONG = re.compile(r"authorization\W+(basic|bearer)\s+\S{8,}", re.IGNORECASE)
"""A header with what it lets in."""
NUMBER = re.compile(r"[\d.,]+|true|false|none|null", re.IGNORECASE)
SECRET_SETTING = re.compile(
    r"(.*[_-])?(api[_-]?key|password|passwd|secret|token|authorization|access[_-]?key(?:[_-]?id)?|credentials?)",
    re.IGNORECASE,
)
SECRET_PARAMETER = re.compile(
    r"[?&](x-(?:amz|goog)-(?:signature|credential|security-token)|[^=&\s]*(?:token|key|secret|password|passwd|auth|sig"
    r"|signature|credential))=[^&\s]",
    re.IGNORECASE,
)
INSTEAD = "keys come from the environment or a mounted file"
_secrets: set[str] = set()


def secret(value: str) -> str:
    """The value itself, which from now on is taken out of whatever is said or kept."""
    _secrets.add(value)
    return value


def without_secrets(text: str) -> str:
    """The text as it may be said and kept."""
    named = {value for name, value in os.environ.items() if SECRET_NAME.search(name)}
    # The longest first: one may be part of another.
    for value in sorted(_secrets | named, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    text = ADDRESS.sub(lambda found: f"{found[1]}{found[3]}{f'?{HIDDEN}' if found[4] else ''}", text)
    text = HEADER.sub(lambda found: f"{found[1]}{found[2]}{found[3] or ''}{HIDDEN}", text)
    text = SCHEME.sub(rf"\1\2{HIDDEN}", text)
    text = NAMED.sub(lambda found: found[0] if NUMBER.fullmatch(found[3]) else f"{found[1]}{found[2]}{HIDDEN}", text)
    return KEY_LIKE.sub(HIDDEN, text)


def address_alone(address: str) -> str:
    """An address without user name, password and query."""
    return ADDRESS.sub(r"\1\3", address)


def secrets_in(value: object, path: Sequence[str] = ()) -> Iterator[str]:
    """One clause for each secret in settings: where it stands, and what it is; never the secret itself."""
    if isinstance(value, Mapping):
        for key, inner in cast(Mapping[object, object], value).items():
            if flaw := _secret_of(str(key)):
                yield f"a name in {'.'.join(path) or 'the settings'}: {flaw}"
                continue
            place = (*path, str(key))
            if isinstance(inner, str) and inner and SECRET_SETTING.fullmatch(str(key)):
                yield f"{'.'.join(place)} holds a secret"
            else:
                yield from secrets_in(inner, place)
    elif isinstance(value, (list, tuple)):
        for inner in cast(Sequence[object], value):
            yield from secrets_in(inner, path)
    elif isinstance(value, str) and (flaw := _secret_of(value)):
        yield f"{'.'.join(path)}: {flaw}"


def _secret_of(text: str) -> str:
    """What kind of secret a text holds; empty if none."""
    for address in ADDRESS.finditer(text):
        shown = f"{address[1]}..."
        if address[2]:
            return f"{shown} holds a password" if ":" in address[2] else f"{shown} holds a user name or token"
        if address[4] and SECRET_PARAMETER.search(address[4]):
            return f"{shown} holds a key in its query"
    return "it holds what looks like a key" if KEY_LIKE.search(text) or SENT_ALONG.search(text) else ""
