"""Near duplicates: queries that share most of their letter sequences.

Among queries that come one after another they are found by MinHash and then compared; among texts known from the start,
such as test queries, exactly.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasketch import MinHash

SHINGLE = 4
PERMUTATIONS = 64
MASK = 2**64 - 1
ROUNDING = 1e-9


class NearDuplicates:
    """Remembers queries, and finds one among them that a new one is close to."""

    def __init__(self, least: float) -> None:
        """`least`: the Jaccard similarity of their shingles from which two queries are near."""
        from datasketch import MinHashLSH

        self.least = least
        # Candidates are looked for well below the limit, so that hashing misses next to none, and then compared.
        self._index = MinHashLSH(threshold=0.75 * least, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
        self._shingles: dict[str, frozenset[bytes]] = {}

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


class NearTexts:
    """Finds one among texts known from the start that another is close to.

    Texts that share so much have one of their rarest letter sequences in common, and only these are looked up (the
    prefix filter of Bayardo, Ma and Srikant, "Scaling up all pairs similarity search", 2007).
    """

    def __init__(self, texts: Iterable[str], least: float) -> None:
        """`texts`, distinct and normalised; `least`: the Jaccard similarity from which two are near, above 0."""
        self.least = least
        self._shingles = {text: shingles(text) for text in texts}
        counts = Counter(part for own in self._shingles.values() for part in own)
        self._places = {part: at for at, part in enumerate(sorted(counts, key=lambda part: (counts[part], part)))}
        self._parts = frozenset(counts)
        self._having = defaultdict[bytes, list[tuple[str, int, int]]](list)
        for text, own in self._shingles.items():
            for at, part in enumerate(self._rarest(own)):
                self._having[part].append((text, len(own), len(own) - at))

    def find(self, text: str) -> str:
        """The text near `text`, which is normalised; the first by order of the alphabet, empty if none."""
        own = shingles(text)
        left = len(own & self._parts)
        share = self.least / (1 + self.least)
        looked_at, near = set[str](), list[str]()
        for part in self._rarest(own):
            for other, size, others_left in self._having.get(part, ()):
                if other not in looked_at:
                    # Nothing rarer is common to both, so that they share no more than what is left of either.
                    looked_at.add(other)
                    if min(left, others_left) >= share * (len(own) + size) - ROUNDING:
                        near.append(other)
            left -= 1
        return min((other for other in near if similarity(own, self._shingles[other]) >= self.least), default="")

    def _rarest(self, own: frozenset[bytes]) -> list[bytes]:
        """The least frequent shingles of a text, rarest first, one of which any text near it has among its own; those
        of no text would come first and are left out."""
        known = own & self._parts
        count = len(known) - math.ceil(self.least * len(own) - ROUNDING) + 1
        return sorted(known, key=self._places.__getitem__)[:count] if count > 0 else []


def shingles(text: str) -> frozenset[bytes]:
    """All runs of 4 characters, of a text padded by one space at each end."""
    padded = f" {text} "
    return frozenset(padded[at : at + SHINGLE].encode() for at in range(max(1, len(padded) - SHINGLE + 1)))


def similarity(one: frozenset[bytes], other: frozenset[bytes]) -> float:
    """Jaccard: what two sets share, as a share of what is in either."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _hashed(parts: frozenset[bytes]) -> "MinHash":
    hashed = _empty().copy()
    hashed.update_batch(sorted(parts))
    return hashed


@cache
def _empty() -> "MinHash":
    """To be copied: drawing the permutations anew takes longer than hashing a query."""
    from datasketch import MinHash

    return MinHash(num_perm=PERMUTATIONS, seed=1)
