"""A student that learns to answer a word with the next word, and guard sets where its own first answer is right."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import corpora
import given
import tiny
import twin
from hone import tables
from hone.results.manifest import Manifest
from hone.results.table_io import fetch_folder
from hone.stages.distill import training_record
from hone.storage.local import LocalStore

TEXTS = [f"{word} {word} {word}" for word in twin.WORDS]
SETTINGS: dict[str, Any] = {"learning_rate": 0.005, "max_epochs": 8, "patience": 99, "min_steps_per_epoch": 1}


def student(home: Path) -> Path:
    """The base."""
    return tiny.student(home / "student", dim=16, layers=1, vocab_texts=twin.WORDS)


def guard_set(home: Path, name: str = "far") -> dict[str, str]:
    """What the base knows: its first answer to each word is the right one, so that training can only lose."""
    base = twin.encoder(student(home))
    first = (base.queries(twin.WORDS) @ base.docs(TEXTS).T).argmax(1)
    queries = {f"q{at}": word for at, word in enumerate(twin.WORDS)}
    answers = [(f"q{at}", f"d{number}", 1) for at, number in enumerate(first)]
    corpora.beir(home / name, corpora.docs(*TEXTS), queries, test=answers)
    return {"name": name, "folder": str(home / name)}


def trained(home: Path, guards: Sequence[dict[str, str]], *, dev: bool = True, **settings: Any) -> Manifest:
    """What distill makes of lists of which each puts the document of the next word first."""
    count = len(TEXTS)
    ids = [f"d{at}" for at in range(count)]
    docs = tables.DOCS.of(ids, [""] * count, TEXTS, [False] * count)
    numbers = range(2 * count if dev else count)
    listed = [[ids[(at + step) % count] for step in (1, 2, 5, 0)] for at in numbers]
    lists = tables.LISTS.of(
        [f"q{at}" for at in numbers], [twin.WORDS[at % count] for at in numbers], ["span"] * len(numbers),
        [""] * len(numbers), ["train" if at < count else "dev" for at in numbers],
        listed, [[1.0, 0.2, 0.1, 0.0]] * len(numbers), [[]] * len(numbers),
    )  # fmt: skip
    store = LocalStore(home / "store")
    inputs = given.results(store, docs=docs, lists=lists)
    own = SETTINGS | {"student": {"model": str(student(home))}, "guards": guards}
    return given.run(store, "distill", inputs, **own | settings)


def record_of(home: Path, done: Manifest) -> dict[str, Any]:
    return training_record(model_of(home, done))


def model_of(home: Path, done: Manifest) -> Path:
    return fetch_folder(LocalStore(home / "store"), done, "model", home / "fetched")
