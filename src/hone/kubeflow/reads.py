"""What a run would read, distinguished by content from this machine as cheaply as can be: nothing is downloaded."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hone.config import SourceMark, marked
from hone.inputs.references import content_digest
from hone.settings import RunSettings
from hone.storage.addresses import is_remote
from hone.storage.s3 import bucket_and_key

SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 5, 20


@dataclass(frozen=True)
class Reads:
    """A digest over everything a run reads, and what could not be looked at from here."""

    digest: str
    unseen: tuple[str, ...]


def look(settings: RunSettings, *others: str) -> Reads:
    """Lists what the settings, and `others` beside them, refer to: at S3 by names, sizes and checksums (ETag), in a
    local folder by content. What lies only in the cluster stays unseen."""
    references = {name for config in settings.stages.values() for name in marked(config, SourceMark)}
    seen, unseen = hashlib.sha256(), list[str]()
    for reference in sorted({*references, *filter(None, others)}):
        listing = _listed(reference)
        seen.update(f"{reference}\0{listing}\0".encode())
        unseen += [] if listing else [reference]
    return Reads(seen.hexdigest(), tuple(unseen))


def _listed(reference: str) -> str:
    if reference.startswith("package:"):
        return reference
    if is_remote(reference):
        return _at_s3(reference)
    return content_digest(Path(reference)) if Path(reference).exists() else ""


def _at_s3(reference: str) -> str:
    """A digest over names, sizes and checksums of what lies at an address; empty where it cannot be listed from here.

    A machine that submits may have other rights than the tasks, or none: it asks once and does not insist.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, prefix = bucket_and_key(reference.rstrip("/"))
    config = Config(
        connect_timeout=SECONDS_TO_CONNECT,
        read_timeout=SECONDS_TO_ANSWER,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": "path"},
    )
    lines: list[str] = []
    try:
        pages: Any = cast(Any, boto3).Session().client("s3", config=config).get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", []):
                # The prefix alone would take in neighbours: corpus/ and corpus-old/.
                if one["Key"] == prefix or not prefix or one["Key"].startswith(f"{prefix}/"):
                    lines.append(f"{one['Key']} {one['Size']} {one['ETag']}")
    except (BotoCoreError, ClientError, ValueError):
        return ""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""
