"""The registry of published models, in the store: what serves a domain now, and what served it before.

    models/<domain>/<version>/          a whole model, never changed; release.json, written last, lists its files
    models/<domain>/current/<n>.json    the n-th move of the pointer; the highest number says which version is current

A move is one conditional write of the next number: of two publishers one gets it and the other is told who did.
"""

import getpass
import platform
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from hone.config import Settings
from hone.errors import UserError
from hone.results.manifest import Part
from hone.storage.base import Store, sha256_of

NAME = r"[a-z0-9][a-z0-9_-]*"
"""Domains and versions: plain segments of a key."""


class Release(Settings):
    """One version of a domain's model: where it came from and every file of it."""

    domain: str
    version: str
    model: str
    """Digest of the model that the verdict is about."""
    verdict: str
    """Digest of the verdict folder."""
    finding: str
    """The gain in one sentence."""
    parts: tuple[Part, ...]
    """Every file, by its path below the version."""


class Move(Settings):
    """One move of a domain's pointer."""

    number: int
    version: str
    action: str
    """publish, promote or rollback."""
    by: str = Field(default_factory=lambda: _who())
    at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def domains(store: Store) -> list[str]:
    """Every domain that has been published to."""
    places = (found.key.split("/") for found in store.objects("models"))
    return sorted({place[1] for place in places if place[2] == "current"})


def moves(store: Store, domain: str) -> list[Move]:
    """All moves of a domain's pointer, oldest first; the last says what is current."""
    made = store.objects(f"models/{domain}/current")
    return [Move.model_validate_json(store.read(found.key) or b"") for found in made]


def releases(store: Store, domain: str) -> Iterator[Release]:
    """Every whole version of a domain."""
    for found in store.objects(f"models/{domain}"):
        if found.key.endswith("/release.json"):
            yield Release.model_validate_json(store.read(found.key) or b"")


def release(store: Store, domain: str, version: str) -> Release:
    """One whole version. Raises UserError if there is none of that name, or if a file of it is missing."""
    for name in (domain, version):
        if not re.fullmatch(NAME, name):
            raise UserError(f"{name!r} is no name of the registry; use lower-case letters, digits, - and _")
    data = store.read(f"models/{domain}/{version}/release.json")
    if data is None:
        known = ", ".join(sorted(found.version for found in releases(store, domain))) or "none"
        raise UserError(f"{domain} has no version {version!r} in {store.uri}; the versions are {known}")
    found = Release.model_validate_json(data)
    sizes = {there.key: there.size for there in store.objects(f"models/{domain}/{version}")}
    for part in found.parts:
        if sizes.get(f"models/{domain}/{version}/{part.path}") != part.bytes:
            raise UserError(
                f"models/{domain}/{version}/{part.path} in {store.uri} is missing or cut short; publish again"
            )
    return found


def parts_of(folder: Path) -> tuple[Part, ...]:
    """Every file of a folder, by its path below it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        Part(path=file.relative_to(folder).as_posix(), rows=0, bytes=file.stat().st_size, sha256=sha256_of(file))
        for file in files
    )


def add(store: Store, found: Release, folder: Path) -> None:
    """Uploads a version: its files first, release.json last. The same version again changes nothing."""
    prefix = f"models/{found.domain}/{found.version}"
    if store.read(f"{prefix}/release.json") is None:
        for part in found.parts:
            store.put(f"{prefix}/{part.path}", folder / part.path)
        store.create(f"{prefix}/release.json", found.model_dump_json(indent=1).encode())


def move(store: Store, domain: str, version: str, action: str, seen: list[Move]) -> Move:
    """Makes a version current, if the pointer still is where it was `seen`; naming the current version moves nothing.

    Raises UserError that says who moved it in between.
    """
    if seen and seen[-1].version == version:
        return seen[-1]
    release(store, domain, version)
    wanted = Move(number=len(seen) + 1, version=version, action=action)
    if store.create(_pointer(domain, wanted.number), wanted.model_dump_json(indent=1).encode()):
        return wanted
    other = moves(store, domain)[wanted.number - 1]
    raise UserError(
        f"{domain} was moved to version {other.version} by {other.by} at {other.at} ({other.action}) while this ran; "
        f"look with `hone registry show {domain}`, and run again to put {version} on top"
    )


def rollback(store: Store, domain: str) -> Move:
    """Makes the version before the current one current again. Raises UserError if there is none."""
    seen = moves(store, domain)
    served: list[str] = []
    for step in seen:
        if step.action == "rollback":
            served.pop()
        else:
            served.append(step.version)
    if len(served) < 2:
        raise UserError(
            f"{domain} has no version before the current one in {store.uri}; there is nothing to go back to"
        )
    return move(store, domain, served[-2], "rollback", seen)


def _pointer(domain: str, number: int) -> str:
    return f"models/{domain}/current/{number:08d}.json"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return f"{user}@{platform.node()}"
