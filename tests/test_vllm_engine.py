"""The vllm backend for real, on vLLM's CPU build with a tiny random Llama. One process does it all: the engine takes
threads and memory as it pleases."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "vllm_on_cpu.py"), str(tmp_path_factory.mktemp("vllm"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_stage_generates_with_vllm_and_pays_once(found: dict[str, Any]) -> None:
    first, again = found["costs"]
    assert found["drafts"] == [192, 192]
    assert first["new_tokens"] > 192
    assert "prompt_tokens" not in again


def test_the_default_prompts_share_their_beginnings_in_vllms_prefix_cache(found: dict[str, Any]) -> None:
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
