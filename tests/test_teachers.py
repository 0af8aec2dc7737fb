"""Teachers: each kind gives the scores of a plain transformers loop."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    LlamaConfig,
    XLMRobertaConfig,
)

import tiny
from hone import settings
from hone.backends import BACKENDS
from hone.backends.teachers.pair_models import PairModel, yes_no_prompt
from hone.backends.teachers.query_likelihood import QueryLikelihood
from hone.backends.teachers.settings import FIELDS, OneTeacher, Teacher
from hone.backends.teachers.teacher import Ensemble, divisions
from hone.errors import UserError
from hone.inputs.references import content_digest

QUERIES = ["heat flow", "a wing", "shock waves in nozzles", "heat flow", "stall"]
DOCS = ["heat", "a wing in a slip stream " * 9, "shock waves and flow", "", "the stall of wings " * 3]


def teacher(kind: str, folder: Path, **settings: Any) -> PairModel:
    chosen = OneTeacher.model_validate({"kind": kind, "model": str(folder), "max_tokens": 1024, **settings})
    return PairModel(chosen, folder, 2_048)


def close(found: np.ndarray, expected: list[float]) -> None:
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_cross_encoder_gives_raw_logits(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "m", labels=1, vocab_texts=DOCS)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = [tokenizer([query], [doc], return_tensors="pt") for query, doc in zip(QUERIES, DOCS, strict=True)]
    scores = teacher("cross_encoder", folder).score_pairs(QUERIES, DOCS)
    close(scores, [model(**pair).logits.item() for pair in inputs])
    assert (abs(scores) > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("pads", [None, 0])
@pytest.mark.parametrize("has_pad_token", [True, False])
def test_a_decoder_that_classifies_needs_no_padding_token(
    tmp_path: Path, pads: int | None, has_pad_token: bool
) -> None:
    folder = tiny.bert(tmp_path / "m", labels=1, vocab_texts=DOCS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if not has_pad_token:
        tiny.reconfigured(folder, "tokenizer_config.json", pad_token=None)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, num_labels=1, pad_token_id=pads, initializer_range=0.5,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(folder)
    pairs = [tokenizer([query], [doc], return_tensors="pt") for query, doc in zip(QUERIES, DOCS, strict=True)]
    alone = [model(input_ids=pair["input_ids"], attention_mask=pair["attention_mask"]).logits.item() for pair in pairs]
    close(teacher("cross_encoder", folder).score_pairs(QUERIES, DOCS), alone)


@torch.no_grad()
def test_a_cross_encoder_reads_no_more_tokens_than_it_has_positions_for(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "m", labels=1, vocab_texts=DOCS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": 10_000}))
    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), num_labels=1, max_position_embeddings=42, pad_token_id=1, **sizes
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    found = teacher("cross_encoder", folder)
    assert found.limit == 40
    assert np.isfinite(found.score_pairs(["heat"], ["flow " * 200])).all()


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "shortened"),
    [(BertConfig, True), (XLMRobertaConfig, True), (ElectraConfig, True), (DistilBertConfig, False)],
)
def test_a_last_layer_that_computes_the_first_token_alone_scores_as_the_whole_one(
    tmp_path: Path, kind: Any, shortened: bool
) -> None:
    folder = tiny.bert(tmp_path / "m", labels=1, vocab_texts=DOCS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64}
    of_distilbert = {"n_layers": 2, "n_heads": 2, "dim": 32, "hidden_dim": 64}
    config = kind(vocab_size=len(tokenizer), num_labels=1, pad_token_id=tokenizer.pad_token_id, initializer_range=0.5,
                  **(sizes if shortened else of_distilbert))  # fmt: skip
    whole = AutoModelForSequenceClassification.from_config(config).eval()
    whole.save_pretrained(folder)
    found = teacher("cross_encoder", folder, max_tokens=64)
    assert found.shortened == shortened
    limit: dict[str, Any] = {"truncation": "only_second", "max_length": 64, "return_tensors": "pt"}
    pairs = [tokenizer([query], [doc], **limit) for query, doc in zip(QUERIES, DOCS, strict=True)]
    close(found.score_pairs(QUERIES, DOCS), [whole(**pair).logits.item() for pair in pairs])


@torch.no_grad()
def test_monot5_gives_the_log_probability_of_true_against_false(tmp_path: Path) -> None:
    folder = tiny.t5(tmp_path / "m", words=["true", "false", "wing", "Relevant:"])
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    both = [tokenizer.convert_tokens_to_ids(piece) for piece in ("▁false", "▁true")]
    expected = []
    for query, doc in zip(QUERIES, DOCS, strict=True):
        inputs = tokenizer(f"Query: {query} Document: {doc} Relevant:", return_tensors="pt").input_ids
        logits = model(input_ids=inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, 0, both]
        expected.append(torch.log_softmax(logits, 0)[1].item())
    close(teacher("monot5", folder).score_pairs(QUERIES, DOCS), expected)


@torch.no_grad()
def test_rankt5_gives_the_logit_of_the_tenth_extra_token(tmp_path: Path) -> None:
    folder = tiny.t5(tmp_path / "m", words=["wing", "Document:"], seed=3)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tenth = tokenizer.convert_tokens_to_ids("<extra_id_10>")
    expected = []
    for query, doc in zip(QUERIES, DOCS, strict=True):
        inputs = tokenizer(f"Query: {query} Document: {doc}", return_tensors="pt").input_ids
        expected.append(model(input_ids=inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, 0, tenth].item())
    close(teacher("rankt5", folder).score_pairs(QUERIES, DOCS), expected)


@torch.no_grad()
def test_a_language_model_gives_the_log_odds_of_yes(tmp_path: Path) -> None:
    folder = tiny.llama(tmp_path / "m", words=["yes", "no"])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    no, yes = (tokenizer.convert_tokens_to_ids(word) for word in ("no", "yes"))
    expected = []
    for query, doc in zip(QUERIES, DOCS, strict=True):
        text = yes_no_prompt("Find it", query, doc)
        logits = model(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits[0, -1]
        probability = torch.softmax(logits[[no, yes]].double(), 0)[1]
        expected.append(torch.logit(probability).item())
    close(teacher("yes_no", folder, instruction="Find it").score_pairs(QUERIES, DOCS), expected)


@torch.no_grad()
def test_a_plain_language_model_is_asked_in_its_own_chat_and_by_its_own_words(tmp_path: Path) -> None:
    folder = tiny.llama(tmp_path / "m", words=["Right", "Wrong"])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wrong, right = (tokenizer.convert_tokens_to_ids(word) for word in ("Wrong", "Right"))
    asked = {
        "prompt": "{instruction} Query: {query} Passage: {document} Right or Wrong?",
        "answers": ("Right", "Wrong"),
    }
    docs = ["what {query} is", *DOCS[1:]]
    expected = []
    for query, doc in zip(QUERIES, docs, strict=True):
        turn = [{"role": "user", "content": f"Find it Query: {query} Passage: {doc} Right or Wrong?"}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        logits = model(input_ids=ids).logits[0, -1]
        expected.append((logits[right] - logits[wrong]).item())
    close(teacher("yes_no", folder, instruction="Find it", **asked).score_pairs(QUERIES, docs), expected)
    short = teacher("yes_no", folder, max_tokens=120, **asked)
    rows = short.kind.encode(short, ["heat"], ["wing " * 400])
    assert tokenizer.decode(rows[0]["input_ids"]).endswith("Right or Wrong?<|end|><|assistant|>")
    with pytest.raises(UserError, match="has no token 'maybe'"):
        teacher("yes_no", folder, answers=("maybe", "no")).score_pairs(QUERIES, docs)
    with pytest.raises(ValidationError, match=r"has to hold \{query\} and \{document\}"):
        OneTeacher(kind="yes_no", prompt="Is {query} answered?")


@torch.no_grad()
def test_query_likelihood_is_the_mean_log_probability_of_the_query_after_the_document(tmp_path: Path) -> None:
    folder = tiny.llama(tmp_path / "m", words=["wing", "heat"])
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = OneTeacher(kind="query_likelihood", model=str(folder), max_tokens=1024, instruction="Ask:")
    ours = QueryLikelihood(settings, folder, 2_048)
    expected = []
    for query, doc in zip(QUERIES, DOCS, strict=True):
        turn = [{"role": "user", "content": f"Passage: {doc}\nAsk:"}]
        text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        before, asked = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, query))
        logits = model(input_ids=torch.tensor([[*before, *asked]])).logits[0, len(before) - 1 : -1]
        expected.append(torch.log_softmax(logits.double(), 1)[range(len(asked)), asked].mean().item())
    close(ours.score_pairs(QUERIES, DOCS), expected)
    many = ours.score_pairs(QUERIES * 3, [DOCS[0]] * len(QUERIES) * 3)
    alone = [ours.score_pairs([query], [DOCS[0]])[0] for query in QUERIES]
    assert many.tolist() == alone * 3
    seen = list[torch.Size]()
    ours.model.get_input_embeddings().register_forward_hook(lambda _, ids, __: seen.append(ids[0].shape))
    ours.score_pairs(["heat", "wing heat", "heat heat heat", "wing", "heat"], [DOCS[0]] * 5)
    assert {shape for shape in seen if shape[0] > 1} == {(8, 8)}, "what else is in a batch would round a pair otherwise"
    long = "wing stall " * 400
    assert ours.score_pairs(["heat"], [long]) == ours.score_pairs(["heat"], [f"{long} and more"])


@pytest.mark.parametrize("kind", ["cross_encoder", "monot5", "yes_no"])
def test_a_long_document_is_cut_and_neither_the_query_nor_what_follows_the_document(tmp_path: Path, kind: str) -> None:
    words = ["true", "false", "yes", "no", "wing", "heat"]
    make: dict[str, Callable[[Path], Path]] = {
        "cross_encoder": partial(tiny.bert, labels=1, vocab_texts=words),
        "monot5": partial(tiny.t5, words=words),
        "yes_no": partial(tiny.llama, words=words),
    }
    limit = {"cross_encoder": 40, "monot5": 60, "yes_no": 500}[kind]
    model = teacher(kind, make[kind](tmp_path / "m"), max_tokens=limit)
    long, longer = "wing " * 600, "wing " * 600 + "heat"
    scores = model.score_pairs(["heat", "heat", "wing", "heat " * 800], [long, longer, long, "wing"])
    rows = model.kind.encode(model, ["heat", "heat " * 800], [long, long])
    assert all(limit - 12 <= len(row["input_ids"]) <= limit for row in rows)
    assert scores[0] == scores[1] != scores[2]
    end = model.tokenizer.decode(rows[0]["input_ids"])
    assert end.rstrip().endswith({"cross_encoder": "[SEP]", "monot5": "Relevant:</s>", "yes_no": "</think>"}[kind])


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 labels; a teacher gives one score a pair"):
        teacher("cross_encoder", tiny.bert(tmp_path / "three", labels=3)).score_pairs(["a"], ["b"])
    with pytest.raises(UserError, match=r"the weights in .*plain lack .*: it is not a cross_encoder model"):
        teacher("cross_encoder", tiny.bert(tmp_path / "plain"))
    with pytest.raises(UserError, match="has no token 'false': it is not a monot5 model"):
        teacher("monot5", tiny.t5(tmp_path / "t5")).score_pairs(["a"], ["b"])
    with pytest.raises(
        ValidationError, match="the kinds are bge_lightweight, cross_encoder, endpoint, ensemble, fusion"
    ):
        Teacher(kind="colbert")


LIGHTWEIGHT = '''
import torch
from transformers import PretrainedConfig, PreTrainedModel


class LightConfig(PretrainedConfig):
    model_type = "tiny_lightweight"
    vocab_size: int = 300


class LightForCausalLM(PreTrainedModel):
    """Merges the document's tokens two by two, as the model it stands for does."""

    config_class = LightConfig

    def __init__(self, config):
        super().__init__(config)
        self.embedding = torch.nn.Embedding(config.vocab_size, 8)
        self.head = torch.nn.Linear(8, 1)
        self.post_init()

    def forward(
        self, input_ids, attention_mask, return_dict, cutoff_layers, compress_ratio, compress_layer, query_lengths,
        prompt_lengths,
    ):
        assert (return_dict, cutoff_layers, compress_ratio, compress_layer) == (True, [25], 2, [8])
        rows = []
        for ids, mask, query, prompt in zip(input_ids, attention_mask, query_lengths, prompt_lengths):
            states = self.embedding(ids[: mask.sum()])
            middle = states[query : len(states) - prompt]
            middle = torch.stack([pair.mean(0) for pair in middle.split(compress_ratio)]) if len(middle) else middle
            rows.append(torch.cat([2 * states[:query], middle, 3 * states[len(states) - prompt :]]))
        longest = max(map(len, rows))
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        padded = torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - len(row))) for row in rows])
        return [self.head(padded.cumsum(1))[..., 0]], [mask]
