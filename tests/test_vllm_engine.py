"""The vllm backend for real, on vLLM's CPU build with a tiny random Llama. One process does it all: the engine takes
threads and memory as it pleases."""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from hone.backends.teachers.settings import OneTeacher
from hone.backends.teachers.vllm_scores import VLLMScores
from hone.errors import UserError

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(shared: Path) -> dict[str, Any]:
    """What that process found; the first worker that asks lets it run, for all."""
    folder = shared / "vllm"
    with (shared / "vllm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "found.json").exists():
            folder.mkdir(exist_ok=True)
            command = [sys.executable, str(HERE / "support/vllm_on_cpu.py"), str(folder)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3_000:]
            (folder / "found.json").write_text(done.stdout.splitlines()[-1], "utf-8")
    return json.loads((folder / "found.json").read_text("utf-8"))


def test_the_stage_generates_with_vllm_and_pays_once(found: dict[str, Any]) -> None:
    first, again = found["costs"]
    assert found["drafts"] == [192, 192]
    assert first["new_tokens"] > 192
    assert "prompt_tokens" not in again


def test_prompts_share_their_beginnings_in_vllms_prefix_cache(found: dict[str, Any]) -> None:
    cost = found["costs"][0]
    assert cost["cached_tokens"] > cost["prompt_tokens"] / 4
    assert found["statistics"]["prefix_cache_hits"] == found["cached"] > 0
    assert found["statistics"]["prefix_cache_queries"] == 3 * sum(found["lengths"])


def test_the_engine_is_given_the_chats_own_tokens_and_none_beyond_its_context(found: dict[str, Any]) -> None:
    assert found["lengths"] == found["expected"]
    assert found["context"] - 60 <= max(found["lengths"]) + 8 <= found["context"]
    assert max(found["new_tokens"]) == 8


def test_an_answer_depends_on_its_prompt_and_seed_alone(found: dict[str, Any]) -> None:
    assert found["repeatable"]
    assert found["seeded"]
    assert found["wanted"]


def test_what_vllm_itself_refuses_is_one_sentence_for_the_user(found: dict[str, Any]) -> None:
    assert re.fullmatch(
        r"vLLM does not start with .*heads \(4\).* size \(3\); change its .*tensor_parallel.*", found["refusal"]
    )


@pytest.mark.parametrize("kind", ["vllm", "vllm_yes_no"])
def test_a_teacher_in_vllm_gives_the_raw_logits_of_transformers(found: dict[str, Any], kind: str) -> None:
    scores = found["scores"][kind]
    np.testing.assert_allclose(scores["vllm"], scores["transformers"], atol=5e-5)
    assert np.ptp(scores["vllm"]) > 0.1
    assert min(scores["vllm"]) < 0  # no sigmoid
    assert 500 <= scores["longest"] <= 512


def test_the_likelihood_of_a_query_in_vllm_is_that_of_transformers(found: dict[str, Any]) -> None:
    scores = found["scores"]["vllm_query_likelihood"]
    np.testing.assert_allclose(scores["vllm"], scores["transformers"], atol=5e-5)
    assert np.ptp(scores["vllm"]) > 0.01
    assert max(scores["vllm"]) < 0


def test_a_folder_of_another_architecture_is_refused_before_vllm_reads_it(tmp_path: Path) -> None:
    for kind, folder in (
        ("vllm", tiny.llama(tmp_path / "llama")),
        ("vllm_yes_no", tiny.bert(tmp_path / "bert", labels=1)),
    ):
        with pytest.raises(UserError, match=r"holds a .*: it is not a .* model"):
            VLLMScores(OneTeacher(kind=kind, model=str(folder)), folder, 1_024)
