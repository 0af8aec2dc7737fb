"""Several processes of one launch run the chain: the tables of one process, and its student up to rounding."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import chain
import corpora
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.engine import runner
from hone.results.manifest import Manifest, load_manifest
from hone.results.table_io import fetch_folder
from hone.settings import load
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
JOINING = """
import time
import torch
from hone.backends.distributed import processes
for _ in range(40):
    with processes.joined():
        time.sleep(0.01 * processes.rank())
        sums = torch.ones(3)
        processes.add_up(sums)
        assert sums.tolist() == [2, 2, 2]
"""


def test_processes_that_join_stage_after_stage_never_meet_an_earlier_group(tmp_path: Path) -> None:
    script = tmp_path / "joining.py"
    script.write_text(JOINING, "utf-8")
    subprocess.run([*TWO, str(script)], check=True, timeout=120)


GUARDED = {"guards": [{"name": "far", "folder": "far"}], "alphas": [1.0]}
LAYERS_FIRST = {
    "train": "head",
    "first": {"max_steps": 3, "eval_every": 1, "learning_rate": 0.01, "docs_per_step": 12, "batch_size": 16},
}


@pytest.mark.parametrize("training", [GUARDED, LAYERS_FIRST])
def test_two_processes_run_the_chain_as_one_does(tmp_path: Path, training: dict[str, Any]) -> None:
    home = chain.home(tmp_path)
    settings = chain.settings_file(home)
    asked = {f"q{at}": topic for at, topic in enumerate(chain.TOPICS)}
    corpora.beir(home / "far", corpora.docs(*chain.TOPICS), asked, test=[(f"q{at}", f"d{at}", 1) for at in range(3)])
    changes = {"curate": {"dev_share": 0}, "distill": training}
    merged = {key: value | changes.get(key, {}) for key, value in chain.SETTINGS.items()}
    settings.write_text(yaml.safe_dump({"name": "tiny", **merged}), "utf-8")
    alone = LocalStore(tmp_path / "alone")
    done = runner.run(load(settings), alone)
    assert done["distill"].facts["best_step"] == 3
    command = ["-m", "hone", "run", str(settings), "--store", str(tmp_path / "both")]
    subprocess.run([*TWO, *command], check=True, timeout=600)
    both = LocalStore(tmp_path / "both")
    shared = {stage: load_manifest(both, f"{result.prefix}/manifest.json") for stage, result in done.items()
              if stage in ("prepare", "generate", "mine", "score", "curate", "distill")}  # fmt: skip
    for stage in ("prepare", "generate", "mine", "score", "curate"):
        assert shared[stage] is not None
        assert shared[stage].outputs == done[stage].outputs
    assert shared["distill"].facts.get("guards") == done["distill"].facts.get("guards")
    base = vectors(home / "student")
    one, two = vectors(model(alone, done["distill"], tmp_path)), vectors(model(both, shared["distill"], tmp_path))
    # Not weight by weight: Adam takes whole steps in directions that rounding alone gives, such as keys' biases, which
    # change no vector.
    assert np.linalg.norm(two - one) < 5e-3 * np.linalg.norm(one - base)


def model(store: LocalStore, manifest: Manifest | None, scratch: Path) -> Path:
    assert manifest is not None
    return fetch_folder(store, manifest, "model", scratch / f"from-{Path(store.uri).name}")


def vectors(folder: Path) -> np.ndarray:
    return Encoder(folder, Student(model=str(folder))).docs(chain.TOPICS)
