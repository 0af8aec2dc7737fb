"""How much of the documents a student reads. What lies beyond its limit is neither searched nor trained on."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import doc_text
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


@growing("docs")
def reading(encoder: Encoder, docs: Docs) -> Reading:
    """What the encoder reads of at most `SAMPLE` documents, drawn at random, each time the same. Warns where many are
    cut."""
    chosen = np.sort(np.random.default_rng(0).permutation(docs.rows)[:SAMPLE])
    longer, read, every, start = 0, 0, 0, 0
    for batch in docs.batches(["title", "text"]):
        within = chosen[(chosen >= start) & (chosen < start + batch.num_rows)] - start
        texts = [doc_text(row["title"], row["text"]) for row in batch.take(pa.array(within)).to_pylist()]
        for kept, whole in encoder.doc_lengths(texts):
            longer, read, every = longer + (kept < whole), read + kept, every + whole
        start += batch.num_rows
    found = Reading(len(chosen), encoder.doc_limit(), _share(longer, len(chosen)), _share(every - read, every))
    if found.longer >= TOLD_FROM:
        raised = f", or set student.max_doc_tokens, up to {encoder.longest:,}" if encoder.longest > found.limit else ""
        log.warning(
            f"{found.longer:.0%} of the documents are longer than the {found.limit:,} tokens that the student reads: "
            f"{found.unread:.0%} of the text is neither searched nor trained on; give passages instead of whole "
            f"documents{raised}"
        )
    return found


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
