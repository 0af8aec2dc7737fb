"""All that a student's folder can declare: the vectors are those of sentence-transformers, before and after saving, or
it is refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from transformers import RobertaConfig, RobertaModel

import tiny
import twin
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.backends.training.batches import make_batch
from hone.backends.training.embedders import HeadOnly, make_embedder
from hone.backends.training.gradients import Gradients
from hone.backends.training.loop import take_step
from hone.backends.training.settings import LossSettings, TrainingSettings
from hone.backends.training.state import State
from hone.errors import UserError

TEXTS = [*twin.texts(10), "flow", "Heat FLOW " * 90]
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
SEVERAL = [["cls", "mean"], ["mean", "cls"], ["max", "lasttoken", "weightedmean"]]
PROMPTS = {"query": "heat flow ", "document": "wing "}
LINEAR, TANH = torch.nn.Identity(), torch.nn.Tanh()


def bert(folder: Path) -> Path:
    return tiny.bert(folder.with_name(f"{folder.name}-bert"), vocab_texts=twin.WORDS)


def made(folder: Path, *tail: Any, pooling: Any = "mean", weights: Callable[[Path], Path] = bert, **says: Any) -> Path:
    """A folder of sentence-transformers' own; `tail` stands after pooling, `says` in its settings."""
    pooled = Pooling(32, pooling_mode=tuple(pooling) if isinstance(pooling, list) else pooling)
    modules = [Transformer(str(weights(folder))), pooled, *tail]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)
    tiny.reconfigured(folder, "config_sentence_transformers.json", **says)
    return folder


def without_prompt(folder: Path, pooling: str) -> Path:
    made(folder, Normalize(), pooling=pooling, prompts=PROMPTS)
    tiny.reconfigured(folder, "1_Pooling/config.json", include_prompt=False)
    return folder


def older(folder: Path, **flags: bool) -> Path:
    """As sentence-transformers wrote pooling before version 5."""
    made(folder, Normalize())
    config = {"word_embedding_dimension": 32} | {f"pooling_mode_{name}": on for name, on in flags.items()}
    (folder / "1_Pooling/config.json").write_text(json.dumps(config))
    return folder


def elsewhere(folder: Path) -> Path:
    """The pooling file in another folder than most."""
    made(folder, Normalize(), pooling="max")
    (folder / "1_Pooling").rename(folder / "pooled")
    listed = (folder / "modules.json").read_text()
    (folder / "modules.json").write_text(listed.replace("1_Pooling", "pooled"))
    return folder


def roberta(folder: Path) -> Path:
    """Positions count from after the padding, and the tokenizer knows no limit."""
    path = folder.with_name(f"{folder.name}-roberta")
    tokenizer = tiny.word_pieces(twin.WORDS)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, initializer_range=0.2, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(1)
        RobertaModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def cut_short(folder: Path, **says: Any) -> Path:
    made(folder, Normalize())
    tiny.reconfigured(folder, "sentence_bert_config.json", **says)
    return folder


def dense(
    size: int, *, bias: bool = False, activation: torch.nn.Module = LINEAR, start: int = 32, **more: Any
) -> Dense:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dense(start, size, bias=bias, activation_function=activation, **more)


