"""What `helm test` and the prefetch job run inside a cluster: what does not answer is told in one sentence."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import kfp_server
from hone.errors import UserError
from hone.inputs import references
from hone.kubeflow.preflight import Needs, report
from hone.kubeflow.selftest import checks
from loopback import Handler, Server, running

pytestmark = pytest.mark.slow


def told(host: str = "", store: str = "", queue: str = "", needs: Needs = Needs()) -> None:  # noqa: B008
    report("selftest", checks(host, "search", store, queue, needs))


def test_a_platform_that_lets_the_account_in_is_all_right(capsys: pytest.CaptureFixture[str]) -> None:
    with kfp_server.running() as platform:
        told(host=platform.address)
    assert "lets this account in: all right" in capsys.readouterr().out


def test_a_platform_that_refuses_the_account_or_does_not_answer_is_told() -> None:
    with kfp_server.running() as platform:
        platform.refuses = 403
        with pytest.raises(UserError, match=r"answers 403 .*; give the submitter's account the rights of its Role"):
            told(host=platform.address)
    with pytest.raises(UserError, match="does not answer"):
        told(host="http://127.0.0.1:9")


def test_the_token_of_the_service_account_is_what_the_platform_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("of-the-submitter", "utf-8")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with kfp_server.running() as platform:
        told(host=platform.address)
        assert "Bearer of-the-submitter" in platform.tokens


def test_a_store_gives_back_what_was_written_and_keeps_nothing(tmp_path: Path) -> None:
    told(store=str(tmp_path))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        told(store=str(tmp_path / "file"))


def test_a_missing_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="no GPU is visible"):
        told(needs=Needs(gpus=1))


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """An API server of Kubernetes that knows LocalQueues, by name."""
    queues: dict[str, Any] = {}

    class Cluster(Handler):
        def do_GET(self) -> None:
            version, _, name = self.path.removeprefix("/apis/kueue.x-k8s.io/").partition("/")
            name = name.removeprefix("namespaces/search/localqueues/")
            found = queues.get(name) if version == queues.get("version", "v1beta2") else None
            self.answer(found or {"kind": "Status", "code": 404}, 200 if found else 404)

    server = Server(Cluster)
    cluster = {"name": "c", "cluster": {"server": server.address}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    config = {
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config), "utf-8")
    from kubernetes.config import kube_config

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    with running(server):
        yield queues


def test_a_queue_must_be_there_and_active(kubernetes: dict[str, Any]) -> None:
    kubernetes["hone"] = {"status": {"conditions": [{"type": "Active", "status": "True"}]}}
    told(queue="hone")
    kubernetes["idle"] = {
        "status": {"conditions": [{"type": "Active", "status": "False", "message": "ClusterQueue gpus is inactive"}]}
    }
    with pytest.raises(UserError, match="the LocalQueue idle is not active: ClusterQueue gpus is inactive"):
        told(queue="idle")
    kubernetes["version"] = "v1beta1"  # as before Kueue 0.15
    told(queue="hone")
    kubernetes["new"] = {"status": {}}
    with pytest.raises(UserError, match="Kueue has not looked at it"):
        told(queue="new")
    with pytest.raises(UserError, match="the LocalQueue none in search: 404"):
        told(queue="none")


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as refused:
        told(host="http://127.0.0.1:9", store=str(tmp_path / "file"), needs=Needs(gpus=1))
    assert str(refused.value).count("; ") >= 2


def model(folder: Path, text: str = "weights") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_text(text, "utf-8")
    return references.content_digest(folder)


def test_models_are_fetched_once_whole_and_only_as_declared(tmp_path: Path) -> None:
    digest, cache = model(tmp_path / "e5"), tmp_path / "cache"
    wanted = f"e5={tmp_path / 'e5'}@{digest}"
    assert list(references.fetch_all([wanted], cache)) == [("e5", digest)]
    before = (cache / "e5").stat().st_ino
    assert list(references.fetch_all([wanted], cache)) == [("e5", digest)]
    assert (cache / "e5").stat().st_ino == before
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(UserError, match=f"has the digest {digest}, not the declared {other}"):
        list(references.fetch_all([f"e5={tmp_path / 'e5'}@{other}"], cache))
    assert references.content_digest(cache / "e5") == digest
    changed = model(tmp_path / "e5", "other weights")
    assert list(references.fetch_all([f"e5={tmp_path / 'e5'}"], cache)) == [("e5", changed)]
    assert references.content_digest(cache / "e5") == changed
    assert os.listdir(cache) == ["e5"]


@pytest.mark.parametrize("text", ["e5", "=s3://b/e5", "../e5=s3://b/e5", "e5=s3://b/e5 x"])
def test_a_model_that_cannot_be_meant_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not NAME=SOURCE"):
        list(references.fetch_all([text], tmp_path))
