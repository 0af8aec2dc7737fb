"""What a domain's runner may do at S3, as a policy document: its own store, and what it reads; no other domain's.

A domain that no other shall read has a store of its own, STORE/DOMAIN, with its own content caches: those hold vectors
and generated text of its documents, and whoever can write them can change what another domain trains on. Uploads that
never ended cannot be listed by prefix: `hone store gc` is for who may see the whole bucket.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hone.errors import UserError
from hone.storage.s3 import bucket_and_key

VERSION = "2012-10-17"
"""Of the policy language, which has no newer one."""
OBJECTS = ("s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def document(store: str, domains: Mapping[str, str], reads: Sequence[str] = ()) -> dict[str, Any]:
    """The policy of one domain's role or user; with a principal for each domain, that of the bucket, for all of them.

    Raises UserError.
    """
    bucket, prefix = _place(store)
    named = [principal for principal in domains.values() if principal]
    if len(domains) != 1 and len(named) != len(domains):
        raise UserError("give one DOMAIN for the policy of its role, or DOMAIN=PRINCIPAL for each for the bucket's own")
    for address in reads if named else ():
        if _place(address)[0] != bucket:
            raise UserError(
                f"--reads {address}: a bucket policy covers {bucket} alone; give that bucket a policy of its own"
            )
    statements = [
        {**({"Principal": {"AWS": [principal]}} if principal else {}), **one}
        for domain, principal in domains.items()
        for one in _statements(bucket, f"{prefix}/{domain}".strip("/"), _checked(domain), reads)
    ]
    return {"Version": VERSION, "Statement": statements}


def _statements(bucket: str, prefix: str, domain: str, reads: Sequence[str]) -> Iterator[dict[str, Any]]:
    title = re.sub(r"[^0-9A-Za-z]", "", domain.title())
    yield _allowed(f"{title}Store", OBJECTS, [f"{bucket}/{prefix}/*"])
    yield {**_allowed(f"{title}StoreNames", ("s3:ListBucket",), [bucket]), **_below([f"{prefix}/*"])}
    places: dict[str, list[str]] = {}
    for address in reads:
        other, key = _place(address)
        places.setdefault(other, []).append(key)
    for number, (other, keys) in enumerate(places.items()):
        objects = [f"{other}/{key}{end}" for key in keys for end in (("", "/*") if key else ("*",))]
        yield _allowed(f"{title}Reads{number}", ("s3:GetObject",), objects)
        # Whether there is an object or a folder of that name is asked without a slash.
        below = [pattern for key in keys for pattern in ((key, f"{key}/*") if key else ("*",))]
        yield {**_allowed(f"{title}ReadsNames{number}", ("s3:ListBucket",), [other]), **_below(below)}


def _allowed(title: str, actions: Sequence[str], resources: Sequence[str]) -> dict[str, Any]:
    arns = [f"arn:aws:s3:::{resource}" for resource in resources]
    return {"Sid": title, "Effect": "Allow", "Action": list(actions), "Resource": arns}


def _below(prefixes: Sequence[str]) -> dict[str, Any]:
    return {"Condition": {"StringLike": {"s3:prefix": list(prefixes)}}}


def _place(address: str) -> tuple[str, str]:
    bucket, prefix = bucket_and_key(address)
    if set(address) & set("*?$"):
        raise UserError(f"{address!r} has *, ? or $, which mean something else in a policy; give another place")
    return bucket, prefix.strip("/")


def _checked(domain: str) -> str:
    if not NAME.fullmatch(domain):
        raise UserError(f"{domain!r} is not a valid domain name; use lower-case letters, digits, - and _")
    return domain
