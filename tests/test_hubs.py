"""Corpora and models by the id of a hub: fetched at one commit, never code, and one sentence where it cannot be."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hub_server

pytestmark = pytest.mark.slow

DOC = json.dumps({"_id": "d1", "title": "Wings", "text": "A wing makes lift."}).encode() + b"\n"
PREPARE = """
import json, sys
from pathlib import Path
from hone.errors import UserError
from hone.engine.execute import execute
from hone.engine.plan import plan
from hone.scratch import scratch_folder
from hone.stages import prepare
from hone.storage.local import LocalStore

with scratch_folder() as scratch:
    try:
        config = prepare.Config(corpus=sys.argv[1])
        made, new = execute(plan("prepare", config, {}, scratch), LocalStore(Path(sys.argv[2])), scratch)
        print(json.dumps([made.facts.get("commits"), made.outputs["docs"].rows, new]))
    except UserError as error:
        print(json.dumps(str(error)))
"""
FETCH = """
import json, sys
from pathlib import Path
from hone.inputs.references import local_path

print(json.dumps(sorted(file.name for file in local_path(sys.argv[1], Path()).rglob("*"))))
"""


@pytest.fixture
def hub() -> Iterator[hub_server.Hub]:
    model = {
        "config.json": b"{}",
        "modeling_own.py": b"print('run')",
        "pytorch_model.bin": b"pickle",
        "onnx/m.onnx": b"o",
    }
    with hub_server.running(
        {
            "datasets/BeIR/tiny": {"corpus.jsonl": DOC, "loader.py": b"raise SystemExit"},
            "models/acme/small": {**model, "model.safetensors": b"weights"},
        }
    ) as running:
        yield running


def prepared(reference: str, hub: hub_server.Hub | None, home: Path, **environment: str) -> object:
    return asked(PREPARE, reference, hub, home, **environment)


def asked(code: str, reference: str, hub: hub_server.Hub | None, home: Path, **environment: str) -> object:
    """What the code prints in a process of its own: the address of a hub is read when its library is imported."""
    address = hub.address if hub else "http://127.0.0.1:9"
    given = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code, reference, str(home / "store")],
        env={**os.environ, "HF_HUB_OFFLINE": "", **given, **environment},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-1500:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_corpus_is_fetched_at_one_commit_which_the_manifest_keeps(hub: hub_server.Hub, tmp_path: Path) -> None:
    reference = "hf://datasets/BeIR/tiny"
    first = hub.commit("datasets/BeIR/tiny")
    assert prepared(reference, hub, tmp_path) == [{reference: first}, 1, True]
    assert not [path for path in hub.asked if path.endswith(".py")]
    # A commit that is here is not asked for again, and the hub need not be there.
    pinned = f"{reference}@{first}"
    hub.asked.clear()
    assert prepared(pinned, hub, tmp_path) == [{reference: first}, 1, False]
    assert not hub.asked
    assert prepared(reference, None, tmp_path) == [{reference: first}, 1, False]
    # What has changed since is noticed.
    hub.repositories["datasets/BeIR/tiny"]["corpus.jsonl"] = DOC + DOC.replace(b"d1", b"d2").replace(b"lift", b"noise")
    assert prepared(reference, hub, tmp_path) == [{reference: hub.commit("datasets/BeIR/tiny")}, 2, True]


def test_without_a_hub_one_sentence_has_the_command_that_fetches(tmp_path: Path) -> None:
    for environment in ({}, {"HF_HUB_OFFLINE": "1"}):
        said = str(prepared("hf://datasets/BeIR/tiny@v1", None, tmp_path, **environment))
        assert "the hub cannot be reached" in said
        assert "hf download BeIR/tiny --repo-type dataset --revision v1 --local-dir tiny" in said


def test_what_the_hub_has_not_is_one_sentence(hub: hub_server.Hub, tmp_path: Path) -> None:
    assert "the hub has no hf://datasets/BeIR/none" in str(prepared("hf://datasets/BeIR/none", hub, tmp_path))
    assert "the hub has no hf://datasets/BeIR/tiny@v9" in str(prepared("hf://datasets/BeIR/tiny@v9", hub, tmp_path))
    assert "is not a valid hub address" in str(prepared("hf://scifact", hub, tmp_path))


def test_half_a_download_is_not_taken_for_the_whole(hub: hub_server.Hub, tmp_path: Path) -> None:
    hub.repositories["datasets/BeIR/tiny"]["queries.jsonl"] = b'{"_id": "q", "text": "lift"}\n'
    hub.broken = "queries.jsonl"
    assert "cannot be reached" in str(prepared("hf://datasets/BeIR/tiny", hub, tmp_path))
    assert "cannot be reached" in str(prepared("hf://datasets/BeIR/tiny", None, tmp_path))
    hub.broken = ""
    assert prepared("hf://datasets/BeIR/tiny", hub, tmp_path)


def test_a_model_comes_without_code_and_without_pickles(hub: hub_server.Hub, tmp_path: Path) -> None:
    files = asked(FETCH, "hf://acme/small", hub, tmp_path)
    assert files == ["config.json", "model.safetensors"]
    assert asked(FETCH, "hf://models/acme/small@main", hub, tmp_path) == files
