"""Token ids: of any texts in a file, and of documents, each tokenised once for all stages."""

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from hone.backends.encoders.encoder import Encoder
from hone.context import Job
from hone.results.mmap_column import MmapColumn

pc: Any = pyarrow.compute  # its functions are made at run time
IDS = pa.list_(pa.int32())


class Tokens(MmapColumn[list[int]]):
    """Token ids of texts by position: one int32 after the other and where each text starts, memory-mapped."""

    def __init__(self, folder: Path, pieces: Iterable[pa.Array | pa.ChunkedArray]) -> None:
        """`pieces` are of type IDS."""
        super().__init__(folder, IDS, pieces)

    @property
    def lengths(self) -> np.ndarray:
        """[n] int64: how many tokens each text has."""
        return pc.list_value_length(self.column).to_numpy().astype(np.int64)


class DocTokenizer:
    """Documents to the token ids that a student reads them as.

    A text is tokenised once for all students with the same tokenizer, prefix and limit: the store keeps its ids.
    """

    def __init__(self, job: Job, encoder: Encoder, limit: int = 0) -> None:
        """`limit` as in `Encoder.tokenize_docs`."""
        self.encoder, self.limit = encoder, limit
        self.cache = job.cache("tokens", _identity(encoder, limit), IDS)

    def ids(self, texts: Sequence[str]) -> pa.ChunkedArray:
        """The ids of each text, of type IDS."""
        return self.cache.compute(texts, partial(self._tokenise, texts))

    def _tokenise(self, texts: Sequence[str], positions: list[int]) -> pa.Array:
        return pa.array(self.encoder.tokenize_docs([texts[at] for at in positions], self.limit), IDS)


def _identity(encoder: Encoder, limit: int) -> str:
    """All that shapes the ids of a document, as resolved."""
    cut = [encoder.doc_limit(limit), encoder.tokenizer.truncation_side, encoder.student.trust_code]
    cut += ["without prompt"] * (not encoder.declared.include_prompt)
    return json.dumps([encoder.doc_prefix, *cut, encoder.tokenizer_json()])
