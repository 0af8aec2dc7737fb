"""What a finished result says of itself: the manifest, its outputs and their parts.

A result is done when its manifest is there, and the manifest is written last. Readers trust nothing else.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from hone import tables
from hone.config import Settings
from hone.errors import UserError
from hone.log import log
from hone.spent import Spent
from hone.storage.base import Store, checked_key
from hone.storage.sealed import NewerError, SealError, read_sealed, seal
from hone.tables import Folder


class Part(Settings):
    """One file of an output."""

    path: str
    rows: int
    bytes: int
    sha256: str


class Output(Settings):
    """One table or folder a stage wrote. `digest` is a hash over its parts' hashes."""

    digest: str
    rows: int
    parts: tuple[Part, ...]


class Manifest(Settings):
    """What a stage did, from what, with what result and at what cost."""

    stage: str
    fingerprint: str
    code: str
    version: str
    config: dict[str, Any]
    sources: dict[str, str]
    inputs: dict[str, str]
    """Input name to the prefix of the stage result it was read from; `RUN/TABLE` is one of another run."""
    input_digests: dict[str, str]
    outputs: dict[str, Output]
    history: str = ""
    """Digest of what this stage and all before it say of themselves: fingerprints, facts and costs."""
    facts: dict[str, Any]
    cost: dict[str, float]
    seconds: float
    """What the work itself took, uploading what it wrote included."""
    overhead: float = 0.0
    """Seconds around the work: planning, hashing what is read, leases and records. Where one process runs a chain, all
    since the work of the stage before ended."""
    spent: dict[str, Spent] = Field(default_factory=dict[str, Spent])
    """The seconds of the work, of the clock and of the processor, by what they grow with (`hone.spent`)."""

    @property
    def prefix(self) -> str:
        return f"{self.stage}/{self.fingerprint}"

    def stored(self) -> bytes:
        """The manifest as it lies in a store, with a digest of itself."""
        return seal(self.model_dump(mode="json"))

    def output(self, table: str) -> Output:
        """An output, by the name under which a stage reads it."""
        return self.outputs[table.rpartition("/")[2]]

    @property
    def own_inputs(self) -> dict[str, str]:
        """Those inputs that are of the same run."""
        return {table: prefix for table, prefix in self.inputs.items() if "/" not in table}

    def place(self, name: str) -> str:
        """The key of the folder that holds an output's parts."""
        return f"{self.prefix}/{self.outputs[name].parts[0].path.partition('/')[0]}"


def load_manifest(store: Store, key: str) -> Manifest | None:
    """A manifest, or None if there is none. Raises UserError if it is not one that was written under this key."""
    try:
        content = read_sealed(store, key)
        if content is None:
            return None
        manifest = Manifest.model_validate(content)
        flaw = _flaw(manifest, key.rpartition("/")[0])
    except NewerError:
        raise
    except (SealError, ValidationError, UserError) as error:
        flaw = str(error).partition("\n")[0]
    else:
        if not flaw:
            return manifest
    raise damaged(store, key, flaw)


def damaged(store: Store, key: str, flaw: str) -> UserError:
    """The error that a manifest is not as it was written."""
    log.error("manifest damaged", manifest=key, flaw=flaw)
    return UserError(f"{key} in {store.uri} is damaged ({flaw}); {remedy(key.rpartition('/')[0])}")


def _flaw(manifest: Manifest, prefix: str) -> str:
    """What shows that a manifest is not as it was written, empty if nothing does. Raises UserError on unsafe paths."""
    if manifest.prefix != prefix:
        return f"it belongs to {manifest.prefix[:80]!r}"
    for key in manifest.inputs.values():
        checked_key(key)
    for name, output in manifest.outputs.items():
        if name not in tables.OUTPUTS and name not in tables.RETIRED:
            return f"{name[:80]!r} is neither a table nor a folder"
        if isinstance(tables.OUTPUTS.get(name), Folder) and not output.parts:
            return f"{name} is empty"
        if output != output_of(list(output.parts)):
            return f"{name} is not the sum of its parts"
        for part in output.parts:
            if not checked_key(part.path).startswith((f"{name}/", f"{name}-")) or min(part.rows, part.bytes) < 0:
                return f"{part.path[:80]!r} is not part of {name}"
    return ""


def missing_parts(manifest: Manifest, sizes: Mapping[str, int]) -> list[Part]:
    """The parts that are not among the listed keys with the right size in bytes; a listing may be seconds behind."""
    parts = (part for output in manifest.outputs.values() for part in output.parts)
    return [part for part in parts if sizes.get(f"{manifest.prefix}/{part.path}") != part.bytes]


def lineage(store: Store, inputs: Mapping[str, Manifest]) -> dict[str, Manifest]:
    """The manifests of every stage of a run that `inputs` come from, by stage, each after those that it was made from.
    Results of other runs, which several may stand for one stage, are left out."""
    ancestors: dict[str, Manifest] = {}

    def add(manifest: Manifest) -> None:
        if manifest.stage in ancestors:
            return
        for prefix in sorted(set(manifest.own_inputs.values())):
            if parent := load_manifest(store, f"{prefix}/manifest.json"):
                add(parent)
        ancestors[manifest.stage] = manifest

    for table, manifest in inputs.items():
        if "/" not in table:
            add(manifest)
    return ancestors


def remedy(prefix: str) -> str:
    """What to do about a damaged result."""
    return f"`hone repair {prefix}` makes it again"


def output_of(parts: list[Part]) -> Output:
    """The output that these parts make up."""
    digest = digest_of([part.sha256 for part in parts])
    return Output(digest=digest, rows=sum(part.rows for part in parts), parts=tuple(parts))


def digest_of(value: object) -> str:
    """sha256 (hex) of a value of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
