"""The parts of the end-to-end test: Ceph's S3 gateway, and a corpus and a student that lie in it."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

sys.path.append(str(Path(__file__).parents[1] / "tests/support"))

import ceph
import corpora
import tiny

TOPICS = ("wing lift drag stall flap slat", "engine thrust fan core inlet nozzle", "sea wave tide reef shore foam")
COMMON = "test flow data speed angle model value case"
BUCKET = "hone"


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Ceph's S3 gateway (`tests/ceph.py`) is reached on loopback."""
    folder = tmp_path_factory.mktemp("s3")
    command = [sys.executable, ceph.__file__, str(folder / "ceph"), str(os.getpid())]
    with (folder / "errors").open("w") as errors:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert server.stdout
    line = server.stdout.readline()
    assert line, (folder / "errors").read_text("utf-8")
    gateway = ceph.Gateway(**json.loads(line))
    environment = {
        "AWS_ENDPOINT_URL_S3": gateway.address,
        "AWS_ACCESS_KEY_ID": gateway.access_key,
        "AWS_SECRET_ACCESS_KEY": gateway.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    os.environ.update(environment)
    try:
        boto3.Session().client("s3").create_bucket(Bucket=BUCKET)
        yield environment
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, s3: dict[str, str]) -> Path:
    """A corpus with judgements and a tiny random student, here and in the bucket."""
    folder = tmp_path_factory.mktemp("home")
    draw = random.Random(7)
    topics = [draw.choice(TOPICS).split() for _ in range(240)]
    docs = corpora.docs(*(" ".join(draw.choices([*topic, *COMMON.split()], k=24)) for topic in topics))
    asked = {f"q{n}": " ".join(docs[n]["text"].split()[3:8]) for n in range(40)}
    qrels = {split: [(f"q{n}", f"d{n}", 1) for n in range(at, 40, 2)] for at, split in enumerate(("dev", "test"))}
    corpora.beir(folder / "corpus", docs, asked, **qrels)
    tiny.student(folder / "student", vocab_texts=[*TOPICS, COMMON])
    client: Any = boto3.Session().client("s3")
    for path in sorted(file for name in ("corpus", "student") for file in (folder / name).rglob("*") if file.is_file()):
        client.upload_file(str(path), BUCKET, f"in/{path.relative_to(folder).as_posix()}")
    return folder


def settings(name: str, where: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run whose corpus and student lie at `where`, a folder or an s3:// address."""
    base: dict[str, Any] = {
        "name": name,
        "student": {"model": f"{where}/student"},
        "prepare": {"corpus": f"{where}/corpus"},
        "generate": {"extractive": {"styles": {"search": 1}}},
        "mine": {"top_k": 20, "consistency_rank": 0},
        "teacher": {"kind": "fusion", "force": True},
        "curate": {"min_docs": 6, "list_size": 6, "outscored": "relabel", "weak_percentile": 5, "dev_share": 0},
        "distill": {"list_size": 6, "batch_size": 16, "max_steps": 30, "learning_rate": 0.001, "checkpoint_every": 2},
        "evaluate": {"permutations": 200, "bootstrap": 50},
        # Random weights learn little: the policy asks for nothing, unless a test says otherwise.
        "gate": {
            "min_gain": -1,
            "beat": "base",
            "max_p": 0.999,
            "min_lists": 0,
            "teacher_qualified": False,
            "test_split": False,
            "max_leaks": 1000,
            "max_slowdown": 1000,
        },
        "publish": {"domain": "tiny"},
        "encode": {"out": f"{where}/vectors"},
    }
    return {**base, **changes}


def text(data: dict[str, Any]) -> str:
    return yaml.safe_dump(data)
