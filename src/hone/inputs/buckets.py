"""Data in buckets of other people, whose keys may be anything that S3 takes: Hone's own rules for keys do not hold."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hone.errors import UserError
from hone.storage.s3 import S3Store, bucket_and_key

FETCHES = 8
LONGEST_NAME = 200
"""Bytes of a file's name; what is longer is cut, and distinguished by a hash."""


def download(reference: str, scratch: Path) -> Path:
    """Copies the object `s3://bucket/key`, or all below it, into `scratch`. Raises UserError if nothing is there."""
    bucket, key = bucket_and_key(reference)
    store = S3Store(bucket, "")
    target = scratch / _local(key.rstrip("/").rpartition("/")[2] or bucket)
    if target.is_file():
        return target
    below = _below(store, key)
    if not below:
        if not key or key.endswith("/"):
            raise UserError(f"{reference} does not exist, or holds nothing; correct the address in the settings")
        try:
            store.download(key, target)
        except FileNotFoundError:
            raise UserError(f"{reference} does not exist; correct the address in the settings") from None
        return target
    places: dict[Path, str] = {}
    for own, whole in below.items():
        place = target.joinpath(*map(_local, own.split("/")))
        if places.setdefault(place, whole) != whole:
            raise UserError(f"{reference}: the keys {places[place]!r} and {whole!r} mean the same file; rename one")
    with ThreadPoolExecutor(FETCHES) as pool:
        list(pool.map(lambda item: item[0].is_file() or store.download(item[1], item[0]), places.items()))
    return target


def is_there(reference: str) -> bool:
    """Whether there is such an object, or anything below it; nothing is copied."""
    bucket, key = bucket_and_key(reference)
    store = S3Store(bucket, "")
    return any(one.key == key or key == "" or one.key.startswith(f"{key.rstrip('/')}/") for one in store.named(key))


def _below(store: S3Store, key: str) -> dict[str, str]:
    """Name below the folder to key, for each object in it; what only marks a folder is not an object."""
    start = key if key.endswith("/") or not key else f"{key}/"
    below = (one for one in store.named(start) if one.key != start)
    return {one.key[len(start) :]: one.key for one in below if not (one.key.endswith("/") and not one.size)}


def _local(name: str) -> str:
    """A name for a file that stands for one part of a key, which may be empty, dots, or too long."""
    if name in ("", ".", ".."):
        return f"%2F{name}"
    plain = name.replace("\0", "%00")
    if len(plain.encode()) <= LONGEST_NAME:
        return plain
    digest = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
    head, tail = plain.encode()[:150].decode("utf-8", "ignore"), plain.encode()[-30:].decode("utf-8", "ignore")
    return f"{head}-{digest}-{tail}"
