"""Finished results that a test starts from, and what a stage makes of them, in a real store."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hone.context import Job, Plan, Shard
from hone.engine.execute import execute
from hone.engine.merge import merge
from hone.engine.plan import plan
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_part
from hone.scratch import scratch_folder
from hone.stages import stage
from hone.storage.base import Store


def results(
    store: Store,
    name: str = "prepare",
    facts: dict[str, Any] | None = None,
    fingerprint: str = "f" * 16,
    **outputs: pa.Table | dict[str, Any],
) -> dict[str, Manifest]:
    """A finished result of a stage that holds these tables, or facts in a folder: what a plan takes as inputs."""
    todo = Plan(name, stage(name).Config.model_construct(), {}, {}, fingerprint)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(todo, store, Path(scratch), Shard())
        for output, content in outputs.items():
            if isinstance(content, dict):
                job.write_json(output, content)
                continue
            with job.writer(output) as writer:
                writer.write(content)
        published = {output: job.publish(output) for output in outputs}
    manifest = Manifest(
        stage=name, fingerprint=fingerprint, code="", version="", config={}, sources={}, inputs={},
        input_digests={}, outputs=published, facts=facts or {}, cost={}, seconds=0.0,
    )  # fmt: skip
    return dict.fromkeys(outputs, manifest)


def run(store: Store, name: str, inputs: Mapping[str, Manifest], shards: int = 1, **settings: Any) -> Manifest:
    """The result of a stage with these settings on these inputs."""
    with scratch_folder() as scratch:
        todo = plan(name, stage(name).Config.model_validate(settings), inputs, scratch)
    for index in range(shards):
        with scratch_folder() as scratch:
            manifest, _ = execute(todo, store, scratch, Shard(index, shards))
    return merge(todo, store, shards) if shards > 1 else manifest


def rows(store: Store, manifest: Manifest, table: str) -> list[dict[str, Any]]:
    """The rows of an output."""
    with scratch_folder() as scratch:
        parts = [fetch_part(store, manifest.prefix, part, scratch) for part in manifest.outputs[table].parts]
        return [row for part in parts for row in pq.read_table(part).to_pylist()]
