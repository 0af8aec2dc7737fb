"""Mining as one of several processes of a launch, or alone."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

import given
from hone import tables
from hone.backends.encoders import vectors
from hone.backends.encoders.tokens import DocTokenizer
from hone.storage.local import LocalStore

WORDS = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock", "wedge", "heat"]
TEXTS = [" ".join(WORDS[at % 12 :] + [WORDS[at * at % 11]] * (at % 7)) for at in range(90)]


def joined(folder: Path, rank: int, port: int) -> None:
    """`mined` as `torchrun` would start it: one of two on this machine."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    mined(folder)


def mined(folder: Path) -> None:
    """Mines in `folder`, where the student is, and writes there how many documents this process encoded."""
    vectors.CHUNK = 8
    encoded: list[int] = []
    encode = vectors._encode

    def counting(tokenizer: DocTokenizer, texts: Sequence[str], positions: list[int]) -> pa.Array:
        encoded.append(len(positions))
        return encode(tokenizer, texts, positions)

    vectors._encode = counting
    store = LocalStore(folder / "store")
    ids = [f"d{at}" for at in range(len(TEXTS))]
    docs = tables.DOCS.of(ids, [""] * len(ids), TEXTS, [False] * len(ids))
    queries = tables.QUERIES.of(["a", "b"], ["stall of rotor", "vortex"], ["", ""], ["log"] * 2, ["log"] * 2)
    inputs = {**given.results(store, docs=docs), **given.results(store, "generate", queries=queries)}
    manifest = given.run(store, "mine", inputs, student={"model": str(folder / "student")}, top_k=9)
    found = {"encoded": sum(encoded), "candidates": manifest.outputs["candidates"].digest}
    (folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
