"""Inputs of generate, and what it makes of them: shared by the tests of drafts, prompts and models."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from hone import tables
from hone.core.llm import LanguageModel
from hone.core.prompts import Prompts, Request
from hone.job import Job, Plan, Shard
from hone.manifest import Manifest
from hone.parts import fetch_part
from hone.stage import execute, merge, plan, scratch_folder
from hone.stages import stage
from hone.stages.generate import Config
from hone.store import LocalStore

WORDS = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock", "wedge", "heat"]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=20), min_size=1, max_size=5)


def corpus(count: int, *, title: str = "") -> pa.Table:
    """Documents of three sentences; every fifth is held out."""
    draw = random.Random(count)
    texts = [". ".join(" ".join(draw.choices(WORDS, k=12)) for _ in range(3)) for _ in range(count)]
    ids = [f"d{number}" for number in range(count)]
    return tables.DOCS.of(ids, [title] * count, texts, [number % 5 == 0 for number in range(count)])


def prepared(
    store: LocalStore, docs: pa.Table, tests: tuple[str, ...] = (), fingerprint: str = "f" * 16
) -> dict[str, Manifest]:
    """A finished result of prepare with these documents and test queries."""
    judged = [{"query_id": f"q{n}", "text": text, "split": "test"} for n, text in enumerate(tests)]
    with scratch_folder() as scratch:
        todo = Plan("prepare", stage("prepare").Config.model_construct(), {}, {}, fingerprint)
        job = Job(todo, store, scratch, Shard())
        for name, rows in (("docs", docs), ("judged_queries", tables.JUDGED_QUERIES.build(judged))):
            with job.writer(name) as writer:
                writer.write(rows)
        outputs = {name: job.publish(name) for name in ("docs", "judged_queries")}
    manifest = Manifest(
        stage="prepare", fingerprint=fingerprint, code="", version="", config={}, sources={}, inputs={},
        input_digests={}, outputs=outputs, facts={}, cost={}, seconds=0.0,
    )  # fmt: skip
    return {"docs": manifest, "judged_queries": manifest}


def generated(store: LocalStore, inputs: dict[str, Manifest], shards: int = 1, **sections: Any) -> Manifest:
    with scratch_folder() as scratch:
        todo = plan("generate", Config.model_validate(sections), inputs, scratch)
    for index in range(shards):
        with scratch_folder() as scratch:
            manifest, _ = execute(todo, store, scratch, Shard(index, shards))
    return merge(todo, store, shards) if shards > 1 else manifest


def rows(store: LocalStore, manifest: Manifest, name: str = "queries") -> list[dict[str, Any]]:
    with scratch_folder() as scratch:
        parts = [fetch_part(store, manifest.prefix, part, scratch) for part in manifest.outputs[name].parts]
        return [row for part in parts for row in pq.read_table(part).to_pylist()]


def log(folder: Path, *lines: str) -> str:
    path = folder / "queries.txt"
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def requests(count: int, doc: str = "") -> Iterator[Request]:
    prompts = Prompts(LanguageModel(styles={"question": 1}), 17)
    for number in range(count):
        yield from (request for _, request in prompts.requests(f"d{number}", doc or " ".join(WORDS[: number + 1])))
