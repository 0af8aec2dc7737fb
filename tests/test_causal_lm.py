"""A language model in this process: what it is shown, what it is refused for, and that its answers are its own."""

import shutil
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from drafting import corpus, generated, prepared, requests, rows, together
from hone import tables
from hone.backends.generators.answers import Answer
from hone.backends.shared_prefix import LEAST_ROWS, batches
from hone.errors import UserError
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.requests import Prompts
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("llama") / "model")


def told(model: Any, prompts: list[str], seeds: list[int]) -> list[Answer]:
    found = together(model.generate(prompts, seeds))
    return [found[at] for at in range(len(prompts))]


def test_an_answer_depends_neither_on_its_batch_nor_on_its_neighbours(llama: Path) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    prompts, seeds = [], list(range(9))
    answers = []
    for budget in (1, 3_000, 100_000):
        model = CausalLM(llama, LanguageModel(max_new_tokens=12, token_budget=budget, precision="fp32"))
        prompts = [model.prompt(request) for request in requests(9)]
        answers.append(told(model, prompts, seeds))
    assert answers[0] == answers[1] == answers[2]
    assert sum(answer.new_tokens for answer in answers[0]) > 9
    other = CausalLM(llama, LanguageModel(max_new_tokens=12, precision="fp32"))
    assert told(other, prompts[::-1], seeds[::-1])[::-1] == answers[0]
    assert told(other, prompts, seeds[::-1]) != answers[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"hidden_size": 64}, "config.json gives other shapes"), ({"num_hidden_layers": 9}, r"lack model\.layers\.")],
)
def test_a_configuration_of_another_shape_than_the_weights_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    folder = tiny.reconfigured(tiny.llama(tmp_path / "model"), **change)
    model = CausalLM(folder, LanguageModel(max_new_tokens=12, precision="fp32"))
    with pytest.raises(UserError, match=said):
        told(model, [model.prompt(request) for request in requests(1)], [1])


@pytest.mark.parametrize("layout", ["guide", "document", "examples"])
def test_prompts_that_share_their_beginnings_are_answered_as_each_alone(llama: Path, layout: Any) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    llm = LanguageModel(layout=layout, max_new_tokens=12, temperature=0, precision="fp32", token_budget=20_000)
    model = CausalLM(llama, llm)
    asked = [request for n in range(4) for _, request in Prompts(llm, 17).requests(f"d{n}", "wings stall " * (4 + n))]
    prompts = [model.prompt(request) for request in asked]
    tokens = model.chat.tokens(prompts)
    shared = list(batches(tokens, 20_000, 12))
    assert sorted(row for batch in shared for row in batch.rows) == list(range(len(tokens)))
    for batch in shared:
        for row, branch, tail in zip(batch.rows, batch.branch_of, batch.tails, strict=True):
            assert [*batch.trunk, *batch.branches[branch], *tail] == tokens[row]
            assert tail
    assert sum(batch.computed for batch in shared) < 0.9 * sum(map(len, tokens))
    alone = [model.sample_whole([ids], [0])[0] for ids in tokens]
    assert [answer.new_tokens for answer in told(model, prompts, list(range(len(prompts))))] == list(map(len, alone))
    assert [model.tokenizer.decode(new, skip_special_tokens=True) for new in alone] == [
        answer.text for answer in told(model, prompts, list(range(len(prompts))))
    ]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=60),
    st.integers(50, 3_000),
    st.integers(50, 3_000),
)
@hypothesis.settings(deadline=None, max_examples=60)
def test_a_batch_keeps_to_its_memory_and_to_its_work_unless_it_is_one_group(
    shapes: list[tuple[int, int, int]], budget: int, work: int
) -> None:
    room = 5
    tokens = [[*range(60 * doc), *range(500, 500 + style), *range(900, 900 + end)] for doc, style, end in shapes]
    found = list(batches(tokens, budget, room, work))
    assert sorted(row for batch in found for row in batch.rows) == list(range(len(tokens)))
    for batch in found:
        longest = max(len(tokens[row]) for row in batch.rows)
        assert len(batch.rows) * (longest + room) <= budget or len(batch.rows) == 1
        computed = batch.branched + room * len(batch.rows)
        assert computed <= work or (len(batch.branches) == 1 and len(batch.rows) <= LEAST_ROWS)


