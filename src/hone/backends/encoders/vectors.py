"""Vectors of documents and judged queries, which stages share: each text is encoded once per model and kept in the
store."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from hone.backends.budget import kept_together
from hone.backends.distributed import processes
from hone.backends.encoders.encoder import TOKEN_BUDGET, Encoder
from hone.backends.encoders.families import BiEncoder, doc_text
from hone.backends.encoders.head import Head
from hone.backends.encoders.tokens import DocTokenizer
from hone.context import Job
from hone.progress import Task, task, tell
from hone.results.content_cache import ContentCache
from hone.results.table_io import Docs

ROWS_AT_ONCE = 4_096
IN_MEMORY = 1 << 30
"""Bytes from which on all vectors together lie on disk."""
CHUNK = 1_024
"""Texts that are encoded and kept together at most: what a killed run encodes again, and a process's turn."""
UNSTABLE = {"_name_or_path", "architectures", "dtype", "transformers_version"}
"""Entries of a model's configuration that say where it comes from, not what it computes."""


def encode_docs(
    job: Job,
    student: BiEncoder,
    model: str | Path,
    label: str,
    token_budget: int = TOKEN_BUDGET,
) -> tuple[list[str], np.ndarray]:
    """Ids and [n, d] float32 unit vectors of the table docs, by a student's reference or folder."""
    folder = model if isinstance(model, Path) else job.source(model)
    return encode_by(job, Encoder(folder, student, token_budget=token_budget), label, job.table("docs"))


class View:
    """One retriever over the corpus: its encoder, the ids, its vectors of all documents, and those of any queries."""

    def __init__(self, job: Job, student: BiEncoder, label: str, token_budget: int) -> None:
        self.encoder = Encoder(job.source(student.model), student, token_budget=token_budget)
        self.ids, self.vectors = encode_by(job, self.encoder, label, job.table("docs"))
        self.queries = QueryEncoder(job, self.encoder)


def encode_by(job: Job, encoder: Encoder, label: str, docs: Docs) -> tuple[list[str], np.ndarray]:
    """Ids and [n, d] float32 unit vectors of documents, by a student as it is now.

    A document is paid for once per model: what its layers make of a text is kept by the content of the text and the
    layers, and a head is applied to that, so that students which differ in their heads alone share the work. Processes
    that are joined share it too, and each gets all vectors.
    """
    ids: list[str] = []
    vectors = _room(job, (docs.rows, encoder.dimension))
    alone = processes.count() == 1
    with task(label, docs.rows, "docs") as progress, encoder.without_head() as head:
        tokenizer = DocTokenizer(job, encoder)
        cache = _cache(job, encoder, encoder.doc_prefix, encoder.doc_limit())
        chunk = kept_together(encoder.model, encoder.doc_limit(), CHUNK)
        if not alone:
            _encode_share(cache, tokenizer, docs, chunk, progress)
        for names, texts in _document_chunks(docs):
            known = cache.compute(texts, partial(_encode, tokenizer, texts), chunk, progress if alone else None)
            vectors[len(ids) : len(ids) + len(texts)] = _through(encoder, head, _as_numpy(known, encoder.dimension))
            ids += names
    return ids, vectors


class QueryEncoder:
    """Queries to unit vectors, by a student as it is now.

    A processor keeps them, since a stage that is killed in its second hour would pay for all of them again; on a GPU
    they are there sooner than they could be fetched.
    """

    def __init__(self, job: Job, encoder: Encoder) -> None:
        self.encoder, self.encoded = encoder, 0
        self.chunk = kept_together(encoder.model, encoder.query_limit, CHUNK)
        self.cache: ContentCache | None = None
        if encoder.device.type == "cpu":
            with encoder.without_head():
                self.cache = _cache(job, encoder, encoder.query_prefix, encoder.query_limit)

    def __call__(self, texts: Sequence[str], progress: Task | None = None) -> np.ndarray:
        """[n, d] float32."""
        if self.cache is None:
            vectors = self.encoder.queries(texts)
            if progress:
                progress.advance(len(texts))
            return vectors
        with self.encoder.without_head() as head:
            known = self.cache.compute(texts, partial(self._encode, texts, progress is None), self.chunk, progress)
            return _through(self.encoder, head, _as_numpy(known, self.encoder.dimension))

    def _encode(self, texts: Sequence[str], tells: bool, positions: list[int]) -> pa.Array:
        vectors = self.encoder.queries([texts[position] for position in positions])
        self.encoded += len(positions)
        if tells:
            tell(f"{self.encoded:,} encoded")
        return _as_arrow(vectors)


