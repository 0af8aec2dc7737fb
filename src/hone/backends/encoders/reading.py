"""How much of the documents a student reads. What lies beyond its limit is neither searched nor trained on."""

from typing import NamedTuple

import numpy as np

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.vectors import document_chunks
from hone.log import log
from hone.results.table_io import Docs
from hone.spent import growing

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

    def told(self) -> str:
        """One sentence, or nothing where few documents are cut."""
        if self.longer < TOLD_FROM:
            return ""
        return (
            f"{self.longer:.0%} of the documents are longer than the {self.limit:,} tokens that the student reads: "
            f"{self.unread:.0%} of the text is neither searched nor trained on"
        )


@growing("docs")
def reading(encoder: Encoder, docs: Docs) -> Reading:
    """What the encoder reads of at most `SAMPLE` documents, drawn at random, each time the same. Warns where many are
    cut."""
    chosen = np.sort(np.random.default_rng(0).permutation(docs.rows)[:SAMPLE])
    longer, read, every, start = 0, 0, 0, 0
    for ids, texts in document_chunks(docs):
        within = chosen[(chosen >= start) & (chosen < start + len(ids))] - start
        for kept, whole in encoder.doc_lengths([texts[at] for at in within]):
            longer, read, every = longer + (kept < whole), read + kept, every + whole
        start += len(ids)
    found = Reading(len(chosen), encoder.doc_limit(), _share(longer, len(chosen)), _share(every - read, every))
    if said := found.told():
        raised = f", or set student.max_doc_tokens, up to {encoder.longest:,}" if encoder.longest > found.limit else ""
        log.warning(f"{said}; give passages instead of whole documents{raised}")
    return found


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