DECLARED: dict[str, Callable[[Path], Path]] = {
    **{
        f"pooling {mode}": lambda folder, mode=mode: made(folder, Normalize(), pooling=mode) for mode in MODES + SEVERAL
    },
    **{f"no prompt in {mode}": lambda folder, mode=mode: without_prompt(folder, mode) for mode in MODES},
    "older flags": lambda folder: older(folder, weightedmean_tokens=True, mean_tokens=False),
    "older flags, two": lambda folder: older(folder, max_tokens=True, cls_token=True),
    "older flags, none": lambda folder: older(folder, max_tokens=False),
    "pooling elsewhere": elsewhere,
    "prompts": lambda folder: made(folder, Normalize(), prompts=PROMPTS),
    "one prompt": lambda folder: made(folder, Normalize(), prompts={"query": "heat "}),
    "no normalisation": lambda folder: made(folder),
    "dot product": lambda folder: made(folder, similarity_fn_name="dot"),
    "dot product of unit vectors": lambda folder: made(folder, Normalize(), similarity_fn_name="dot"),
    "Euclidean distance of unit vectors": lambda folder: made(folder, Normalize(), similarity_fn_name="euclidean"),
    "truncated": lambda folder: made(folder, Normalize(), truncate_dim=12),
    "truncated to more": lambda folder: made(folder, Normalize(), truncate_dim=120),
    "truncated, dot product": lambda folder: made(folder, Normalize(), truncate_dim=12, similarity_fn_name="dot"),
    "truncated, plain, dot": lambda folder: made(folder, truncate_dim=12, similarity_fn_name="dot"),
    "Dense": lambda folder: made(folder, dense(24), dense(8, start=24), Normalize()),
    "Dense with a constant": lambda folder: made(folder, dense(24, bias=True), Normalize()),
    "Dense with tanh": lambda folder: made(folder, dense(24, bias=True, activation=TANH), Normalize()),
    "Dense with GELU, twice": lambda folder: made(
        folder, dense(24, activation=torch.nn.GELU()), dense(8, start=24, bias=True, activation=TANH), Normalize()
    ),
    "Dense that adds": lambda folder: made(folder, dense(32, activation=TANH, use_residual=True), Normalize()),
    "Dense that adds and widens": lambda folder: made(folder, dense(40, use_residual=True, bias=True), Normalize()),
    "Dense after normalisation": lambda folder: made(folder, Normalize(), dense(24, bias=True)),
    "Dense, dot product": lambda folder: made(folder, dense(24, bias=True, activation=TANH), similarity_fn_name="dot"),
    "Dense, two ways, truncated": lambda folder: made(
        folder, dense(24, start=64, activation=TANH), Normalize(), pooling=["cls", "max"], truncate_dim=9
    ),
    "fewer tokens": lambda folder: cut_short(folder, max_seq_length=20),
    "RoBERTa's positions": lambda folder: made(folder, Normalize(), weights=roberta),
}


@pytest.mark.parametrize("name", DECLARED)
def test_vectors_are_those_of_sentence_transformers_before_and_after_saving(name: str, tmp_path: Path) -> None:
    folder = DECLARED[name](tmp_path / "made")
    # sentence-transformers itself gives RoBERTa's kin two tokens more than there are positions.
    texts = TEXTS[:-1] if "RoBERTa" in name else TEXTS
    ours = encoder(folder)
    ours.save(tmp_path / "saved")
    assert_ranks_alike(ours, folder, texts)
    assert_ranks_alike(ours, tmp_path / "saved", texts)
    again = encoder(tmp_path / "saved")
    np.testing.assert_array_equal(again.docs(texts), ours.docs(texts))
    was, now = (SentenceTransformer(str(path), device="cpu") for path in (folder, tmp_path / "saved"))
    np.testing.assert_allclose(now.encode_document(texts), was.encode_document(texts), atol=1e-5)
    assert (was.truncate_dim, was.prompts) == (now.truncate_dim, now.prompts)
    assert now.similarity_fn_name == ("cosine" if was.similarity_fn_name == "euclidean" else was.similarity_fn_name)


def encoder(folder: Path) -> Encoder:
    return Encoder(folder, Student(model=str(folder), max_query_tokens=512))


def assert_ranks_alike(ours: Encoder, folder: Path, texts: list[str]) -> None:
    """Every similarity of a query and a document; of cosines sentence-transformers' vectors may have any length."""
    theirs = SentenceTransformer(str(folder), device="cpu")
    scores = theirs.similarity(theirs.encode_query(texts), theirs.encode_document(texts)).numpy()
    found = ours.queries(texts) @ ours.docs(texts).T
    if theirs.similarity_fn_name == "euclidean":
        scores = 1 - scores**2 / 2
    np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(scores).max() / 10))
    assert ours.docs(texts).shape == theirs.encode_document(texts).shape


def test_a_default_prompt_stands_before_every_text_of_a_folder_that_names_no_other(tmp_path: Path) -> None:
    folder = made(tmp_path / "made", Normalize(), prompts={"any": "heat flow "}, default_prompt_name="any")
    ours = encoder(folder)
    ours.save(tmp_path / "saved")
    for place in (folder, tmp_path / "saved"):
        theirs = SentenceTransformer(str(place), device="cpu")
        for found in (ours.queries(TEXTS), ours.docs(TEXTS)):
            np.testing.assert_allclose(found, theirs.encode(TEXTS), atol=1e-5)


def test_a_passage_prompt_is_that_of_documents_where_no_other_is(tmp_path: Path) -> None:
    ours = encoder(made(tmp_path / "made", Normalize(), prompts={"query": "heat ", "passage": "wing "}))
    assert (ours.query_prefix, ours.doc_prefix) == ("heat ", "wing ")


