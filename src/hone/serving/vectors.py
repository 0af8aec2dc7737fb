"""The vectors of a run's corpus by its tuned model, as Parquet for a vector database; only new ones, if asked.

What evaluate encoded is taken from the store: a run that has just been measured encodes nothing again.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hone.backends import encoders, search
from hone.backends.encoders.families import BiEncoder
from hone.context import Job, Shard
from hone.engine.execute import execute
from hone.engine.plan import plan as plan_of
from hone.results.manifest import Manifest
from hone.serving.finished import finished
from hone.stages import encode, prepare
from hone.storage.base import Store

INDEX, INDEX_IDS = "index.faiss", "index-ids.json"
"""A FAISS index over all documents, and their ids by position."""


def write_vectors(
    store: Store, run_name: str, out: Store, scratch: Path, *, only_new: bool, faiss: bool = False
) -> encode.Written:
    """Writes the vectors of a run's documents as the stage encode does; with `only_new` of the corpus as it is now.

    With `faiss` an index over all documents is written as well, anew each time.
    Raises UserError if the run is not finished, or if vectors of another model are there.
    """
    done, plan = finished(store, run_name)
    if only_new:
        plan = replace(plan, inputs={**plan.inputs, "docs": _prepared_now(store, done["prepare"], scratch)})
    job, student = Job(plan, store, scratch, Shard()), cast(Any, plan.config).student
    made = encode.write_vectors(job, student, out, {"run": run_name}, only_new=only_new)
    if faiss:
        _write_index(job, student, out)
    return made


def _write_index(job: Job, student: BiEncoder, out: Store) -> None:
    ids, vectors = encoders.encode_docs(job, student, job.folder("model"), "encode: docs for the index")
    search.write_flat(vectors, job.scratch / INDEX)
    out.put(INDEX, job.scratch / INDEX)
    out.replace(INDEX_IDS, json.dumps(ids, ensure_ascii=False).encode())


def _prepared_now(store: Store, before: Manifest, scratch: Path) -> Manifest:
    """The corpus that a run read, prepared as it is now; a result that is there already where nothing changed."""
    config = prepare.Config.model_validate(before.config)
    return execute(plan_of("prepare", config, {}, scratch), store, scratch)[0]
