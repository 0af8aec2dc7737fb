"""Numbers that depend on a text alone: what draws samples the same way in every process and shard."""

import hashlib


def hashed(*parts: object) -> int:
    """64 bits that depend on `parts` alone."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def drawn(*parts: object) -> float:
    """A number in [0, 1) that depends on `parts` alone."""
    return hashed(*parts) / 2**64
