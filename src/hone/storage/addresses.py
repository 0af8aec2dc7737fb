"""Which store an address means. A new kind of store is one file and one row here."""

from collections.abc import Callable
from pathlib import Path

from hone.errors import UserError
from hone.secrets import address_alone
from hone.storage.base import Store
from hone.storage.local import LocalStore
from hone.storage.s3 import S3Store

SCHEMES: dict[str, Callable[[str], Store]] = {"s3": S3Store.at}
"""Scheme of an address to what opens it. An address without one is a local folder."""
FORMS = "s3://bucket/prefix"


def is_remote(address: str) -> bool:
    """Whether an address means a store that is not a local folder."""
    scheme, mark, _ = address.partition("://")
    return bool(mark) and scheme in SCHEMES


def open_store(uri: str) -> Store:
    """`s3://bucket/prefix`, or the path of a local folder (made when first written to). Raises UserError."""
    scheme, mark, _ = uri.partition("://")
    if not mark:
        return LocalStore(Path(uri))
    if scheme not in SCHEMES:
        raise UserError(f"store {address_alone(uri)!r} is neither a folder nor {FORMS}")
    return SCHEMES[scheme](uri)
