"""A published model goes on to a hub, MLflow, a Model Registry, ONNX: the real clients against local servers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from huggingface_hub import constants
from sentence_transformers import SentenceTransformer

import tiny
from hone.backends import library
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.export import hub, kubeflow_registry, mlflow_store, onnx_form
from hone.backends.export.settings import Hub, MLflow, ModelRegistry, Parcel
from hone.errors import TransientError, UserError
from hone.results import registry
from hone.results.registry import Release
from hone.stages import publish
from hone.storage.local import LocalStore
from registries import Registries, serving
from released import add, put, results
from released import published as published_stage

pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[Registries]:
    with serving() as server:
        yield server


def parcel(folder: Path) -> Parcel:
    for name, text in (("model.safetensors", "weights"), ("README.md", "the card"), ("1_Pooling/config.json", "{}")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    release = Release(
        domain="support", version="a1b2", model="m" * 64, verdict="v", finding="Tuned is better: 0.3 → 0.4",
        parts=registry.parts_of(folder),
    )  # fmt: skip
    return Parcel(release, folder, "s3://bucket/models/support/a1b2", {"tuned_nDCG_at_10": 0.4})


@pytest.fixture
def at_hub(server: Registries, monkeypatch: pytest.MonkeyPatch) -> Registries:
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # Xet is its own protocol; Git LFS is older
    return server


def test_a_hub_gets_every_file_in_one_commit_with_a_tag(at_hub: Registries, tmp_path: Path) -> None:
    sent = parcel(tmp_path / "model")
    for _ in range(2):
        assert hub.push(Hub(repository="team/support"), sent) == f"{at_hub.address}/team/support"
    assert at_hub.repositories["team/support"] == {
        "model.safetensors": b"weights", "README.md": b"the card", "1_Pooling/config.json": b"{}",
    }  # fmt: skip
    assert at_hub.commits[0] == "support a1b2: Tuned is better: 0.3 → 0.4"
    assert set(at_hub.tags) == {"a1b2"}
    assert "Bearer hf_secret" in at_hub.tokens
    assert constants.HF_HUB_OFFLINE  # nothing else is fetched afterwards


@pytest.mark.parametrize(("status", "kind"), [(403, UserError), (429, TransientError)])
def test_a_hub_that_refuses_is_told_in_one_sentence(
    at_hub: Registries, tmp_path: Path, status: int, kind: type[Exception]
) -> None:
    at_hub.refuses = status
    with pytest.raises(kind, match=rf"publish\.hub: team/support: the hub answers {status}"):
        hub.push(Hub(repository="team/support"), parcel(tmp_path / "model"))


def test_a_model_registry_gets_a_version_that_points_at_the_store_once(server: Registries, tmp_path: Path) -> None:
    sent = parcel(tmp_path / "model")
    for _ in range(2):
        assert kubeflow_registry.push(ModelRegistry(url=server.address), sent) == sent.address
    model, version, artifact = (server.held[kind] for kind in ("model", "version", "artifact"))
    assert [row["name"] for row in model] == ["support"]
    assert [(row["name"], row["registeredModelId"], row["description"]) for row in version] == [
        ("a1b2", "1", "Tuned is better: 0.3 → 0.4")
    ]
    assert version[0]["customProperties"]["tuned_nDCG_at_10"]["double_value"] == 0.4
    assert [(row["uri"], row["modelFormatName"]) for row in artifact] == [(sent.address, "sentence-transformers")]


@pytest.mark.parametrize("breaks", ["POST .*/model_versions$", "POST .*/artifacts$"])
def test_a_push_to_a_model_registry_that_was_cut_off_is_made_whole_by_the_next(
    server: Registries, tmp_path: Path, breaks: str
) -> None:
    sent, settings = parcel(tmp_path / "model"), ModelRegistry(url=server.address)
    server.breaks = breaks
    with pytest.raises(TransientError, match="answers 503"):
        kubeflow_registry.push(settings, sent)
    assert not server.held["artifact"]
    server.breaks = ""
    for _ in range(2):
        kubeflow_registry.push(settings, sent)
    assert {kind: len(rows) for kind, rows in server.held.items()} == {"model": 1, "version": 1, "artifact": 1}
    assert server.held["artifact"][0]["uri"] == sent.address
    assert server.held["artifact"][0]["modelFormatName"] == "sentence-transformers"


def test_a_model_registry_that_refuses_or_is_away_is_told_in_one_sentence(tmp_path: Path) -> None:
    sent = parcel(tmp_path / "model")
    with serving() as server:
        server.refuses = 401
        with pytest.raises(UserError, match="answers 401"):
            kubeflow_registry.push(ModelRegistry(url=server.address), sent)
    with pytest.raises(TransientError, match="cannot be reached"):
        kubeflow_registry.push(ModelRegistry(url=server.address), sent)


def test_mlflow_gets_figures_files_and_a_version_that_is_current_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlflow").as_uri()
    for _ in range(2):
        assert mlflow_store.push(MLflow(uri=uri), parcel(tmp_path / "model")) == "models:/support/1"
    client = library("mlflow", "mlflow").MlflowClient(tracking_uri=uri, registry_uri=uri)
    version = client.get_model_version_by_alias("support", "current")
    assert (int(version.version), version.tags["hone.version"]) == (1, "a1b2")
    run = client.get_run(version.run_id)
    assert (run.data.metrics, run.info.status) == ({"tuned_nDCG_at_10": 0.4}, "FINISHED")
    held = {path.name for path in Path(run.info.artifact_uri.removeprefix("file://")).rglob("*") if path.is_file()}
    assert held == {"model.safetensors", "README.md", "config.json"}
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    refusing = (tmp_path / "new").as_uri()  # MLflow makes no new file store unless it is told to
    with pytest.raises(TransientError, match=r"publish\.mlflow: file:"):
        mlflow_store.push(MLflow(uri=refusing), parcel(tmp_path / "model"))


def test_a_missing_client_is_named_with_what_to_install() -> None:
    with pytest.raises(
        UserError,
        match=r"no_such_client is not installed, which the extra hub brings: pip install 'hone-retrieval\[hub\]'",
    ):
        library("no_such_client", "hub")


def test_a_saved_student_has_what_text_embeddings_inference_reads(tmp_path: Path) -> None:
    """Its router and backends read these files and refuse a pooling file that lacks one of four modes."""
    folder, student = tmp_path / "tuned", tiny.student(tmp_path / "student", layers=1)
    encoder = Encoder(student, Student(model=str(student)))
    encoder.add_head()
    encoder.save(folder)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights = {"model.safetensors", "2_Dense/model.safetensors"}
    assert weights | {"config.json", "tokenizer.json", "tokenizer_config.json", "modules.json"} <= names
    pooling = json.loads((folder / "1_Pooling/config.json").read_text())
    modes = {f"pooling_mode_{name}" for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")}
    assert [mode for mode in sorted(modes) if pooling[mode]] == ["pooling_mode_mean_tokens"]
    modules = [entry["type"] for entry in json.loads((folder / "modules.json").read_text())]
    assert modules == [
        f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling", "Dense", "Normalize")
    ]
    dense = json.loads((folder / "2_Dense/config.json").read_text())
    assert dense["activation_function"] == "torch.nn.modules.linear.Identity"
    config = json.loads((folder / "config.json").read_text())
    assert {"architectures", "model_type", "max_position_embeddings"} <= config.keys()
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] > 0


def test_the_onnx_form_gives_the_vectors_of_sentence_transformers(tmp_path: Path) -> None:
    folder = tiny.student(tmp_path / "student", pooling="cls", layers=1)
    assert onnx_form.add(folder) < 1e-5
    texts = ["hello", "a longer text of nine words to be padded"]
    model = SentenceTransformer(str(folder), device="cpu")
    tokens = model.tokenizer(texts, padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(str(folder / onnx_form.PLACE), providers=["CPUExecutionProvider"])
    hidden = session.run(None, {name: tokens[name] for name in ("input_ids", "attention_mask")})[0]
    found = hidden[:, 0] / np.linalg.norm(hidden[:, 0], axis=1, keepdims=True)
    assert np.abs(found - model.encode(texts)).max() < 1e-5


def test_an_onnx_form_that_gives_other_vectors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.student(tmp_path / "student", layers=1)
    monkeypatch.setattr(onnx_form, "_export", lambda encoder, target: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Wrong)
    with pytest.raises(UserError, match="the ONNX model gives other vectors"):
        onnx_form.add(folder)


class Wrong:
    """A session whose token vectors are all alike."""

    def __init__(self, path: str, providers: list[str]) -> None:
        pass

    def run(self, outputs: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.ones((*inputs["input_ids"].shape, 32), np.float32)]


def test_publish_hands_on_to_what_the_settings_name_and_again_after_a_fault(server: Registries, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    inputs = results(store, tmp_path, "promote", lambda digest: digest)
    config = publish.Config(domain="support", model_registry=ModelRegistry(url=server.address))
    assert list(config.places) == ["model_registry"]
    server.refuses = 503
    with pytest.raises(TransientError, match="answers 503"):
        published_stage(store, tmp_path, inputs, config)
    assert len(registry.moves(store, "support")) == 1  # the store's own registry is never in doubt
    put(store, add(store, tmp_path, "later").version)
    server.refuses = 0
    found = published_stage(store, tmp_path, inputs, config)
    assert found.facts["model_registry"] == server.held["artifact"][0]["uri"]
    assert server.held["version"][0]["name"] == found.facts["version"]
    assert [move.version for move in registry.moves(store, "support")] == [found.facts["version"], "later"]
    assert json.loads((store.root / found.place("published") / "published.json").read_text())["model_registry"]
