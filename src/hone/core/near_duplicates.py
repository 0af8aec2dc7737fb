"""Near duplicates: queries that share most of their letter sequences, found by MinHash and checked exactly."""

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 4
PERMUTATIONS = 64
MASK = 2**64 - 1


class NearDuplicates:
    """Remembers queries, and finds one among them that a new one is close to."""

    def __init__(self, least: float) -> None:
        """`least`: the Jaccard similarity of their shingles from which two queries are near."""
        from datasketch import MinHashLSH

        self.least = least
        # Candidates are looked for well below the limit, so that hashing misses next to none, and then compared.
        self._index = MinHashLSH(threshold=0.75 * least, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
        self._shingles: dict[str, frozenset[bytes]] = {}

    @classmethod
    def of(cls, texts: Iterable[str], least: float) -> "NearDuplicates | None":
        """One that remembers these distinct queries; none if `least` is 0."""
        if not least:
            return None
        found = cls(least)
        for text in texts:
            found.add(text)
        return found

    def find(self, text: str) -> str:
        """A remembered query near `text`, both normalised; the first by order of the alphabet, empty if none."""
        own = shingles(text)
        near = map(str, self._index.query(_hashed(own)))
        return min((key for key in near if similarity(own, self._shingles[key]) >= self.least), default="")

    def add(self, text: str) -> None:
        """Remembers a query that was not remembered before."""
        self._shingles[text] = shingles(text)
        self._index.insert(text, _hashed(self._shingles[text]), check_duplication=False)

    def bands(self, text: str) -> list[int]:
        """64 bits for each band of a text's MinHash: `find` compares texts that have one of them in common."""
        values, rows = _hashed(shingles(text)).hashvalues, self._index.r
        return [hash(values[band * rows : (band + 1) * rows].tobytes()) & MASK for band in range(self._index.b)]


def shingles(text: str) -> frozenset[bytes]:
    """All runs of 4 characters, of a text padded by one space at each end."""
    padded = f" {text} "
    return frozenset(padded[at : at + SHINGLE].encode() for at in range(max(1, len(padded) - SHINGLE + 1)))


def similarity(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """Jaccard: what two sets share, as a share of what is in either."""
    return len(one & other) / len(one | other)


def _hashed(parts: frozenset[bytes]) -> "MinHash":
    hashed = _empty().copy()
    hashed.update_batch(sorted(parts))
    return hashed


@cache
def _empty() -> "MinHash":
    """To be copied: drawing the permutations anew takes longer than hashing a query."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1)
