"""Preflight: fails in a minute what would otherwise fail after hours."""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from hone.config import ModelMark, Settings, SourceMark, marked
from hone.engine.scratch import scratch_folder
from hone.errors import TransientError, UserError
from hone.inputs import model_folder, references
from hone.settings import RunSettings
from hone.storage.base import Store, open_store

GIB = 1 << 30
SECONDS_TO_ANSWER = 10


class Needs(Settings):
    """Checks in a minute that the store can be written, that data and models are there and are the declared ones, and
    that GPU, secrets, scratch space and endpoints are as needed."""

    gpus: int = 0
    """GPUs that must be visible."""
    gpu_gib: int = 0
    """GiB of memory that each of them must have."""
    scratch_gib: int = 0
    """GiB that must be free for temporary files."""
    environment: str = ""
    """Environment variables that must be set, separated by commas."""
    digests: str = "{}"
    """Declared content of data and models: JSON, reference to sha256."""


def check(settings: RunSettings, store: Store, needs: Needs) -> None:
    """Prints what is all right, and raises one UserError that names everything that is not."""
    tell("preflight", _checks(settings, store, needs))


def tell(name: str, checks: Iterable[tuple[str, str]]) -> None:
    """Prints what each check found, and raises one UserError that names everything that is not all right."""
    problems: list[str] = []
    for what, found in checks:
        print(f"{name}: {what}: {found or 'all right'}", flush=True)
        problems += [found] if found else []
    if problems:
        raise UserError("; ".join(problems))


def _checks(settings: RunSettings, store: Store, needs: Needs) -> Iterator[tuple[str, str]]:
    yield f"store {store.uri} can be written", _store(store)
    folders = {name for config in settings.stages.values() for name in marked(config, ModelMark)}
    for reference in dict.fromkeys(name for config in settings.stages.values() for name in marked(config, SourceMark)):
        yield f"{reference} is there", _present(reference, model=reference in folders)
    for reference, digest in _declared(needs).items():
        yield f"{reference} is as declared", _as_declared(reference, digest)
    for name in filter(None, needs.environment.split(",")):
        yield f"{name} is set", "" if os.environ.get(name) else f"the environment variable {name} is not set"
    if needs.gpus:
        yield f"{needs.gpus} GPU of {needs.gpu_gib} GiB", missing_gpus(needs)
    free = shutil.disk_usage(tempfile.gettempdir()).free / GIB
    short = f"{tempfile.gettempdir()} has {free:.0f} GiB free; {needs.scratch_gib} GiB are needed"
    yield f"{needs.scratch_gib} GiB of scratch space", short if free < needs.scratch_gib else ""
    for address in dict.fromkeys(_addresses([config.model_dump() for config in settings.stages.values()])):
        yield f"{address} answers", _answers(address)


def _store(store: Store) -> str:
    try:
        store.check_writable()
    except (UserError, TransientError) as error:
        return str(error)
    return ""


def _present(reference: str, *, model: bool) -> str:
    """Looks without downloading: a model may be large."""
    try:
        if reference.startswith("s3://"):
            parent, _, name = reference.rstrip("/").rpartition("/")
            there = any(True for _ in open_store(parent).objects(name)) or open_store(parent).read(name) is not None
            return "" if there else f"{reference} does not exist; correct the address in the settings"
        found = references.local_path(reference, Path())
        if model:
            model_folder.check(found)
    except (UserError, TransientError) as error:
        return str(error)
    return ""


def _declared(needs: Needs) -> dict[str, str]:
    try:
        found: object = json.loads(needs.digests)
    except ValueError as error:
        raise UserError(f"digests is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError("digests is not a mapping of reference to sha256")
    return cast(dict[str, str], found)


def _as_declared(reference: str, digest: str) -> str:
    with scratch_folder() as scratch:
        try:
            found = references.content_digest(references.local_path(reference, scratch))
        except (UserError, TransientError) as error:
            return str(error)
    return "" if found == digest else f"{reference} has the digest {found}, not the declared {digest}"


def missing_gpus(needs: Needs) -> str:
    """What is wrong with the GPUs that nvidia-smi shows, if anything."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return f"no GPU is visible ({error}); ask for one in the profile"
    gpus = [(name, round(int(memory) / 1024)) for name, _, memory in (line.rpartition(", ") for line in lines)]
    fit = [name for name, memory in gpus if memory >= needs.gpu_gib]
    if len(fit) < needs.gpus:
        there = ", ".join(f"{name} with {memory} GiB" for name, memory in gpus)
        return f"{needs.gpus} GPU of {needs.gpu_gib} GiB are needed; there is {there or 'none'}"
    return ""


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _addresses(list(cast(Mapping[str, Any], value).values()))
    elif isinstance(value, (list, tuple)):
        for item in cast(list[Any], value):
            yield from _addresses(item)
    elif isinstance(value, str) and value.startswith(("http://", "https://")):
        yield value


def _answers(address: str) -> str:
    """Any HTTP answer counts, a refusal too: the server is there."""
    try:
        urllib.request.urlopen(address, timeout=SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return f"{address} does not answer ({error})"
    return ""
