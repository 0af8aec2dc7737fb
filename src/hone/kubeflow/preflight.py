"""Preflight: fails in a minute what would otherwise fail after hours."""

import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from hone.config import ModelMark, Settings, SourceMark, marked
from hone.engine import runner
from hone.errors import TransientError, UserError
from hone.inputs import buckets, model_folder, references
from hone.scratch import scratch_folder
from hone.settings import RunSettings, parse_yaml
from hone.storage.addresses import FORMS, is_remote
from hone.storage.base import Store

GIB = 1 << 30
SLICE = re.compile(r"\s*MIG (\S*?(\d+)gb\S*)\s+Device")
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
ARGO_NAMESPACE = "kubeflow"
POLICIES = {
    "Always": "every failed or lost task is started again",
    "OnFailure": "a task that failed is started again, one whose pod was deleted is not",
    "OnError": "only a task whose pod was lost is started again; `hone submit --retries N` starts failed runs again",
    "OnTransientError": "only errors that Argo takes for passing are tried again",
}
"""What each of Argo's retry policies means for a task."""
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
    report("preflight", _checks(settings, store, needs))


def report(name: str, checks: Iterable[tuple[str, str]]) -> None:
    """Prints what each check found, and raises one UserError that names everything that is not all right."""
    problems: list[str] = []
    for what, answer in checks:
        print(f"{name}: {what}: {answer or 'all right'}", flush=True)
        problems += [answer] if answer else []
    if problems:
        raise UserError("; ".join(problems))


def _checks(settings: RunSettings, store: Store, needs: Needs) -> Iterator[tuple[str, str]]:
    yield f"store {store.uri} can be written", _fault_of(store.check_writable)
    if not runner.left_out("encode", settings, {}):
        yield f"{runner.vectors_out(settings)} can be written", _vectors_go(settings, store)
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


def _fault_of(look: Callable[[], None]) -> str:
    try:
        look()
    except (UserError, TransientError) as error:
        return str(error)
    return ""


def _vectors_go(settings: RunSettings, store: Store) -> str:
    out = runner.vectors_out(settings)
    if is_remote(store.uri) and not is_remote(out):
        return f"encode.out: {out} is a folder of a task, which is gone when that ends; write {FORMS}"
    return _fault_of(lambda: runner.look_where_vectors_go(settings))


def _present(reference: str, *, model: bool) -> str:
    """Looks without downloading: a model may be large."""
    try:
        if is_remote(reference):
            there = buckets.is_there(reference)
            return "" if there else f"{reference} does not exist; correct the address in the settings"
        path = references.local_path(reference, Path())
        if model:
            model_folder.check(path)
    except (UserError, TransientError) as error:
        return str(error)
    return ""


def _declared(needs: Needs) -> dict[str, str]:
    try:
        content: object = json.loads(needs.digests)
    except ValueError as error:
        raise UserError(f"digests is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError("digests is not a mapping of reference to sha256")
    return cast(dict[str, str], content)


def _as_declared(reference: str, digest: str) -> str:
    with scratch_folder() as scratch:
        try:
            actual = references.content_digest(references.local_path(reference, scratch))
        except (UserError, TransientError) as error:
            return str(error)
    return "" if actual == digest else f"{reference} has the digest {actual}, not the declared {digest}"


def missing_gpus(needs: Needs) -> str:
    """What is wrong with the GPUs that nvidia-smi shows, if anything."""
    try:
        gpus = _slices() or _gpus()
    except (OSError, subprocess.SubprocessError) as error:
        return f"no GPU is visible ({error}); ask for one in the profile"
    fit = [name for name, memory in gpus if memory is None or memory >= needs.gpu_gib]
    if len(fit) < needs.gpus:
        there = ", ".join(f"{name} with {memory} GiB" for name, memory in gpus)
        return f"{needs.gpus} GPU of {needs.gpu_gib} GiB are needed; there is {there or 'none'}"
    if any(memory is None for _, memory in gpus):
        print("preflight: nvidia-smi does not say how much memory the GPU has; it is assumed to be enough")
    return ""


def _slices() -> list[tuple[str, int | None]]:
    """The slices of a GPU that this container sees, with their GiB as their profile names it, such as 3g.40gb."""
    slices = (SLICE.match(line) for line in _nvidia_smi("-L"))
    return [(f"MIG {one[1]}", int(one[2])) for one in slices if one]


def _gpus() -> list[tuple[str, int | None]]:
    """Whole GPUs with their GiB, or None where the driver keeps it to itself, as it does of a GPU that is cut up."""
    rows = (
        line.rpartition(", ") for line in _nvidia_smi("--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
    )
    return [(name, round(int(memory) / 1024) if memory.strip().isdigit() else None) for name, _, memory in rows if name]


def _nvidia_smi(*options: str) -> list[str]:
    ran = subprocess.run(["nvidia-smi", *options], capture_output=True, text=True, check=True, timeout=30)
    return ran.stdout.splitlines()


def retries_told() -> str:
    """Which failures the platform's Argo starts a task again after, as far as this pod may know."""
    folder, host = Path(ACCOUNT), os.environ.get("KUBERNETES_SERVICE_HOST", "")
    if not host or not (folder / "token").is_file():
        return "not known outside a cluster"
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"https://{host}:{port}/api/v1/namespaces/{ARGO_NAMESPACE}/configmaps/workflow-controller-configmap"
    asked = urllib.request.Request(address, headers={"Authorization": f"Bearer {(folder / 'token').read_text()}"})
    try:
        trust = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        with urllib.request.urlopen(asked, timeout=SECONDS_TO_ANSWER, context=trust) as answer:
            return retry_policy(json.load(answer).get("data", {}))
    except (OSError, ValueError) as error:
        return f"not known: this account may not read Argo's settings ({error})"


def retry_policy(data: Mapping[str, str]) -> str:
    """What Argo's own settings make of a task that fails: those in workflowDefaults are merged under the task's."""
    defaults = parse_yaml(data.get("workflowDefaults") or "{}", "workflowDefaults")
    template: Any = (defaults.get("spec") or {}).get("templateDefaults") or {}
    policy = str((template.get("retryStrategy") or {}).get("retryPolicy") or "OnFailure")
    return f"{policy}: {POLICIES.get(policy, 'see the documentation of Argo')}"


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
