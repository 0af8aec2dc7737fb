"""What all tests share."""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

import ceph
from ceph import Gateway

# Tests run side by side, a process for each core: threads of their own would only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test is timed: a busy machine would make it fail.
settings.register_profile("hone", deadline=None)
settings.load_profile("hone")

MARK = re.compile(r"^pytestmark = pytest\.mark\.(slow|long)$", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that `-m` leaves out are not read either: importing all that they need takes longer than a quick test."""
    if not collection_path.name.startswith("test_"):
        return None
    mark = MARK.search(collection_path.read_text("utf-8"))
    return True if mark and f"not {mark[1]}" in config.option.markexpr else None


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many again as there are cores where one test in three waits for a server or a process that it started;
    quick tests start none."""
    cores = os.cpu_count() or 1
    return cores if "not slow" in config.option.markexpr else cores + cores // 2


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The usual AWS settings, empty: what the machine has of its own is out of the way."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


SEVERAL = "PYTEST_XDIST_WORKER" in os.environ


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if SEVERAL else base


@pytest.fixture(scope="session")
def gateway(shared: Path) -> Gateway:
    """A real S3 server (`tests/support/ceph.py`), started once and shared by all workers until the test run ends."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("Ceph is installed and started by root; CI does so")
    with (shared / "ceph.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        told = shared / "ceph.json"
        if not told.exists():
            _start_ceph(shared, told, os.getppid() if SEVERAL else os.getpid())
    return Gateway(**json.loads(told.read_text("utf-8")))


@pytest.fixture
def bucket(gateway: Gateway, aws: pytest.MonkeyPatch) -> str:
    """The address of a bucket of that server, which the usual AWS settings name."""
    aws.setenv("AWS_ENDPOINT_URL", gateway.address)
    aws.setenv("AWS_ACCESS_KEY_ID", gateway.access_key)
    aws.setenv("AWS_SECRET_ACCESS_KEY", gateway.secret_key)
    import boto3

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
