"""Small JSON objects that vouch for themselves: manifests, run records, checkpoints, releases, moves and leases.

Each carries the number of its `schema` and a `digest` of all the rest: a flipped bit is noticed, while white space may
change. What was stored before there were digests has neither key and is read as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

from hone.errors import UserError
from hone.storage.base import Store

SCHEMA = 2
"""Raised with every change of what any of these objects holds; 1 had no digest."""
OWN = ("schema", "digest")
READS = 4
"""Before an object is called damaged; fewer if two in a row gave the same bytes."""


class SealError(ValueError):
    """Why an object is not as it was written."""


class NewerError(UserError):
    """A newer Hone wrote an object: it is whole, and this Hone cannot know what it says."""


def seal(content: Mapping[str, Any]) -> bytes:
    """The object as it is stored: `content`, which is plain data with text keys, with its schema and digest."""
    body = {"schema": SCHEMA, **content}
    return json.dumps({**body, "digest": _digest(body)}, indent=1).encode()


def read_sealed(store: Store, key: str) -> dict[str, Any] | None:
    """The content of a stored object, or None if there is none.

    What cannot be right is read again before it is believed: a proxy may have answered in the store's place.
    Raises SealError if it is damaged, NewerError if a newer Hone wrote it.
    """
    data = store.read(key)
    for left in reversed(range(READS)):
        if data is None:
            return None
        try:
            return unseal(data, f"{key} in {store.uri}")
        except SealError:
            before, data = data, store.read(key)
            if data == before or not left:
                raise
    raise AssertionError


def unseal(data: bytes, what: str = "it") -> dict[str, Any]:
    """The content of a stored object. Raises SealError if it is damaged, NewerError if this Hone cannot know it."""
    try:
        content: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SealError("it is not valid JSON") from error
    if not isinstance(content, dict):
        raise SealError("it is not a JSON object")
    body = cast(dict[str, Any], content)
    if not any(name in body for name in OWN):
        return body
    if body.pop("digest", "") != _digest(body):
        raise SealError("its digest does not match its content")
    schema = body.pop("schema", None)
    if not isinstance(schema, int) or schema > SCHEMA:
        known = f"schema {schema}; this one knows {SCHEMA} and older"
        raise NewerError(f"{what} was written by a newer Hone ({known}); use that version, or another --store")
    return body


def _digest(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
