"""A search that has been made once: nothing is encoded or imported again, and nothing stale is served."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RobertaConfig, RobertaModel

import chain
import tiny
from hone.backends import encoders
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import BiEncoder
from hone.backends.encoders.numpy_encoder import NumpyEncoder
from hone.backends.encoders.numpy_form import write_numpy_form
from hone.scratch import scratch_folder
from hone.serving import retriever
from hone.serving.search import Searcher, top_tens
from hone.storage.base import sha256_of
from hone.storage.local import LocalStore

QUERIES = ("wing", "how does a wing stall at speed", "sea wave and tide, reef shore foam " * 20)
ASKED = """
import json, sys
from hone.commands.cli import main
try:
    main()
finally:
    print(json.dumps(sorted({module.partition(".")[0] for module in sys.modules})), file=sys.stderr)
"""


def roberta(folder: Path) -> Path:
    tokenizer = tiny.word_pieces([*QUERIES])
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=tiny.LONGEST, initializer_range=0.2, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(3)
    RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def classifier(folder: Path) -> Path:
    """Its layers have `bert.` before their names."""
    return tiny.bert(folder, labels=2)


def cls_with_prompt(folder: Path) -> Path:
    return tiny.student(folder, pooling="cls", prompts={"query": "asked: ", "document": ""})


def headed(folder: Path) -> Path:
    """A student with a trained head, as Hone saves it."""
    encoder = Encoder(tiny.student(folder.with_name("plain")), BiEncoder(model="x"))
    encoder.add_head().change.data = torch.randn(32, 32, generator=torch.Generator().manual_seed(5)) / 4
    encoder.save(folder)
    return folder


@pytest.mark.parametrize("made", [tiny.bert, roberta, classifier, cls_with_prompt, headed])
@pytest.mark.parametrize("pooling", ["auto", "max", "last", "mean_sqrt_len", "weightedmean"])
def test_queries_without_torch_have_the_same_vectors(made: Any, pooling: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "model")
    encoder = Encoder(folder, BiEncoder(model="x", pooling=pooling, max_query_tokens=24))
    assert write_numpy_form(encoder, folder, tmp_path / "form.safetensors")
    found = NumpyEncoder(folder, tmp_path / "form.safetensors").queries(QUERIES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, encoder.queries(QUERIES), atol=2e-6)


def test_a_model_that_is_no_bert_keeps_torch_for_its_queries(tmp_path: Path) -> None:
    for made in (tiny.modernbert, tiny.embedding_qwen3):
        folder = made(tmp_path / made.__name__)
        assert not write_numpy_form(Encoder(folder, BiEncoder(model="x")), folder, tmp_path / "form")
        assert not (tmp_path / "form").exists()


def test_a_model_whose_vectors_differ_keeps_torch_for_its_queries(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "model")
    encoder = Encoder(folder, BiEncoder(model="x"))
    encoder.model.encoder.layer[0].attention.self.register_forward_hook(lambda *_: (_[2][0] * 2, *_[2][1:]))
    assert not write_numpy_form(encoder, folder, tmp_path / "form")
    assert not (tmp_path / "form").exists()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = chain.home(tmp_path_factory.mktemp("home"))
    chain.run(folder, LocalStore(folder / "store"))
    return folder


def asked(home: Path) -> tuple[str, set[str]]:
    """What `hone search` prints in a process of its own, and the packages that it imported."""
    ran = subprocess.run(
        [sys.executable, "-c", ASKED, "search", "tiny", "wing lift", "--store", str(home / "store")],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "COLUMNS": "100"},
    )
    assert ran.returncode == 0, ran.stderr[-800:]
    return ran.stdout, set(json.loads(ran.stderr.splitlines()[-1]))


@pytest.mark.slow
def test_the_second_search_imports_no_torch_and_answers_the_same(home: Path) -> None:
    first, imported = asked(home)
    assert {"torch", "transformers"} <= imported
    second, imported = asked(home)
    assert not imported & {"torch", "transformers", "sklearn", "scipy", "pandas", "bm25s"}
    assert second == first


def test_vectors_are_mapped_from_the_store_and_nothing_is_encoded_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(home / "store")
    before = top_tens(store, "tiny", "wing lift")
    monkeypatch.setattr(encoders, "encode_by", None)
    monkeypatch.setattr(encoders, "Encoder", None)
    with scratch_folder() as scratch:
        searcher = Searcher(store, "tiny", scratch)
        assert searcher.top_tens("wing lift") == before
        for side in searcher.sides:
            assert not side.vectors.flags.owndata
            assert not side.vectors.flags.writeable


def test_documents_of_equal_score_come_in_their_order() -> None:
    class Same:
        def queries(self, texts: Any) -> np.ndarray:
            return np.ones((len(texts), 2), np.float32)

    vectors = np.array([[1, 0], [2, 0], [0, 1], [0, 2], [1, 0]], np.float32)
    ids = retriever.pa.array(["a", "b", "c", "d", "e"])
    found = retriever.Retriever(Same(), ids, vectors)
    assert found.best("x", 4) == [("b", 2.0), ("d", 2.0), ("a", 1.0), ("c", 1.0)]
    assert len(found.best("x", 9)) == 5


def test_a_damaged_file_is_made_again(home: Path) -> None:
    store = LocalStore(home / "store")
    before = top_tens(store, "tiny", "reef")
    kept = sorted((home / "store/memo/search").rglob("*.arrow"))
    assert kept
    for file in kept:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert top_tens(store, "tiny", "reef") == before
    assert not [file for file in kept if sha256_of(file) != file.stem]


def test_a_base_model_that_was_changed_on_disk_is_not_served_from_what_was_kept(tmp_path: Path) -> None:
    folder = chain.home(tmp_path)
    store = LocalStore(folder / "store")
    chain.run(folder, store)
    before, tuned = top_tens(store, "tiny", "wing lift")
    weights = folder / "student/model.safetensors"
    tensors = load_file(weights)
    tensors["encoder.layer.0.output.dense.weight"] *= -3
    save_file(tensors, weights, {"format": "pt"})
    now, same = top_tens(store, "tiny", "wing lift")
    assert [hit.score for hit in now] != [hit.score for hit in before]
    assert [hit.doc_id for hit in same] == [hit.doc_id for hit in tuned]
