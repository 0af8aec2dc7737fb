"""The whole chain on a few documents with a tiny random student: a second of work that touches every stage."""

import random
from pathlib import Path
from typing import Any

import yaml

import corpora
import tiny
from hone import settings
from hone.engine import runner
from hone.results.manifest import Manifest
from hone.settings import RunSettings
from hone.storage.base import Store

TOPICS = ("wing lift drag stall flap slat", "engine thrust fan core inlet nozzle", "sea wave tide reef shore foam")
COMMON = "test flow data speed angle model value case"
TIMED = ("findings", "report")
"""The outputs that tell how long things took, and so differ between runs."""
SETTINGS: dict[str, Any] = {
    "student": {"model": "student"},
    "prepare": {"corpus": "corpus"},
    "generate": {"extractive": {"styles": {"search": 1}}},
    "mine": {"top_k": 10},
    "teacher": {"kind": "fusion", "force": True},
    "curate": {"min_docs": 4, "list_size": 4, "outscored": "relabel", "weak_percentile": 0},
    "distill": {"list_size": 4, "batch_size": 16, "max_steps": 3, "eval_every": 1, "learning_rate": 0.01},
    "evaluate": {"permutations": 20, "bootstrap": 10},
}
PROMOTED: dict[str, Any] = {
    "curate": {**SETTINGS["curate"], "dev_share": 0},
    "distill": {**SETTINGS["distill"], "max_steps": 20},
    "gate": {
        "min_gain": -1, "beat": "base", "max_p": 0.999, "min_lists": 0, "teacher_qualified": False, "test_split": False,
        "max_leaks": 1000, "max_slowdown": 1000,
    },
    "publish": {"domain": "tiny"},
}  # fmt: skip
"""With these the tuned model differs from the base, and a policy that asks for nothing else has it published."""


def home(folder: Path, docs: int = 40) -> Path:
    """A folder with a corpus, judgements and a student."""
    draw = random.Random(7)
    topics = [draw.choice(TOPICS).split() for _ in range(docs)]
    rows = corpora.docs(*(" ".join(draw.choices([*topic, *COMMON.split()], k=24)) for topic in topics))
    asked = {f"q{n}": " ".join(rows[n]["text"].split()[3:8]) for n in range(12)}
    qrels = {split: [(f"q{n}", f"d{n}", 1) for n in range(at, 12, 2)] for at, split in enumerate(("dev", "test"))}
    corpora.beir(folder / "corpus", rows, asked, **qrels)
    tiny.student(folder / "student", dim=16, layers=1, vocab_texts=[*TOPICS, COMMON])
    return folder


def settings_file(home: Path, name: str = "tiny", **changes: Any) -> Path:
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, **SETTINGS, **changes}), "utf-8")
    return path


def checked(home: Path, name: str = "tiny", **changes: Any) -> RunSettings:
    return settings.load(settings_file(home, name, **changes))


def run(home: Path, store: Store, name: str = "tiny", **changes: Any) -> dict[str, Manifest]:
    return runner.run(checked(home, name, **changes), store)


def digests(done: dict[str, Manifest]) -> dict[str, str]:
    """What must not differ between any two runs: the digests of all outputs but the reports."""
    found = {name: output.digest for manifest in done.values() for name, output in manifest.outputs.items()}
    return {name: digest for name, digest in found.items() if name not in TIMED}
