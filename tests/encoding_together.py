"""Mining as one of several processes of a launch, or alone."""

import json
import os
from pathlib import Path

import numpy as np

import given
from hone import tables
from hone.backends import encoder, vectors
from hone.store import LocalStore

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
    encode = encoder.Encoder.docs

    def counting(self: encoder.Encoder, texts: list[str]) -> np.ndarray:
        encoded.append(len(texts))
        return encode(self, texts)

    encoder.Encoder.docs = counting  # type: ignore[method-assign]
    store = LocalStore(folder / "store")
    ids = [f"d{at}" for at in range(len(TEXTS))]
    docs = tables.DOCS.of(ids, [""] * len(ids), TEXTS, [False] * len(ids))
    queries = tables.QUERIES.of(["a", "b"], ["stall of rotor", "vortex"], ["", ""], ["log"] * 2, ["log"] * 2)
    inputs = {**given.results(store, docs=docs), **given.results(store, "generate", queries=queries)}
    manifest = given.run(store, "mine", inputs, student={"model": str(folder / "student")}, top_k=9)
    found = {"encoded": sum(encoded), "candidates": manifest.outputs["candidates"].digest}
    (folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(found))