def test_texts_are_put_in_lower_case_where_the_folder_says_so(tmp_path: Path) -> None:
    def cased(folder: Path) -> Path:
        path = bert(folder)
        text = (path / "tokenizer.json").read_text()
        (path / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'))
        tiny.reconfigured(path, "tokenizer_config.json", do_lower_case=False)
        return path

    folder = made(tmp_path / "made", Normalize(), weights=cased)
    plain = encoder(folder).docs(["HEAT flow"])
    tiny.reconfigured(folder, "sentence_bert_config.json", do_lower_case=True)
    ours = encoder(folder)
    ours.save(tmp_path / "saved")
    assert not np.allclose(ours.docs(["HEAT flow"]), plain, atol=1e-3)
    for place in (folder, tmp_path / "saved"):
        theirs = SentenceTransformer(str(place), device="cpu")
        np.testing.assert_allclose(ours.docs(["HEAT flow"]), theirs.encode(["HEAT flow"]), atol=1e-5)


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "distance": (
        "config_sentence_transformers.json",
        {"similarity_fn_name": "manhattan"},
        "similarity_fn_name 'manhattan'",
    ),
    "size": ("config_sentence_transformers.json", {"truncate_dim": "x"}, "truncate_dim is 'x'"),
    "default": ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "default_prompt_name is 'x'"),
    "pooling": (
        "1_Pooling/config.json",
        {"pooling_mode": "attention"},
        "names the pooling 'attention'; Hone knows cls, max",
    ),
    "flag": ("1_Pooling/config.json", {"pooling_mode_attention": True}, "names the pooling 'pooling_mode_attention'"),
    "task": ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "sets transformer_task to"),
    "expansion": ("sentence_bert_config.json", {"query_expansion": {"length": 32}}, "sets query_expansion to"),
    "chat": ("sentence_bert_config.json", {"modality_config": {"message": {}}}, "sets modality_config to"),
    "activation": (
        "2_Dense/config.json",
        {"activation_function": "mine.Own"},
        "activation_function mine.Own is not one",
    ),
    "input": ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "sets module_input_name to"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_give_other_vectors_is_refused_by_name(name: str, tmp_path: Path) -> None:
    file, says, told = REFUSED[name]
    folder = made(tmp_path / "made", dense(24), Normalize())
    tiny.reconfigured(folder, file, **says)
    with pytest.raises(UserError, match=told):
        encoder(folder)


def test_modules_in_an_order_that_is_not_known_are_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "made", Normalize())
    entries = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([entries[0], entries[2]]))
    with pytest.raises(UserError, match=r"modules\.json lists Transformer, Normalize; Hone knows"):
        encoder(folder)


@pytest.mark.parametrize(
    "name",
    ["no prompt in max", "Dense with tanh", "dot product", "Dense, dot product", "truncated", "truncated, dot product",
     "Dense after normalisation", "pooling ['cls', 'mean']", "no normalisation"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["head", "layers"])
def test_what_is_trained_of_any_of_them_is_what_sentence_transformers_loads(
    name: str, how: str, tmp_path: Path
) -> None:
    student = encoder(DECLARED[name](tmp_path / "made"))
    texts, before = twin.texts(30), student.docs(TEXTS)
    settings = TrainingSettings(learning_rate=0.01, train=how, loss=LossSettings(student_tau=0.1))  # type: ignore[arg-type]
    tokens = student.tokenize_docs(texts)
    embedder = (
        HeadOnly(student, student.docs(texts))
        if how == "head"
        else make_embedder(student, tokens, settings, 1e12, tmp_path)
    )
    gradients, state = Gradients(embedder, settings.loss, 200, 1e12), State(embedder.weights, settings)
    batch = make_batch(twin.lists(10, 20), student.device)
    losses = [take_step(gradients, batch, state, settings, 1.0)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    student.save(tmp_path / "saved")
    assert not np.allclose(student.docs(TEXTS), before, atol=1e-3)
    assert_ranks_alike(student, tmp_path / "saved", TEXTS)


def test_a_text_is_cut_to_the_positions_there_are(tmp_path: Path) -> None:
    student = encoder(made(tmp_path / "made", Normalize(), weights=roberta))
    assert student.longest == 65
    assert len(student.tokenize_docs(["flow " * 500])[0]) == 65
    assert np.isfinite(student.docs(["flow " * 500])).all()
