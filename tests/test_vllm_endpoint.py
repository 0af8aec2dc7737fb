"""`hone check-endpoint` against vLLM's own server, on its CPU build."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from typer.testing import CliRunner

import chain
import tiny
from ceph import free_port
from hone.commands.cli import app
from hone.results.table_io import fetch_folder
from hone.storage.local import LocalStore

pytestmark = pytest.mark.long

PROMPT = "find: "
PROMPTS = {"query": PROMPT, "document": ""}
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
}  # fmt: skip
START_SECONDS = 300


@dataclass(frozen=True)
class Served:
    """vLLM serving the tuned model of the run `tiny`; the run `other` tuned another student, and `again` tuned what is
    served once more, which so is its base."""

    store: str
    address: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = chain.home(tmp_path_factory.mktemp("home"))
    words = [*chain.TOPICS, chain.COMMON, "find"]
    # vLLM's attention on a CPU takes heads of 32 numbers and more.
    for seed, name in enumerate(("prompted", "another")):
        tiny.student(folder / name, dim=128, layers=1, vocab_texts=words, prompts=PROMPTS, seed=seed)
    store = LocalStore(folder / "store")
    done = chain.run(folder, store, student={"model": "prompted"})
    tuned = fetch_folder(store, done["distill"], "model", folder)
    chain.run(folder, store, "other", student={"model": "another"})
    longer = {name: chain.PROMOTED[name] for name in ("curate", "distill")}
    chain.run(folder, store, "again", student={"model": str(tuned)}, **longer)
    address = f"http://127.0.0.1:{free_port()}"
    with (folder / "server.log").open("w+b") as log:
        server = started(tuned, address, log)
        try:
            wait_for(server, f"{address}/health", folder / "server.log")
            yield Served(store.uri, address)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def started(model: Path, address: str, log: Any) -> "subprocess.Popen[bytes]":
    """What `vllm serve` runs, in a group of its own: the engine is a process beside the server."""
    host, port = address.removeprefix("http://").split(":")
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--runner", "pooling"]
    command += ["--dtype", "float32", "--enforce-eager", "--host", host, "--port", port]
    return subprocess.Popen(command, env={**os.environ, **ENVIRONMENT}, stdout=log, stderr=log, start_new_session=True)


def wait_for(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < end:
        try:
            if urllib3.request("GET", url, retries=False).status == 200:
                return
        except urllib3.exceptions.HTTPError:
            time.sleep(0.5)
    pytest.fail(log.read_text("utf-8", errors="replace")[-3_000:])


def checked(served: Served, run: str, *more: str) -> tuple[int, dict[str, Any]]:
    asked = ["check-endpoint", served.address, run, "--store", served.store, "--json", *more]
    made = CliRunner().invoke(app, asked)
    assert made.stdout.startswith("{"), made.output
    return made.exit_code, json.loads(made.stdout)


def test_the_tuned_model_served_by_vllm_gives_the_vectors_and_the_ndcg_that_were_measured(served: Served) -> None:
    code, found = checked(served, "tiny", "--documents")
    assert (code, found["causes"]) == (0, [])
    assert found["texts"]["document"]["count"] == 40
    assert min(side["least_cosine"] for side in found["texts"].values()) > 0.99999
    assert found["nDCG@10"]["served"] == pytest.approx(found["nDCG@10"]["measured"], abs=1e-9)


def test_vllm_adds_no_prompt_by_itself_and_this_is_named(served: Served) -> None:
    code, found = checked(served, "tiny", "--prompts", "server")
    assert code == 3
    assert [(cause["says"], cause["of"]) for cause in found["causes"]] == [
        (f"the prompt '{PROMPT}' is missing", ["query"])
    ]


def test_vllm_that_serves_the_base_in_place_of_the_tuned_model_is_told_so(served: Served) -> None:
    code, found = checked(served, "again", "--documents")
    assert code == 3
    assert [(cause["kind"], cause["of"]) for cause in found["causes"]] == [("model", ["document", "query"])]
    assert found["causes"][0]["says"] == "it serves the base model, not the tuned one"
    assert found["causes"][0]["remedy"] == "load this run's model folder"
    assert max(side["least_cosine"] for side in found["texts"].values()) < 0.99


def test_vllm_with_the_model_of_another_run_differs_and_the_folder_it_loaded_is_doubted(served: Served) -> None:
    code, found = checked(served, "other")
    assert code == 3
    assert [(cause["kind"], cause["of"]) for cause in found["causes"]] == [("unknown", ["document", "query"])]
    assert "loaded this run's model folder" in found["causes"][0]["remedy"]
