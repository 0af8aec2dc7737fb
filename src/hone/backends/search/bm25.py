"""BM25 as Lucene scores it (k1 1.2, b 0.75), English stems, identifiers also split into their words; of scripts without
spaces pairs of letters."""

import re
from collections.abc import Sequence
from typing import Any, cast

import bm25s
import numpy as np
import Stemmer

from hone.backends.encoders.families import doc_text
from hone.backends.search.best import best_of
from hone.core.segmentation import has_runs, terms, without_runs
from hone.results.table_io import Docs
from hone.spent import COMPARISONS, growing

K1, B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_SEAM = re.compile(r"_+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def with_identifier_words(text: str) -> str:
    """The text with the words of its identifiers appended: readLine and HTTP_error also match line and error.

    Dotted names need no such help, the tokenizer cuts them at the dots.
    """
    words = [part for name in _WORD.findall(text) for part in _parts(name)]
    return f"{text} {' '.join(words)}" if words else text


class BM25:
    """An index over texts; documents are positions in the order given."""

    @growing("docs")
    def __init__(self, texts: Sequence[str]) -> None:
        self.count = len(texts)
        self._stemmer = Stemmer.Stemmer("english")
        self._index: Any = bm25s.BM25(method="lucene", k1=K1, b=B)
        self._words: set[str] = set()
        tokens = self._tokens(texts)
        if any(tokens):
            self._index.index(tokens, show_progress=False)
            self._words.update(self._index.vocab_dict)

    def scores(self, query: str) -> np.ndarray:
        """[n] float32: the score of every document."""
        tokens = self._tokens([query])[0]
        known = [token for token in tokens if token in self._words]
        with growing(COMPARISONS):
            return self._index.get_scores(known) if known else np.zeros(self.count, dtype=np.float32)

    def top_k(self, query: str, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """Positions of the k best documents that share a term with the query, best first, ties by position.

        Only documents where `allowed` [n] bool is true are found.
        """
        scores = self.scores(query)
        with growing(COMPARISONS):
            scores = scores if allowed is None else np.where(allowed, scores, 0)
            positions, values = best_of(scores, k)
        return positions[values > 0]

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        runs = {at for at, text in enumerate(texts) if has_runs(text)}
        split = [with_identifier_words(without_runs(text) if at in runs else text) for at, text in enumerate(texts)]
        options: Any = {"stopwords": "en", "stemmer": self._stemmer, "return_ids": False, "show_progress": False}
        tokens = cast(list[list[str]], bm25s.tokenize(split, **options))
        for at in runs:
            tokens[at] = [*tokens[at], *terms(texts[at])]
        return tokens


@growing("docs")
def index_of(docs: Docs) -> tuple[list[str], BM25]:
    """The ids of all documents, and their index."""
    ids: list[str] = []
    texts: list[str] = []
    for batch in docs.batches(["doc_id", "title", "text"]):
        for doc_id, title, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            ids.append(doc_id)
            texts.append(doc_text(title, text))
    return ids, BM25(texts)


def _parts(name: str) -> list[str]:
    parts = [part for part in _SEAM.split(name) if part]
    return parts if len(parts) > 1 else []
