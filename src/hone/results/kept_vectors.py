"""What `hone search` maps: vectors of a run's documents, and the weights that encode queries, kept in the store.

memo/search/IDENTITY/SHA256.arrow, SHA256.safetensors     the files
memo/search/IDENTITY/files.json                           their names, and the digests of what they were made from
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hone.log import log
from hone.storage.base import ReadOnlyError, Store, sha256_of
from hone.storage.sealed import SealError, read_sealed, seal

FOLDER = "memo/search"


def place(made_from: Sequence[str], settings: Any) -> str:
    """Where the files lie that are made from contents of these digests, documents and model, with these settings."""
    identity = json.dumps([made_from[0], settings, *made_from[1:]])
    return f"{FOLDER}/{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


def fetched(store: Store, place: str, scratch: Path) -> tuple[Path, Path | None] | None:
    """The files that were kept, verified; None if there are none, or one is damaged: then they are made again."""
    try:
        names = _listed(store, place).get("names")
        if names is None:
            return None
        files = [store.fetch(f"{place}/{name}", scratch) for name in names]
    except (SealError, FileNotFoundError):
        return None
    if any(file.sha256 != name.partition(".")[0] for file, name in zip(files, names, strict=True)):
        log.warning("kept vectors damaged", place=place)
        return None
    return files[0].path, files[1].path if len(files) > 1 else None


def keep(store: Store, place: str, made_from: Sequence[str], *files: Path) -> None:
    """Files under names that are their sha256, and last of all the list of them."""
    named = {f"{sha256_of(file)}{file.suffix}": file for file in files}
    try:
        for name, file in named.items():
            store.put(f"{place}/{name}", file)
        store.replace(f"{place}/files.json", seal({"names": list(named), "made_from": list(made_from)}))
    except ReadOnlyError as error:  # such a store can be searched too, and pays for it each time
        log.warning("vectors not kept", place=place, error=str(error))


def made_from(store: Store, place: str) -> set[str]:
    """The digests of what the files at a place were made from; empty where that is not known."""
    try:
        return set(_listed(store, place).get("made_from", ()))
    except SealError:
        return set()


def _listed(store: Store, place: str) -> dict[str, Any]:
    return read_sealed(store, f"{place}/files.json") or {}
