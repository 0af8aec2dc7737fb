"""What all tests share."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from hypothesis import settings

import ceph
from ceph import Gateway

# Tests run side by side, a process for each core: threads of their own would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test is timed: a busy machine would make it fail.
settings.register_profile("hone", deadline=None)
settings.load_profile("hone")


_SLOW_FILES = """
    kubernetes_docs
    ablate api audit bad_input browser causal_lm chain chaos chart ci_examples demo_corpus distill domains encoder
    evaluate flips forecast fuzz gate gc gradients guard handover images install killed_generation killed_together
    leases losses mixed_sources openai_api pictures pipelines preflight publishers registry rerank_endpoint
    s3_chain score sealed secrets selftest server_accents store submit terminal together trainer upkeep
    agenda check_endpoint first_hour gallery gpu_benchmark site store_policy trainjob vectors vllm_engine
"""
SLOW = frozenset(_SLOW_FILES.split())
"""Test files, without test_, that start servers or processes or run the whole chain: `make quick` leaves them out."""


_LONG_FILES = """
    ablate chaos ci_examples flips fuzz gc killed_generation killed_together s3_chain
"""
LONG = frozenset(_LONG_FILES.split())
"""Test files, without test_, that take minutes: `make test` leaves them out, `make test-all` and CI run them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem.removeprefix("test_") in LONG:
            item.add_marker(pytest.mark.long)
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The usual AWS settings, empty: what the machine has of its own is out of the way."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Gateway:
    """A real S3 server (`tests/ceph.py`), started once and shared by all workers until the test run ends."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("Ceph is installed and started by root; CI does so")
    several = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if several else base
    with (shared / "ceph.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = shared / "ceph.json"
        if not told.exists():
            _start_ceph(shared, told, os.getppid() if several else os.getpid())
    return Gateway(**json.loads(told.read_text("utf-8")))


@pytest.fixture
def bucket(gateway: Gateway, aws: pytest.MonkeyPatch) -> str:
    """The address of a bucket of that server, which the usual AWS settings name."""
    aws.setenv("AWS_ENDPOINT_URL", gateway.address)
    aws.setenv("AWS_ACCESS_KEY_ID", gateway.access_key)
    aws.setenv("AWS_SECRET_ACCESS_KEY", gateway.secret_key)
    # Its own session: the default one keeps the keys it saw first, whatever test set them.
    boto3.Session().client("s3", region_name="default").create_bucket(Bucket="runs")
    return "s3://runs"


def _start_ceph(shared: Path, told: Path, owner: int) -> None:
    command = [sys.executable, ceph.__file__, str(shared / "ceph"), str(owner)]
    with (shared / "ceph.err").open("w") as errors:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
    assert child.stdout
    line = child.stdout.readline()
    assert line, f"Ceph did not start: {(shared / 'ceph.err').read_text('utf-8')}"
    told.write_text(line, "utf-8")