'''


@pytest.fixture(scope="module")
def lightweight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that brings its own code, with the interface of BGE gemma2-lightweight."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("light") / "m"
    folder.mkdir()
    (folder / "modeling_light.py").write_text(LIGHTWEIGHT)
    names = {"AutoConfig": "modeling_light.LightConfig", "AutoModelForCausalLM": "modeling_light.LightForCausalLM"}
    config = {"model_type": "tiny_lightweight", "auto_map": names, "vocab_size": 300, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["LightForCausalLM"]}))
    draw = torch.Generator().manual_seed(0)
    shapes = {"embedding.weight": (300, 8), "head.weight": (1, 8), "head.bias": (1,)}
    weights = {name: torch.randn(shape, generator=draw) / 4 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tiny.byte_tokens().save_pretrained(folder)
    return folder


def test_code_in_a_model_folder_runs_only_if_the_settings_name_just_that_folder(lightweight: Path) -> None:
    digest = content_digest(lightweight)
    with pytest.raises(UserError, match=rf"brings code of its own: read it, and .* set teacher.trust_code to {digest}"):
        teacher("bge_lightweight", lightweight)
    with pytest.raises(UserError, match=r"teacher\.trust_code is not the sha256 of"):
        teacher("bge_lightweight", lightweight, trust_code="0" * 64)
    assert teacher("bge_lightweight", lightweight, trust_code=digest).score_pairs(["a"], ["b"]).shape == (1,)


@torch.no_grad()
def test_bge_lightweight_gives_the_last_logit_of_its_layout(lightweight: Path) -> None:
    made = teacher("bge_lightweight", lightweight, trust_code=content_digest(lightweight))
    expected = []
    for query, doc in zip(QUERIES, DOCS, strict=True):
        head, line = [made.tokenizer.bos_token_id], made.tokenizer("\n", add_special_tokens=False)["input_ids"]
        first, second, ask = (
            made.tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (f"A: {query}", f"B: {doc}", "Predict whether passage B contains an answer to query A.")
        )
        ids = torch.tensor([head + first + line + second + line + ask])
        lengths = {"query_lengths": [1 + len(first) + 1], "prompt_lengths": [1 + len(ask)]}
        logits, _ = made.model(ids, torch.ones_like(ids), True, [25], 2, [8], **lengths)
        expected.append(logits[0][0, -1].item())
    close(made.score_pairs(QUERIES, DOCS), expected)


class Fixed:
    """A judge whose scores are given: one for each document."""

    pairwise = True

    def __init__(self, scores: list[float]) -> None:
        self.scores = np.array(scores, dtype=np.float32)

    def pairs(self, queries: list[str], places: np.ndarray) -> np.ndarray:
        return self.scores[places]

    def lists(self, queries: list[str], places: list[np.ndarray], label: str = "") -> list[np.ndarray]:
        return [self.scores[part] for part in places]

    def calibrate(self, queries: list[str], places: list[np.ndarray], label: str = "") -> None: ...


def test_an_ensemble_is_the_weighted_mean_of_members_brought_to_one_scale() -> None:
    small, large = [0.1, 0.2, 0.3, 0.5], [400.0, -100.0, 100.0, 0.0]
    both = Ensemble([Fixed(small), Fixed(large)], [3, 1])
    everything = [np.arange(4)]
    both.calibrate(["q"], everything)
    expected = 0.75 * (np.array(small) - np.mean(small)) / np.std(small)
    expected += 0.25 * (np.array(large) - np.mean(large)) / np.std(large)
    np.testing.assert_allclose(both.pairs(["q"] * 4, np.arange(4)), expected, rtol=1e-5)
    np.testing.assert_array_equal(both.lists(["q"], everything)[0], both.pairs(["q"] * 4, np.arange(4)))
    only = both.weighted([0, 1])
    assert len(only.members) == 1
    np.testing.assert_allclose(
        only.pairs(["q"] * 4, np.arange(4)), (np.array(large) - np.mean(large)) / np.std(large), rtol=1e-5
    )


def test_weights_are_tried_in_quarters_those_of_few_members_first() -> None:
    ways = divisions(3)
    assert ways[:3] == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert len(set(ways)) == len(ways) == 15
    assert all(sum(way) == 1 for way in ways)
    assert [len(way) - way.count(0) for way in ways] == [1] * 3 + [2] * 9 + [3] * 3


def test_the_settings_of_every_kind_are_named_and_those_of_another_are_refused() -> None:
    assert FIELDS.keys() == BACKENDS["teacher"].keys()
    everywhere = {"kind", "weight", "force"}
    assert set(Teacher.model_fields) == everywhere.union(*FIELDS.values())
    with pytest.raises(ValidationError, match="lexical_weight is not a setting of a teacher of the kind monot5"):
        Teacher.model_validate({"kind": "monot5", "lexical_weight": 0.5})
    # A default that is written out says nothing else than leaving it out.
    assert Teacher.model_validate(Teacher(kind="monot5").model_dump()) == Teacher(kind="monot5")


def test_every_setting_of_a_kind_that_is_no_resource_tells_scores_apart() -> None:
    others: dict[str, Any] = {
        "max_tokens": 64, "precision": "bf16", "instruction": "x", "trust_code": "c", "answers": ("a", "b"),
        "prompt": "{query} {document}", "model": "other",
    }  # fmt: skip
    found = {"": "", "m": "1", "other": "2"}
    for kind in ("cross_encoder", "yes_no", "query_likelihood", "vllm_yes_no"):
        plain = Teacher(kind=kind, model="m")
        for name in FIELDS[kind]:
            changed = Teacher.model_validate(
                {**plain.model_dump(), name: others.get(name, 0.5 if "gpu" in name else 2)}
            )
            assert (changed.identity(found) == plain.identity(found)) == (name in ("gpu_memory", "tensor_parallel")), (
                name
            )


def test_a_preset_says_nothing_of_a_kind_that_the_settings_do_not_choose() -> None:
    data = {"name": "a", "student": {"model": "m"}, "prepare": {"corpus": "c"}, "preset": "cpu"}
    data |= {"teacher": {"kind": "endpoint", "server": {"url": "http://127.0.0.1:1/rerank"}}}
    data |= {"score": {"early_exit": False}}
    assert settings.check(data, "f.yaml", Path()).stages["score"].model_dump()["teacher"]["mixes"] == ()
