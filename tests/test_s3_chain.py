"""The whole chain over a real S3 server, through faults of every kind: the same bytes as in a local folder."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import ceph
import chain
import faults
from ceph import Gateway
from hone import settings
from hone.commands import cli
from hone.engine import runner
from hone.storage import s3_connection
from hone.storage.addresses import open_store
from hone.storage.base import Store
from hone.storage.local import LocalStore

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain.home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def expected(home: Path) -> dict[str, str]:
    """The digests of an undisturbed run in a local folder."""
    return chain.digests(chain.run(home, LocalStore(home / "store")))


@pytest.fixture
def store(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(s3_connection, "READ_TIMEOUT", 2.0)
    monkeypatch.setattr(s3_connection, "FIRST_WAIT", 0.05)
    return open_store(f"{bucket}/{tmp_path.name}")


def test_the_chain_over_s3_gives_the_bytes_of_a_local_folder(
    store: Store, home: Path, expected: dict[str, str]
) -> None:
    for file in (path for path in (home / "corpus").rglob("*") if path.is_file()):
        store.put(f"given/{file.relative_to(home).as_posix()}", file)
    path = chain.settings_file(home, "remote")
    path.write_text(path.read_text("utf-8").replace("corpus: corpus", f"corpus: {store.uri}/given/corpus"), "utf-8")
    done = runner.run(settings.load(path), store)
    assert chain.digests(done) == expected
    assert list(store.unfinished()) == []
    again = runner.explain_run(settings.load(path), store)
    assert [step.stage for step in again if step.reason] == []


def test_wrong_keys_are_refused_in_one_sentence_and_nothing_is_written(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hone", "run", str(chain.settings_file(home)), "--store", store.uri])
    for name, refused in (("SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("ACCESS_KEY_ID", "InvalidAccessKeyId")):
        monkeypatch.setenv(f"AWS_{name}", "WRONG")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2
        sentences = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hone: ")]
        assert len(sentences) == 1
        assert f"refused the request ({refused}); check the bucket, region and credentials" in sentences[0]
    assert list(store.objects()) == []


def test_with_faults_in_a_tenth_of_all_requests_the_chain_gives_the_same_bytes_and_says_how_often_it_tried_again(
    gateway: Gateway,
    store: Store,
    home: Path,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HONE_LOG", "json")
    with faults.proxy(gateway.address, faults.some(0.1, seed=1)) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        troubled = open_store(store.uri)
        assert chain.digests(chain.run(home, troubled)) == expected
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    tried = [event for event in said if event["event"] == "store fault"]
    assert len(tried) == troubled.faults.total() > 3
    assert [event for event in said if event["event"] == "finished"][-1]["faults"] != {}
    assert list(store.unfinished()) == []


def test_a_server_that_is_killed_and_restarted_amid_a_run_delays_it_only(
    gateway: Gateway,
    store: Store,
    home: Path,
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = ceph.free_port()
    command = ceph.serve(gateway.folder, "other", port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(s3_connection, "FIRST_WAIT", 0.2)
    servers = [subprocess.Popen(command)]
    ceph.wait_for(port)
    own = open_store(store.uri)
    own.check_writable()

    def restart(step: runner.Step) -> None:
        if step.stage == "score":
            servers[0].kill()
            threading.Timer(1.0, lambda: servers.append(subprocess.Popen(command))).start()

    try:
        done = runner.run(chain.checked(home), own, tell=restart)
    finally:
        for server in servers:
            server.kill()
            server.wait()
    assert len(servers) == 2
    assert own.faults.total() > 0
    assert chain.digests(done) == expected
