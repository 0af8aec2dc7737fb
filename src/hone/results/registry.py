"""The registry of published models, in the store: what serves a domain now, and what served it before.

    models/<domain>/<version>/          a whole model, never changed; release.json, written last, lists its files
    models/<domain>/current/<n>.json    the n-th move of the pointer; the highest number says which version is current

A move is one conditional write of the next number: of two publishers one gets it and the other learns who did.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from hone.config import Settings
from hone.errors import UserError
from hone.results.manifest import Part
from hone.results.table_io import fetch_parts, refuse_unstored, verify_stored
from hone.storage.base import Store, checked_key, sha256_of
from hone.storage.leases import who
from hone.storage.sealed import SealError, read_sealed, seal

T = TypeVar("T", bound=Settings)

NAME = r"[a-z0-9][a-z0-9_-]*"
"""Domains and versions: plain segments of a key."""


class Start(Settings):
    """The published model that a training starts from; empty for the base."""

    domain: str = ""
    """Under which it was published."""
    version: str = ""
    """Its version."""
    model: str = ""
    """The digest of its model."""
    tests: str = ""
    """The result of prepare that holds the queries it was tested with."""


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
    lists: str = ""
    """Digest of the lists that it was trained on."""
    tests: str = ""
    """The result of prepare that holds the queries it was tested with."""
    start: Start = Start()
    """What its training started from."""
    parts: tuple[Part, ...]
    """Every file, by its path below the version."""


class Move(Settings):
    """One move of a domain's pointer."""

    number: int
    version: str
    action: str
    """publish, promote or rollback."""
    by: str = Field(default_factory=who)
    at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def domains(store: Store) -> list[str]:
    """Every domain that has been published to."""
    places = (listed.key.split("/") for listed in store.objects("models"))
    return sorted({place[1] for place in places if len(place) == 4 and place[2] == "current"})


def moves(store: Store, domain: str) -> list[Move]:
    """All moves of a domain's pointer, oldest first; the last says what is current. Raises UserError on damage.

    They are numbered without a gap, and the next is always looked for: a listing may be some seconds behind.
    """
    listed = [Path(one.key).stem for one in store.objects(f"models/{domain}/current")]
    last = max((int(name) for name in listed if name.isdecimal()), default=0)
    made: list[Move] = []
    while (step := _read(store, key := _pointer(domain, len(made) + 1), Move)) or len(made) < last:
        if step is None or step.number != len(made) + 1:
            raise _damaged(store, key, f"it says that it is move {step.number}" if step else "it is missing")
        made.append(step)
    return made


def current(store: Store, domain: str) -> Release | None:
    """What serves a domain now, its files not looked at; None if nothing does. Raises UserError on damage."""
    made = moves(store, domain)
    return _release(store, domain, made[-1].version) if made else None


def start_after(store: Store, domain: str, lists: str) -> Start:
    """What a training on these lists starts from: the current model of a domain, or where that was trained on these
    very lists, what it was started from itself; an unchanged night then finds its results. Raises UserError."""
    published = current(store, domain)
    if published is None:
        return Start()
    if published.lists == lists:
        return published.start
    return Start(domain=domain, version=published.version, model=published.model, tests=published.tests)


def fetch(store: Store, domain: str, version: str, scratch: Path) -> Path:
    """A version as a local folder, every file verified. Raises UserError if there is none or it is damaged."""
    chosen = _release(store, domain, version)
    if chosen is None:
        raise UserError(f"{domain} has no version {version!r} in {store.uri}; run again, from what is current now")
    paths = list(fetch_parts(store, f"models/{domain}/{version}", chosen.parts, scratch))
    return paths[0].parents[len(Path(chosen.parts[0].path).parts) - 1]


def releases(store: Store, domain: str) -> Iterator[Release]:
    """Every whole version of a domain. Raises UserError on damage."""
    for listed in list(store.objects(f"models/{domain}")):
        place = listed.key.split("/")
        if len(place) == 4 and place[3] == "release.json" and (known := _release(store, domain, place[2])):
            yield known


