"""The vectors of a run's corpus by its tuned model, as Parquet for a vector database; only new ones, if asked.

What evaluate encoded is taken from the store: a run that has just been measured encodes nothing again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hone.backends import encoders, search
from hone.backends.encoders.families import doc_text
from hone.context import Job, Shard
from hone.engine.execute import execute
from hone.engine.plan import plan as plan_of
from hone.errors import UserError
from hone.results.manifest import Manifest
from hone.results.table_io import Docs, fetch_folder
from hone.serving.finished import finished
from hone.stages import prepare
from hone.storage.base import Store

ROWS_PER_PART = 65_536
ABOUT = "vectors.json"
"""What the vectors are of, beside them."""
INDEX, INDEX_IDS = "index.faiss", "index-ids.json"
"""A FAISS index over all documents, and their ids by position."""


@dataclass(frozen=True)
class Written:
    """What a call added: rows, and the documents whose vectors there are no longer of the corpus."""

    rows: int
    known: int
    gone: tuple[str, ...]
    dimension: int


def write_vectors(
    store: Store, run_name: str, out: Store, scratch: Path, *, only_new: bool, faiss: bool = False
) -> Written:
    """Writes doc_id, a hash of the text, the model's digest and the vector of every document; unit length, float32.

    With `only_new` the corpus is read as it is now, and parts are added for documents that are not there yet, or whose
    text is another now. With `faiss` an index over all documents is written as well, anew each time. Raises UserError
    if the run is not finished, or if vectors of another model are there.
    """
    done, plan = finished(store, run_name)
    model = done["distill"].outputs["model"].digest
    known, parts = _there(out, model, scratch, only_new=only_new)
    if only_new:
        plan = replace(plan, inputs={**plan.inputs, "docs": _prepared_now(store, done["prepare"], scratch)})
    job = Job(plan, store, scratch, Shard())
    student = cast(Any, job.plan.config).student
    folder = fetch_folder(store, done["distill"], "model", scratch)
    ids, vectors = encoders.encode_docs(job, student, folder, "encode: docs")
    hashes = [_hash(text) for text in _texts(job.table("docs"))]
    new = np.array([at for at, doc_id in enumerate(ids) if known.get(doc_id) != hashes[at]], dtype=np.int64)
    schema = pa.schema(
        [
            ("doc_id", pa.string()), ("text_hash", pa.string()), ("model", pa.string()),
            ("vector", pa.list_(pa.float32(), vectors.shape[1])),
        ]
    )  # fmt: skip
    for start in range(0, len(new), ROWS_PER_PART):
        chosen = new[start : start + ROWS_PER_PART]
        flat = pa.array(np.ascontiguousarray(vectors[chosen]).ravel(), pa.float32())
        columns = [
            pa.array([ids[at] for at in chosen]),
            pa.array([hashes[at] for at in chosen]),
            pa.array([model] * len(chosen)),
            pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        ]
        path = scratch / f"part-{parts:05d}.parquet"
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), path, compression="zstd")
        out.put(path.name, path)
        parts += 1
    if faiss:
        search.write_flat(vectors, scratch / INDEX)
        out.put(INDEX, scratch / INDEX)
        out.replace(INDEX_IDS, json.dumps(ids, ensure_ascii=False).encode())
    gone = tuple(sorted(set(known) - set(ids)))
    about = {"run": run_name, "model": model, "dimension": vectors.shape[1], "docs": len(ids), "parts": parts,
             "unit_length": True, "text": "title and text with a space between", "gone": gone}  # fmt: skip
    out.replace(ABOUT, json.dumps(about, indent=1, ensure_ascii=False).encode())
    return Written(len(new), len(known), gone, vectors.shape[1])


def _prepared_now(store: Store, before: Manifest, scratch: Path) -> Manifest:
    """The corpus that a run read, prepared as it is now; a result that is there already where nothing changed."""
    config = prepare.Config.model_validate(before.config)
    return execute(plan_of("prepare", config, {}, scratch), store, scratch)[0]


def _there(out: Store, model: str, scratch: Path, *, only_new: bool) -> tuple[dict[str, str], int]:
    """doc_id to the hash of its text, of the vectors that are there, and how many parts. Raises UserError."""
    data = out.read(ABOUT)
    if data is None:
        return {}, 0
    about: dict[str, Any] = json.loads(data)
    if about["model"] != model:
        raise UserError(f"{out.uri} holds vectors of another model, which must not be mixed; give another --out")
    if not only_new:
        raise UserError(f"{out.uri} holds the vectors of this model already; --only-new adds what is new")
    known: dict[str, str] = {}
    for number in range(about["parts"]):
        path, _ = out.fetch(f"part-{number:05d}.parquet", scratch)
        table = pq.read_table(path, columns=["doc_id", "text_hash"])
        known.update(zip(table["doc_id"].to_pylist(), table["text_hash"].to_pylist(), strict=True))
    return known, int(about["parts"])


def _texts(docs: Docs) -> Iterator[str]:
    for batch in docs.batches(["title", "text"]):
        yield from map(doc_text, *(column.to_pylist() for column in batch.columns))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