def encode_queries(job: Job, encoder: Encoder, label: str, texts: Sequence[str]) -> np.ndarray:
    """[q, d] float32 unit vectors of queries, by a student as it is now."""
    with task(label, len(texts), "queries") as progress:
        return QueryEncoder(job, encoder)(texts, progress)


def _encode_share(cache: ContentCache, tokenizer: DocTokenizer, docs: Docs, chunk: int, progress: Task) -> None:
    """Encodes this process's share, every n-th chunk, waits for the others and takes over what they found.

    Chunks are those of a process alone, so that the vectors are the same to the last bit.
    """
    texts = (texts[at : at + chunk] for _, texts in _document_chunks(docs) for at in range(0, len(texts), chunk))
    for number, turn in enumerate(texts):
        if number % processes.count() == processes.rank():
            cache.compute(turn, partial(_encode, tokenizer, turn), chunk)
        progress.advance(len(turn))
    processes.wait()
    cache.refresh()


def _document_chunks(docs: Docs) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and texts, some thousand at a time."""
    for batch in docs.batches(["doc_id", "title", "text"]):
        for start in range(0, batch.num_rows, ROWS_AT_ONCE):
            ids, *parts = (column.to_pylist() for column in batch.slice(start, ROWS_AT_ONCE).columns)
            yield ids, [doc_text(title, text) for title, text in zip(*parts, strict=True)]


def _cache(job: Job, encoder: Encoder, prefix: str, limit: int) -> ContentCache:
    """What the layers made of texts with this prefix and limit of tokens."""
    return job.cache("vectors", _identity(encoder, prefix, limit), pa.list_(pa.float32(), encoder.dimension))


def _identity(encoder: Encoder, prefix: str, limit: int) -> str:
    """All that shapes what the layers make of a text, as resolved: weights, tokenizer and settings."""
    student = encoder.student
    settings = [encoder.pooling, prefix, limit, encoder.precision, student.trust_code]
    settings += ["at full length"] * encoder.keeps_length + ["without prompt"] * (not encoder.declared.include_prompt)
    config = {name: value for name, value in encoder.model.config.to_dict().items() if name not in UNSTABLE}
    digest = hashlib.sha256(encoder.tokenizer_json().encode())
    for name, weight in encoder.model.state_dict().items():
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.cpu().contiguous().numpy())
    return json.dumps([settings, config, digest.hexdigest()], sort_keys=True)


@torch.no_grad()
def _through(encoder: Encoder, head: Head | None, vectors: np.ndarray) -> np.ndarray:
    """What `without_head` gave [n, d] to vectors of the student."""
    if head is None:
        return vectors
    return encoder.scaled(head(torch.tensor(vectors, device=encoder.device))).cpu().numpy()


def _encode(tokenizer: DocTokenizer, texts: Sequence[str], positions: list[int]) -> pa.Array:
    """What the layers make of the texts at these positions."""
    encoder, tokens = tokenizer.encoder, tokenizer.ids([texts[position] for position in positions])
    return _as_arrow(encoder.encode_tokens(tokens.to_pylist()))


def _as_arrow(vectors: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])


def _as_numpy(values: pa.ChunkedArray, dimension: int) -> np.ndarray:
    return values.combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)


def _room(job: Job, shape: tuple[int, int]) -> np.ndarray:
    """An array for all vectors: in memory while it is small, else on disk."""
    if shape[0] * shape[1] * 4 < IN_MEMORY:
        return np.zeros(shape, dtype=np.float32)
    path = job.scratch / f"vectors-{uuid.uuid4().hex}.npy"
    room = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    with path.open("r+b") as file:
        # A disk without room for it is noticed here, instead of by a signal that ends the process at some row.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return room