def test_a_processor_takes_few_prompts_at_once_and_gives_the_same_answers(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hone.backends.generators import causal_lm

    def parts(prompts: list[str]) -> list[dict[int, Answer]]:
        model = causal_lm.CausalLM(llama, llm)
        return list(model.generate(prompts, list(range(len(prompts)))))

    llm = LanguageModel(max_new_tokens=12, precision="fp32", layout="document", token_budget=100_000)
    asked = [request for n in range(6) for _, request in Prompts(llm, 17).requests(f"d{n}", f"wing {n} stalls")]
    prompts = [causal_lm.CausalLM(llama, llm).prompt(request) for request in asked]
    whole = parts(prompts)
    assert len(whole) == 1
    monkeypatch.setattr(causal_lm, "OPERATIONS_PER_THREAD", 1.0)
    small = parts(prompts)
    assert [len(part) for part in small] == [6] * 6  # the styles of a document stay together
    assert together(small) == together(whole)


def test_only_batches_with_a_wanted_answer_are_computed_and_those_whole(llama: Path) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    model = CausalLM(llama, LanguageModel(max_new_tokens=3, token_budget=4_000))
    prompts = [model.prompt(request) for request in requests(9)]
    every = together(model.generate(prompts, list(range(9))))
    assert sorted(every) == list(range(9))
    some = together(model.generate(prompts, list(range(9)), wanted={4}))
    assert 4 in some
    assert len(some) < 9
    assert some == {at: every[at] for at in some}
    assert not together(model.generate(prompts, list(range(9)), wanted=set()))


def test_sampling_takes_each_token_as_often_as_its_probability() -> None:
    import torch

    from hone.backends.generators.causal_lm import OwnNumbers

    scores = torch.tensor([[2.0, -torch.inf, 0.0, 1.0]]).repeat(4_000, 1)
    uniforms = torch.linspace(0, 1, 4_001, dtype=torch.float64)[:-1, None]
    chosen = OwnNumbers(uniforms, 0.5)(torch.zeros(4_000, 1, dtype=torch.long), scores).argmax(-1)
    shares = torch.bincount(chosen, minlength=4) / 4_000
    assert torch.allclose(shares, torch.softmax(scores[0] / 0.5, -1), atol=1e-3)


def test_a_long_document_is_cut_until_prompt_and_answer_fit_the_context(llama: Path) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    model = CausalLM(llama, LanguageModel(max_doc_tokens=100_000))
    request = next(requests(1, doc="flutter " * 4_000))
    prompt = model.prompt(request)
    length = len(model.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    assert model.chat.context - 60 <= length + 50 <= model.chat.context
    assert prompt.endswith("<|assistant|>")
    assert all(example in prompt for example in request.style.examples)
    with pytest.raises(UserError, match="has no room for a document"):
        CausalLM(llama, LanguageModel(max_new_tokens=4_000), [request])


def test_a_chat_template_that_knows_no_system_role_will_do(llama: Path, tmp_path: Path) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    folder = shutil.copytree(llama, tmp_path / "plain")
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusal + tiny.CHAT_TEMPLATE, "utf-8")
    prompt = CausalLM(folder, LanguageModel()).prompt(next(requests(1)))
    assert prompt.startswith("<|user|>You write search queries")
    assert prompt.endswith("<|end|><|assistant|>")


def test_a_model_without_a_chat_template_is_refused_before_its_weights_are_read(llama: Path, tmp_path: Path) -> None:
    from hone.backends.generators.causal_lm import CausalLM

    folder = shutil.copytree(llama, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    (folder / "model.safetensors").write_bytes(tiny.NO_WEIGHTS)
    with pytest.raises(UserError, match="no chat template"):
        CausalLM(folder, LanguageModel())
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="pickle is refused"):
        CausalLM(folder, LanguageModel())


@pytest.mark.parametrize("source", ["transformers", "vllm"])
@pytest.mark.parametrize(
    ("llm", "template", "problem"),
    [
        ({}, False, "has no chat template"),
        ({"max_new_tokens": 4_080}, True, "has no room for a document"),
        ({"template": "{{ document }}{{ style.name }}" + "x" * 4_096}, True, "has no room for a document"),
    ],
)
def test_a_model_that_cannot_do_is_refused_before_any_weight_is_read_and_nothing_is_written(
    llama: Path, tmp_path: Path, source: str, llm: dict[str, Any], template: bool, problem: str
) -> None:
    store, folder = LocalStore(tmp_path / "store"), shutil.copytree(llama, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(tiny.NO_WEIGHTS)  # reading it would fail otherwise
    if not template:
        (folder / "chat_template.jinja").unlink()
    inputs = prepared(store, corpus(5))
    with pytest.raises(UserError, match=problem):
        generated(store, inputs, sources=(source,), llm={"model": str(folder), **llm})
    assert not list(store.objects("generate"))
    assert not list(store.objects("memo"))


def test_a_language_model_writes_the_same_queries_for_any_shards_and_is_paid_once(llama: Path, tmp_path: Path) -> None:
    llm = {"model": str(llama), "max_new_tokens": 6, "max_doc_tokens": 40, "styles": {"claim": 1, "free search": 1}}
    sections = {"sources": ("transformers",), "llm": llm, "max_docs": 12, "min_words": 1}
    docs, results = corpus(1_100), []
    for count in (1, 2):
        store = LocalStore(tmp_path / f"store{count}")
        results.append(generated(store, prepared(store, docs), count, **sections))
    assert results[0].outputs == results[1].outputs
    costs = [{key: value for key, value in r.cost.items() if value and key != "model_seconds"} for r in results]
    assert costs[0] == costs[1]
    assert costs[0]["prompt_tokens"] > 24 * 100
    seen = [row for name in ("queries", "dropped_by_generate") for row in rows(store, results[1], name)]
    assert len(seen) == 24
    again = generated(store, prepared(store, docs), **{**sections, "min_words": 2})
    assert "prompt_tokens" not in again.cost


def test_no_model_sees_a_test_query_or_a_judged_document_as_an_example(llama: Path, store: LocalStore) -> None:
    pool = ("how do wings stall", "what is the mach number", "why do rotors flutter", "who built the first jet")
    defined = {"ours": {"instruction": "Ask.", "examples": pool}}
    llm = {"model": str(llama), "max_new_tokens": 2, "define": defined, "styles": {"ours": 1}}
    docs = tables.DOCS.of(["d0", "d1"], ["", ""], ["He asked how do wings stall.", "x y"], [True, False])
    inputs = prepared(store, docs, tests=("What is the Mach number?",))
    manifest = generated(store, inputs, sources=("transformers",), llm=llm)
    assert manifest.facts["examples_left_out"] == ["how do wings stall", "what is the mach number"]
    shown = Prompts(LanguageModel(**llm), 17, left_out=frozenset(pool[:2])).rows
    assert set(shown) == {"ours"}
    with pytest.raises(UserError, match="every example of 'ours'"):
        Prompts(LanguageModel(**llm), 17, left_out=frozenset(pool))
