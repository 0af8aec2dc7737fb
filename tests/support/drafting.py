"""Inputs of generate, and what it makes of them: shared by the tests of drafts, prompts and models."""

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

import given
from hone import tables
from hone.backends.generators.answers import Answer
from hone.results.manifest import Manifest
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import Request
from hone.stages.generate.requests import Prompts
from hone.storage.base import Store

WORDS = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock", "wedge", "heat"]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=20), min_size=1, max_size=5)


def corpus(count: int, *, title: str = "") -> pa.Table:
    """Documents of three sentences; every fifth is held out."""
    draw = random.Random(count)
    texts = [". ".join(" ".join(draw.choices(WORDS, k=12)) for _ in range(3)) for _ in range(count)]
    ids = [f"d{number}" for number in range(count)]
    return tables.DOCS.of(ids, [title] * count, texts, [number % 5 == 0 for number in range(count)])


def prepared(
    store: Store, docs: pa.Table, tests: tuple[str, ...] = (), fingerprint: str = "f" * 16
) -> dict[str, Manifest]:
    """A finished result of prepare with these documents and test queries."""
    judged = [{"query_id": f"q{n}", "text": text, "split": "test"} for n, text in enumerate(tests)]
    made = {"docs": docs, "judged_queries": tables.JUDGED_QUERIES.build(judged)}
    return given.results(store, fingerprint=fingerprint, **made)


def generated(store: Store, inputs: dict[str, Manifest], shards: int = 1, **sections: Any) -> Manifest:
    return given.run(store, "generate", inputs, shards, **sections)


def rows(store: Store, manifest: Manifest, name: str = "queries") -> list[dict[str, Any]]:
    return given.rows(store, manifest, name)


def together(parts: Iterable[Mapping[int, Answer]]) -> dict[int, Answer]:
    """All that a generator gave, part by part."""
    return {at: answer for part in parts for at, answer in part.items()}


def log(folder: Path, *lines: str) -> str:
    path = folder / "queries.txt"
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def requests(count: int, doc: str = "") -> Iterator[Request]:
    prompts = Prompts(LanguageModel(styles={"question": 1}, layout="guide"), 17)
    for number in range(count):
        yield from (request for _, request in prompts.requests(f"d{number}", doc or " ".join(WORDS[: number + 1])))