def release(store: Store, domain: str, version: str) -> Release:
    """One version, every byte of it compared. Raises UserError if there is none of that name or it is damaged."""
    for name in (domain, version):
        if not re.fullmatch(NAME, name):
            raise UserError(f"{name!r} is not a valid registry name; use lower-case letters, digits, - and _")
    chosen = _release(store, domain, version)
    if chosen is None:
        known = ", ".join(sorted(chosen.version for chosen in releases(store, domain))) or "none"
        raise UserError(f"{domain} has no version {version!r} in {store.uri}; the versions are {known}")
    for flaw in flaws_of(store, chosen):
        raise UserError(flaw)
    return chosen


def flaws_of(store: Store, one: Release) -> Iterator[str]:
    """What is wrong with the files of a version, one line each; every byte is read."""
    prefix = f"models/{one.domain}/{one.version}"
    for key in verify_stored(store, prefix, one.parts):
        yield f"{key} in {store.uri} is missing or damaged; publish again"


def flaws(store: Store) -> Iterator[str]:
    """What is wrong with any domain, one line each: its moves, what they name, and every file of every version."""
    places = sorted({tuple(found.key.split("/")[1:3]) for found in store.objects("models")})
    for domain, place in (found for found in places if len(found) == 2):
        try:
            if place == "current":
                names = {move.version for move in moves(store, domain)}
                missing = sorted(name for name in names if _release(store, domain, name) is None)
                cure = f"publish it again, or make another current: `hone registry promote {domain} VERSION`"
                yield from (f"models/{domain}/current names {name!r}, which is not there; {cure}" for name in missing)
            elif found := _release(store, domain, place):
                yield from flaws_of(store, found)
        except UserError as error:
            yield str(error)


def parts_of(folder: Path) -> tuple[Part, ...]:
    """Every file of a folder, by its path below it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple(
        Part(path=file.relative_to(folder).as_posix(), rows=0, bytes=file.stat().st_size, sha256=sha256_of(file))
        for file in files
    )


def add(store: Store, new: Release, folder: Path) -> None:
    """Uploads a version: its files first, release.json last. The same version again changes nothing."""
    prefix = f"models/{new.domain}/{new.version}"
    if store.read(f"{prefix}/release.json") is None:
        for part in new.parts:
            store.put(f"{prefix}/{part.path}", folder / part.path)
        refuse_unstored(store, prefix, new.parts)
        store.create(f"{prefix}/release.json", seal(new.model_dump(mode="json")))


def move(store: Store, domain: str, version: str, action: str, seen: list[Move]) -> Move:
    """Makes a version current, if the pointer still is where it was `seen`; naming the current version moves nothing.

    Raises UserError that says who moved it in between.
    """
    if seen and seen[-1].version == version:
        return seen[-1]
    release(store, domain, version)
    wanted = Move(number=len(seen) + 1, version=version, action=action)
    if store.create(_pointer(domain, wanted.number), seal(wanted.model_dump(mode="json"))):
        return wanted
    other = _read(store, _pointer(domain, wanted.number), Move) or wanted
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


def _release(store: Store, domain: str, version: str) -> Release | None:
    key = f"models/{domain}/{version}/release.json"
    stored = _read(store, key, Release)
    if stored and (stored.domain, stored.version) != (domain, version):
        raise _damaged(store, key, f"it belongs to {stored.domain[:40]!r}, {stored.version[:40]!r}")
    for part in stored.parts if stored else ():
        checked_key(part.path)
    return stored


def _read(store: Store, key: str, kind: type[T]) -> T | None:
    try:
        content: dict[str, Any] | None = read_sealed(store, key)
        return None if content is None else kind.model_validate(content)
    except (SealError, ValidationError) as error:
        raise _damaged(store, key, str(error).partition("\n")[0]) from error


def _damaged(store: Store, key: str, flaw: str) -> UserError:
    return UserError(
        f"{key} in {store.uri} is damaged ({flaw}); bring it back from a copy of the store, or publish again"
    )
