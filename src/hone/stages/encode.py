"""encode: writes the corpus's vectors by the model that was just published where a vector database takes them from."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, ValidationInfo

from hone.backends import encoders
from hone.backends.encoders.families import BiEncoder, Student, doc_text
from hone.config import StageConfig, beside_the_settings_file
from hone.context import Job
from hone.errors import UserError
from hone.results.table_io import Docs
from hone.storage.addresses import FORMS, is_remote, open_store
from hone.storage.base import Store
from hone.storage.s3 import bucket_and_key

IMAGE = "train"
READS = ("docs", "model", "published")
WRITES = ("vectors",)
ROWS_PER_PART = 65_536
ABOUT = "vectors.json"
"""What the vectors are of, beside them; written last."""


def _writable_address(address: str, info: ValidationInfo) -> str:
    place = beside_the_settings_file(address, info)
    if ":" in place:
        if not is_remote(place):
            raise ValueError(f"write a folder or {FORMS}")
        try:
            bucket_and_key(place)
        except UserError as error:
            raise ValueError(str(error)) from error
    return place


class Config(StageConfig):
    """Settings of encode."""

    student: Student
    """The retriever before it was specialised: what it says of texts holds for the tuned model too."""
    out: Annotated[str, AfterValidator(_writable_address)] = ""
    """Where the vectors of a published model go, a folder or s3://bucket/prefix: into DOMAIN/MODEL below it, MODEL
    being the first 12 digits of the model's digest. What is there of the same model stays, and documents that are new
    or changed are added; empty writes none."""


@dataclass(frozen=True)
class Written:
    """What a call added: rows, and the documents whose vectors there are no longer of the corpus."""

    rows: int
    known: int
    gone: tuple[str, ...]
    dimension: int


def run(config: Config, job: Job) -> None:
    """Adds the vectors that are not there yet. Raises UserError."""
    if not config.out:
        raise UserError("encode.out: say where the vectors go, a folder or s3://bucket/prefix")
    published = job.read_json("published")
    place = open_store(f"{config.out.rstrip('/')}/{published['domain']}/{_model(job)[:12]}")
    made = write_vectors(job, config.student, place, {key: published[key] for key in ("domain", "version")})
    job.write_json("vectors", {"vectors": place.uri, "model": _model(job)})
    job.facts.update(vectors=place.uri, new=made.rows, known=made.known, gone=len(made.gone))


def write_vectors(job: Job, student: BiEncoder, out: Store, of: Mapping[str, str], *, only_new: bool = True) -> Written:
    """Writes doc_id, a hash of the text, the model's digest and the vector of every document; unit length, float32.

    `of` says what they are of, beside them. With `only_new` parts are added for documents that are not there yet, or
    whose text is another now, and no other is encoded. Raises UserError if vectors of another model are there.
    """
    docs, model = job.table("docs"), _model(job)
    about, known = _there(out, model, job.scratch, only_new=only_new)
    ids, hashes = _identified(docs)
    new = np.array([known.get(doc_id) != text for doc_id, text in zip(ids, hashes, strict=True)], dtype=bool)
    dimension, parts = int(about["dimension"]), int(about["parts"])
    if new.any():
        encoder = encoders.Encoder(job.folder("model"), student)
        dimension = encoder.dimension
        _, vectors = encoders.encode_by(job, encoder, "encode: docs", Chosen(docs, new))
        places = np.flatnonzero(new)
        for start in range(0, len(places), ROWS_PER_PART):
            at = places[start : start + ROWS_PER_PART]
            table = _part([ids[n] for n in at], [hashes[n] for n in at], model, vectors[start : start + ROWS_PER_PART])
            path = job.scratch / _part_name(parts)
            pq.write_table(table, path, compression="zstd")
            out.put(path.name, path)
            parts += 1
    gone = tuple(sorted(set(known) - set(ids)))
    now = {**of, "model": model, "dimension": dimension, "docs": len(ids), "parts": parts, "unit_length": True,
           "text": "title and text with a space between", "gone": gone}  # fmt: skip
    out.replace(ABOUT, json.dumps(now, indent=1, ensure_ascii=False).encode())
    return Written(int(new.sum()), len(known), gone, dimension)


class Chosen:
    """The documents of a table that a mask [n] of bool names, in their order."""

    def __init__(self, docs: Docs, mask: np.ndarray) -> None:
        self.rows = int(mask.sum())
        self._docs, self._mask = docs, mask

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows in order, a few thousand at a time."""
        start = 0
        for batch in self._docs.batches(columns):
            yield batch.filter(pa.array(self._mask[start : start + batch.num_rows]))
            start += batch.num_rows


def _model(job: Job) -> str:
    return job.plan.inputs["model"].output("model").digest


def _there(out: Store, model: str, scratch: Path, *, only_new: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """What is said of the vectors that are there, and doc_id to the hash of its text. Raises UserError."""
    data = out.read(ABOUT)
    if data is None:
        return {"dimension": 0, "parts": 0}, {}
    about: dict[str, Any] = json.loads(data)
    if about["model"] != model:
        raise UserError(f"{out.uri} holds vectors of another model, which must not be mixed; give another --out")
    if not only_new:
        raise UserError(f"{out.uri} holds the vectors of this model already; --only-new adds what is new")
    known: dict[str, str] = {}
    for number in range(about["parts"]):
        path, _ = out.fetch(_part_name(number), scratch)
        table = pq.read_table(path, columns=["doc_id", "text_hash"])
        known.update(zip(table["doc_id"].to_pylist(), table["text_hash"].to_pylist(), strict=True))
    return about, known


def _identified(docs: Docs) -> tuple[list[str], list[str]]:
    """The id of every document, and a hash of its text."""
    ids: list[str] = []
    hashes: list[str] = []
    for batch in docs.batches(["doc_id", "title", "text"]):
        names, *parts = (column.to_pylist() for column in batch.columns)
        ids += names
        hashes += (_hash(doc_text(title, text)) for title, text in zip(*parts, strict=True))
    return ids, hashes


def _part(ids: list[str], hashes: list[str], model: str, vectors: np.ndarray) -> pa.Table:
    size = vectors.shape[1]
    flat = pa.array(np.ascontiguousarray(vectors).ravel(), pa.float32())
    return pa.table(
        {"doc_id": pa.array(ids, pa.string()), "text_hash": pa.array(hashes, pa.string()),
         "model": pa.array([model] * len(ids), pa.string()), "vector": pa.FixedSizeListArray.from_arrays(flat, size)}
    )  # fmt: skip


def _part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
