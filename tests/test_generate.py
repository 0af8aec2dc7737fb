"""generate: what is asked, what is kept, and that neither batches nor shards show in it."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from hone import tables
from hone.core import extractive, styles
from hone.core.cleaning import Cleaner, Draft, Rules, answered, copied_words, is_complete, normalised
from hone.core.llm import LanguageModel
from hone.core.near import NearDuplicates, shingles, similarity
from hone.core.prompts import Prompts, Request
from hone.drafts.people import read_log
from hone.errors import UserError
from hone.job import Job, Plan, Shard
from hone.manifest import Manifest
from hone.parts import fetch_part
from hone.stage import execute, merge, plan, scratch_folder
from hone.stages import stage
from hone.stages.generate import Config
from hone.store import LocalStore

RULES = Rules(2, 64, 8, check_language=True)
WORDS = ["rotor", "blade", "stall", "flutter", "engine", "inlet", "nozzle", "vortex", "mach", "shock", "wedge", "heat"]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=20), min_size=1, max_size=5)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("llama") / "model")


def corpus(count: int, *, title: str = "") -> pa.Table:
    """Documents of three sentences; every fifth is held out."""
    draw = random.Random(count)
    texts = [". ".join(" ".join(draw.choices(WORDS, k=12)) for _ in range(3)) for _ in range(count)]
    ids = [f"d{number}" for number in range(count)]
    return tables.DOCS.of(ids, [title] * count, texts, [number % 5 == 0 for number in range(count)])


def prepared(
    store: LocalStore, docs: pa.Table, tests: tuple[str, ...] = (), fingerprint: str = "f" * 16
) -> dict[str, Manifest]:
    """A finished result of prepare with these documents and test queries."""
    judged = [{"query_id": f"q{n}", "text": text, "split": "test"} for n, text in enumerate(tests)]
    with scratch_folder() as scratch:
        todo = Plan("prepare", stage("prepare").Config.model_construct(), {}, {}, fingerprint)
        job = Job(todo, store, scratch, Shard())
        for name, rows in (("docs", docs), ("judged_queries", tables.JUDGED_QUERIES.build(judged))):
            with job.writer(name) as writer:
                writer.write(rows)
        outputs = {name: job.publish(name) for name in ("docs", "judged_queries")}
    manifest = Manifest(
        stage="prepare", fingerprint=fingerprint, code="", version="", config={}, sources={}, inputs={},
        input_digests={}, outputs=outputs, facts={}, cost={}, seconds=0.0,
    )  # fmt: skip
    return {"docs": manifest, "judged_queries": manifest}


def generated(store: LocalStore, inputs: dict[str, Manifest], shards: int = 1, **sections: Any) -> Manifest:
    with scratch_folder() as scratch:
        todo = plan("generate", Config.model_validate(sections), inputs, scratch)
    for index in range(shards):
        with scratch_folder() as scratch:
            manifest, _ = execute(todo, store, scratch, Shard(index, shards))
    return merge(todo, store, shards) if shards > 1 else manifest


def rows(store: LocalStore, manifest: Manifest, name: str = "queries") -> list[dict[str, Any]]:
    with scratch_folder() as scratch:
        parts = [fetch_part(store, manifest.prefix, part, scratch) for part in manifest.outputs[name].parts]
        return [row for part in parts for row in pq.read_table(part).to_pylist()]


def log(folder: Path, *lines: str) -> str:
    path = folder / "queries.txt"
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def test_one_shard_and_seven_write_the_same_bytes(tmp_path: Path) -> None:
    docs, results = corpus(5_000), []
    sections = {"sources": ("extractive", "log"), "query_log": log(tmp_path, "what is stall flutter", "mach waves")}
    for count in (1, 7):
        store = LocalStore(tmp_path / f"store{count}")
        results.append(generated(store, prepared(store, docs), count, **sections))
    one, seven = results
    assert one.outputs == seven.outputs
    assert one.facts["kept"] == seven.facts["kept"]
    assert one.cost == seven.cost
    assert one.facts["kept"]["log"] == {"log": 2}


def test_no_held_out_document_is_asked_about_and_no_more_than_the_limit(store: LocalStore) -> None:
    inputs = prepared(store, corpus(300))
    asked = {row["doc_id"] for row in rows(store, generated(store, inputs))}
    assert asked == {f"d{number}" for number in range(300) if number % 5}
    few = {row["doc_id"] for row in rows(store, generated(store, inputs, max_docs=40))}
    assert len(few) == 40
    assert few < asked
    assert few != {row["doc_id"] for row in rows(store, generated(store, inputs, max_docs=40, seed=3))}


def test_queries_have_ids_of_their_own_and_say_what_made_them(store: LocalStore) -> None:
    found = rows(store, generated(store, prepared(store, corpus(100))))
    assert len({row["query_id"] for row in found}) == len(found)
    assert {(row["source"], row["style"]) for row in found} == {("extractive", "search"), ("extractive", "span")}


def test_a_title_that_documents_share_is_no_query(store: LocalStore) -> None:
    docs = corpus(40, title="privacy policy").slice(0, 39)
    own = tables.DOCS.of(["own"], ["stall of swept wings"], ["text"], [False])
    inputs = prepared(store, pa.concat_tables([docs, own]))
    found = rows(store, generated(store, inputs, extractive={"styles": {"title": 1}}))
    assert [(row["doc_id"], row["text"]) for row in found] == [("own", "stall of swept wings")]


def test_a_log_is_cleaned_and_never_holds_a_test_query(store: LocalStore, tmp_path: Path) -> None:
    path = log(tmp_path, "Stall  flutter?", "stall flutter", "", "x", "Mach wédge flow!", "heat " * 70, "shock wave")
    inputs = prepared(store, corpus(10), tests=("mach wedge flow",))
    manifest = generated(store, inputs, sources=("log",), query_log=path)
    found = rows(store, manifest)
    assert [row["text"] for row in found] == ["Stall flutter?", "shock wave"]
    assert {(row["doc_id"], row["source"], row["style"]) for row in found} == {("", "log", "log")}
    reasons = [row["reason"] for row in rows(store, manifest, "dropped_by_generate")]
    assert reasons == ["duplicate", "too short", "test query", "too long"]
    assert manifest.facts["kept"] == {"log": {"log": 2}}
    assert manifest.facts["dropped"]["log"]["log"]["test query"] == {"count": 1, "examples": ["Mach wédge flow!"]}
    assert manifest.cost["queries"] == 2


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".parquet"])
def test_a_log_reads_the_same_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    queries, path = ["stall flutter", 'say "mach", twice', "ärger"], tmp_path / f"log{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(queries), "utf-8")
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": query}) for query in queries), "utf-8")
    elif suffix == ".csv":
        quoted = ['"' + query.replace('"', '""') + '"' for query in queries]
        path.write_text("\n".join(["text", *quoted]), "utf-8")
    else:
        pq.write_table(pa.table({"text": queries}), path)
    assert [text for text, _ in read_log(path, "text")] == queries


def test_a_log_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"text": "mach"}\n{"query": "mach"}\n', "utf-8")
    with pytest.raises(UserError, match=r"log\.jsonl, line 2: no text in the field 'text'"):
        list(read_log(path, "text"))
    with pytest.raises(UserError, match="none of"):
        list(read_log(tmp_path / "log.xls", "text"))


@given(st.sampled_from(sorted(extractive.STYLES)), SENTENCES, st.integers(0, 99))
def test_an_extract_holds_only_words_of_its_document_and_is_drawn_alike_twice(
    style: str, parts: list[list[str]], seed: int
) -> None:
    text = ". ".join(" ".join(words) for words in parts)
    first, again = (extractive.draw(style, "mach wedge", text, seed=seed, doc_id="d", number=0) for _ in range(2))
    assert first == again
    if first is not None:
        assert set(normalised(first).split()) <= set(normalised(f"mach wedge {text}").split())
        assert len(first.split()) <= 30


@given(SENTENCES, st.lists(st.sampled_from([*WORDS, "new"]), max_size=12))
def test_copied_words_are_those_of_the_slow_count(parts: list[list[str]], query: list[str]) -> None:
    doc = [word for words in parts for word in words]
    runs = [query[i:j] for i in range(len(query)) for j in range(i + 1, len(query) + 1)]
    inside = [run for run in runs if any(doc[at : at + len(run)] == run for at in range(len(doc)))]
    assert copied_words(" ".join(query), " ".join(doc)) == max(map(len, inside), default=0)


@pytest.mark.parametrize(
    ("answer", "query"),
    [
        ('"What is flutter?"', "What is flutter?"),
        ("“mach waves”\nI chose this because", "mach waves"),
        ("<think>\nA question is wanted.\n</think>\n\nwhat is flutter", "what is flutter"),
        ("<think>\nA question is", ""),
        ("Query: 'swept  wing stall'", "swept wing stall"),
        ("**Stall of Swept Wings**", "Stall of Swept Wings"),
        ("- heat shield ablation", "heat shield ablation"),
        ('"lift" and "drag"', '"lift" and "drag"'),
        ("", ""),
    ],
)
def test_of_an_answer_only_the_query_is_left(answer: str, query: str) -> None:
    assert answered(answer) == query


def test_an_answer_is_complete_with_its_first_line_after_any_reasoning() -> None:
    growing = ["\n\n", "\n\nmach", "<think>\na\nb", "<think>a</think>\n\n", "<think>a</think>\n\nmach"]
    assert not any(map(is_complete, growing))
    assert is_complete("\nmach waves\n")
    assert is_complete("<think>a</think>\nmach waves\nmore")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("?!", "empty"),
        ("Here is a question about flutter", "preamble"),
        ("I cannot help with that request", "refused"),
        ("I'm sorry, but that is unsafe", "refused"),
        ("What does the passage say about flutter?", "refers to the passage"),
        ("flutter " * 21, "too long"),
        ("the flow over a flat plate with heat transfer is studied", "copies a long span"),
        ("Flutter of blades", "duplicate"),
        ("mach, wedge", "test query"),
    ],
)
def test_a_faulty_answer_is_dropped_with_its_reason(text: str, reason: str) -> None:
    cleaner = Cleaner({"mach wedge"}, RULES)
    doc = "Here the flow over a flat plate with heat transfer is studied."
    draft = Draft("transformers", "question", "d", "flutter of blades", doc, 20, by_model=True)
    assert cleaner.judge(draft) is None
    fault = cleaner.judge(Draft("transformers", "question", "d", text, doc, 20, by_model=True))
    assert fault is not None
    assert fault.reason == reason


NEAR = st.lists(st.lists(st.sampled_from(WORDS), min_size=3, max_size=9).map(" ".join), min_size=2, max_size=40)


@given(NEAR)
def test_hashing_finds_the_near_duplicates_that_comparing_all_finds(queries: list[str]) -> None:
    found, slow, least = NearDuplicates(0.8), list[str](), 0.8
    for text in dict.fromkeys(queries):
        near = [one for one in slow if similarity(shingles(text), shingles(one)) >= least]
        assert found.find(text) == min(near, default="")
        slow.append(text)
        found.add(text)


@pytest.mark.parametrize(
    ("text", "language", "kept"),
    [
        ("Was verursacht das Flattern der Schaufeln?", "", False),
        ("What causes the blades to flutter?", "", True),
        ("zebrafish heart regeneration", "", True),
        ("Was verursacht das Flattern der Schaufeln?", "de", True),
        ("What causes the blades to flutter?", "de", False),
    ],
)
def test_a_model_must_write_in_the_language_asked_for_or_the_documents(text: str, language: str, kept: bool) -> None:
    rules = Rules(2, 64, 8, check_language=True, language=language)
    doc = "The flow over the blades of a compressor was studied in order to find what causes them to flutter."
    fault = Cleaner(set(), rules).judge(Draft("vllm", "question", "d", text, doc, by_model=True))
    assert (fault is None) == kept
    assert kept or (fault and fault.reason == "wrong language")


def test_a_model_that_ran_out_of_tokens_or_refused_is_told_by_its_reason() -> None:
    cleaner = Cleaner(set(), RULES)
    cut = Draft("vllm", "claim", "d", "The flow over a", by_model=True, cut=True)
    refusal = Draft("vllm", "claim", "d", "I can't assist with creating content about this", by_model=True, cut=True)
    assert [fault and fault.reason for fault in map(cleaner.judge, (cut, refusal))] == ["truncated", "refused"]
    assert cleaner.judge(Draft("log", "log", "", "I cannot log in")) is None


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("who is jane.doe@example.org", True),
        ("call +44 20 7946 0958 refund", True),
        ("card 4111 1111 1111 1111 declined", True),
        ("transfer from DE89 3704 0044 0532 0130 00", True),
        ("sales between 2019 and 2024", False),
        ("boeing 747 400 range in km", False),
        ("error 0x80070057 windows", False),
    ],
)
def test_personal_data_is_dropped_on_request_and_not_repeated(text: str, private: bool) -> None:
    assert Cleaner(set(), RULES).judge(Draft("log", "log", "", text)) is None
    fault = Cleaner(set(), Rules(2, 64, 8, personal_data=True)).judge(Draft("log", "log", "", text))
    assert (fault is not None) == private
    assert fault is None or text not in fault.detail


def test_blocked_words_are_found_as_whole_words(store: LocalStore, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("Dämn\nmach wave\n\n", "utf-8")
    path = log(tmp_path, "damn rotor", "damned rotor", "what is a Mach-wave", "mach waves")
    sections = {"sources": ("log",), "query_log": path, "clean": {"blocked_words": str(words)}}
    manifest = generated(store, prepared(store, corpus(10)), **sections)
    assert [row["text"] for row in rows(store, manifest)] == ["damned rotor", "mach waves"]


def test_what_people_type_about_documents_is_kept() -> None:
    cleaner = Cleaner(set(), RULES)
    assert cleaner.judge(Draft("log", "log", "", "who signed this document")) is None


def test_every_style_with_examples_has_a_pool_that_keeps_its_own_rules() -> None:
    pools = {name: row for name, row in styles.STYLES.items() if row.examples}
    assert set(styles.STYLES) - set(pools) == {"free search"}
    for row in pools.values():
        assert len(set(row.examples)) == len(row.examples) >= 15
        assert all(len(example.split()) <= row.max_words for example in row.examples)


def asked(doc_id: str, doc: str = "The mach wedge.", seed: int = 17, **llm: Any) -> list[Request]:
    return [request for _, request in Prompts(LanguageModel(**llm), seed).requests(doc_id, doc)]


def test_a_document_is_asked_for_every_style_in_one_guide_that_it_shares_with_others() -> None:
    prompts = [request.prompt("The mach") for request in asked("d1")]
    assert [prompt.rpartition("Now write: ")[2] for prompt in prompts] == list(styles.STYLES)
    assert len({prompt.rpartition("Now write: ")[0] for prompt in prompts}) == 1
    guides = {asked(f"d{n}")[0].prompt("").partition("Document:")[0] for n in range(300)}
    assert len(guides) == 16
    assert prompts[0].partition("Document:\nThe mach\n")[0] in guides


@pytest.mark.parametrize(("layout", "start"), [("document", "Document:\nThe mach\n"), ("examples", "Write one claim.")])
def test_other_layouts_begin_with_what_they_are_named_for(layout: str, start: str) -> None:
    defined = {"claim": {"instruction": "Write one claim.", "examples": ("a b", "c d", "e f")}}
    (request,) = asked("d1", layout=layout, styles={"claim": 1}, define=defined)
    prompt = request.prompt("The mach")
    assert prompt.startswith(start)
    assert all(f"\n- {example}\n" in f"{prompt}\n" for example in ("a b", "c d", "e f"))


def test_examples_depend_on_document_and_seed_and_a_zero_shot_style_shows_none() -> None:
    claim = {"styles": {"claim": 1}, "example_sets": 0}
    drawn = {asked(doc_id, seed=seed, **claim)[0].style.examples for seed in (1, 2) for doc_id in "ab"}
    assert len(drawn) == 4
    assert all(len(set(examples)) == 3 for examples in drawn)
    assert "Examples" not in asked("d", layout="examples", styles={"free search": 1})[0].prompt("text")


def test_a_share_of_a_style_asks_that_share_of_the_documents() -> None:
    counts = [len(asked(f"d{n}", styles={"claim": 0.25, "title": 1.5, "question": 0})) for n in range(2_000)]
    assert 1.65 < sum(counts) / len(counts) < 1.85


def test_a_template_of_the_users_is_filled_and_cannot_leave_its_sandbox() -> None:
    template = "{{ document }}|{{ style.name }}|{{ styles | length }}|{{ language }}"
    (request,) = asked("d", styles={"claim": 1}, template=template, language="de")
    assert request.prompt("{{ 7 * 7 }}") == "{{ 7 * 7 }}|claim|1|the language with the ISO code de"


@pytest.mark.parametrize(
    ("llm", "problem"),
    [
        ({"template": "{{ document }} {{ styl }}"}, "unknown placeholder styl; the placeholders are document"),
        ({"template": "{{ document }}"}, "needs {{ document }} and something of style"),
        ({"template": "{{ document }} {{ style.words }}"}, "a style has name, instruction"),
        ({"template": "{{ document }}\n{% if style.name %}"}, "line 2"),
        ({"template": "{{ document }} {{ style.__class__.__mro__ }}"}, "is unsafe"),
        ({"define": {"mine": {"instruction": "Ask."}}, "styles": {"mine": 1}}, "at least 3 different examples"),
        ({"styles": {"mine": 1}}, "of question, claim"),
        ({"language": "German"}, "pattern"),
    ],
)
def test_settings_that_make_no_prompt_are_refused_when_they_are_read(llm: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        LanguageModel(**llm)


def requests(count: int, doc: str = "") -> Iterator[Request]:
    prompts = Prompts(LanguageModel(styles={"question": 1}), 17)
    for number in range(count):
        yield from (request for _, request in prompts.requests(f"d{number}", doc or " ".join(WORDS[: number + 1])))


def test_an_answer_depends_neither_on_its_batch_nor_on_its_neighbours(llama: Path) -> None:
    from hone.backends.causal_lm import CausalLM

    prompts, seeds = [], list(range(9))
    answers = []
    for budget in (1, 3_000, 100_000):
        model = CausalLM(llama, LanguageModel(max_new_tokens=12, token_budget=budget))
        prompts = [model.prompt(request) for request in requests(9)]
        answers.append(model.generate(prompts, seeds))
    assert answers[0] == answers[1] == answers[2]
    assert sum(answer.new_tokens for answer in answers[0]) > 9
    backwards = CausalLM(llama, LanguageModel(max_new_tokens=12)).generate(prompts[::-1], seeds[::-1])
    assert backwards[::-1] == answers[0]
    assert CausalLM(llama, LanguageModel(max_new_tokens=12)).generate(prompts, seeds[::-1]) != answers[0]


def test_sampling_takes_each_token_as_often_as_its_probability() -> None:
    import torch

    from hone.backends.causal_lm import OwnNumbers

    scores = torch.tensor([[2.0, -torch.inf, 0.0, 1.0]]).repeat(4_000, 1)
    uniforms = torch.linspace(0, 1, 4_001, dtype=torch.float64)[:-1, None]
    chosen = OwnNumbers(uniforms, 0.5)(torch.zeros(4_000, 1, dtype=torch.long), scores).argmax(-1)
    shares = torch.bincount(chosen, minlength=4) / 4_000
    assert torch.allclose(shares, torch.softmax(scores[0] / 0.5, -1), atol=1e-3)


def test_a_long_document_is_cut_until_prompt_and_answer_fit_the_context(llama: Path) -> None:
    from hone.backends.causal_lm import CausalLM

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
    from hone.backends.causal_lm import CausalLM

    folder = shutil.copytree(llama, tmp_path / "plain")
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusal + tiny.CHAT_TEMPLATE, "utf-8")
    prompt = CausalLM(folder, LanguageModel()).prompt(next(requests(1)))
    assert prompt.startswith("<|user|>You write search queries")
    assert prompt.endswith("<|end|><|assistant|>")


def test_a_model_without_a_chat_template_is_refused_before_its_weights_are_read(llama: Path, tmp_path: Path) -> None:
    from hone.backends.causal_lm import CausalLM

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
    costs = [{key: value for key, value in r.cost.items() if key != "model_seconds"} for r in results]
    assert costs[0] == costs[1]
    assert costs[0]["prompt_tokens"] > 24 * 100
    seen = [row for name in ("queries", "dropped_by_generate") for row in rows(store, results[1], name)]
    assert len(seen) == 24
    again = generated(store, prepared(store, docs), **{**sections, "min_words": 2})
    assert "prompt_tokens" not in again.cost


@settings(max_examples=5)
@given(st.sampled_from([("log",), ("extractive", "extractive"), ("gpt",), ()]))
def test_sources_that_make_no_sense_are_refused(sources: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"generate\.sources|name each source once"):
        Config(sources=sources)


def test_a_language_model_must_be_named() -> None:
    with pytest.raises(UserError, match=r"generate\.llm\.model is empty"):
        Config(sources=("transformers",))
    with pytest.raises(UserError, match="asks for nothing"):
        Config.model_validate({"sources": ("vllm",), "llm": {"model": "m", "styles": {"claim": 0}}})


def test_of_a_log_rare_and_late_queries_are_held_back_and_all_are_counted(store: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    asked_on = [("mach wave", 3), ("stall flutter", 1), ("Stall flutter", 2), ("heat shield", 9), ("mach wave", 10)]
    path.write_text("\n".join(["text,day", *(f"{text},2026-05-{day:02}" for text, day in asked_on)]))
    late = {"time_field": "day", "holdout": 0.4}
    sections = {"sources": ("log",), "query_log": str(path)}
    inputs = prepared(store, corpus(10))
    manifest = generated(store, inputs, **sections, log=late)
    assert [row["text"] for row in rows(store, manifest)] == ["mach wave", "stall flutter"]
    reasons = [row["reason"] for row in rows(store, manifest, "dropped_by_generate")]
    assert reasons == ["duplicate", "held out: first asked lately", "duplicate"]
    assert manifest.facts["log"] == {"rows": 5, "distinct": 3}
    manifest = generated(store, inputs, **sections, log={"min_count": 2})
    assert [row["text"] for row in rows(store, manifest)] == ["mach wave", "stall flutter"]
    assert "asked too rarely" in {row["reason"] for row in rows(store, manifest, "dropped_by_generate")}


def test_queries_of_people_keep_their_documents_unless_these_are_unknown_or_held_out(
    store: LocalStore, tmp_path: Path
) -> None:
    path = tmp_path / "clicks.jsonl"
    clicks = [("stall flutter", "d1"), ("mach wedge", "d0"), ("heat shield", "gone"), ("swept wing", "d2")]
    path.write_text("\n".join(json.dumps({"text": text, "doc_id": doc_id}) for text, doc_id in clicks))
    inputs = prepared(store, corpus(10), tests=("swept wing",))
    manifest = generated(store, inputs, sources=("human",), human={"file": str(path)})
    assert [(row["text"], row["doc_id"], row["source"]) for row in rows(store, manifest)] == [
        ("stall flutter", "d1", "human")
    ]
    reasons = [row["reason"] for row in rows(store, manifest, "dropped_by_generate")]
    assert reasons == ["held-out document", "unknown document", "test query"]


def test_sources_are_mixed_by_weight(store: LocalStore, tmp_path: Path) -> None:
    asked_for = [f"{one} {other} {third}" for one in WORDS for other in WORDS for third in WORDS][:1_000]
    sections = {"sources": ("log", "extractive"), "query_log": log(tmp_path, *asked_for)}
    manifest = generated(store, prepared(store, corpus(500)), **sections, mix={"log": 1, "extractive": 3})
    kept = manifest.facts["kept"]
    assert 0.25 < kept["log"]["log"] / sum(kept["extractive"].values()) < 0.42
    assert sum(kept["extractive"].values()) > 1_100
    with pytest.raises(ValueError, match=r"give every one of generate\.sources"):
        Config.model_validate({**sections, "mix": {"log": 1}})


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
