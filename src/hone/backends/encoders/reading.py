"""How much of the documents a student reads. What lies beyond its limit is neither searched nor trained on."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from hone.backends.encoders.families import doc_text
from hone.log import log
from hone.results.table_io import Docs
from hone.spent import growing

if TYPE_CHECKING:
    from hone.backends.encoders.encoder import Encoder

SAMPLE = 1_000
"""Documents that are looked at: a share is then known to within three hundredths, 19 times out of 20."""
TOLD_FROM = 0.1
"""Share of longer documents from which on it is told."""


class Reading(NamedTuple):
    """What a student reads of a sample of documents."""

    docs: int
    limit: int
    """The most tokens that it reads of one."""
    longer: float
    """The share of documents that have more."""
    unread: float
    """The share of all tokens that lie beyond."""

    @classmethod
    def of(cls, lengths: Iterable[tuple[int, int]], limit: int) -> "Reading":
        """By how many tokens of each document are read, and how many it has."""
        docs, longer, read, every = 0, 0, 0, 0
        for kept, whole in lengths:
            docs, longer, read, every = docs + 1, longer + (kept < whole), read + kept, every + whole
        return cls(docs, limit, _share(longer, docs), _share(every - read, every))

    @property
    def told(self) -> str:
        """What to say of it; nothing where few are cut."""
        if self.longer < TOLD_FROM:
            return ""
        return (
            f"{self.longer:.0%} of the documents are longer than the {self.limit:,} tokens that the student reads: "
            f"{self.unread:.0%} of the text is neither searched nor trained on; give passages instead of whole "
            "documents"
        )


@growing("docs")
def reading(encoder: "Encoder", docs: Docs) -> Reading:
    """What the encoder reads of at most `SAMPLE` documents, drawn at random, each time the same. Warns where many are
    cut."""
    found = Reading.of(_lengths(encoder, docs), encoder.doc_limit())
    if found.told:
        raised = f", or set student.max_doc_tokens, up to {encoder.longest:,}" if encoder.longest > found.limit else ""
        log.warning(f"{found.told}{raised}")
    return found


def _lengths(encoder: "Encoder", docs: Docs) -> Iterator[tuple[int, int]]:
    chosen, start = np.sort(np.random.default_rng(0).permutation(docs.rows)[:SAMPLE]), 0
    for batch in docs.batches(["title", "text"]):
        within = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
        texts = [doc_text(row["title"], row["text"]) for row in batch.take(pa.array(within)).to_pylist()]
        yield from encoder.doc_lengths(texts)
        start += batch.num_rows


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
