"""The student's vectors, where they are saved and read again, and the search over them."""

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

import encoding_together
import tiny
from forking import forks
from hone import progress, tables
from hone.backends.encoders import wide_attention
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student, doc_text, family
from hone.backends.encoders.reading import reading
from hone.backends.encoders.vectors import QueryEncoder, encode_docs, encode_queries
from hone.backends.search.bm25 import BM25, with_identifier_words
from hone.core.reading import Reading
from hone.errors import UserError
from hone.results.content_cache import ContentCache
from hone.storage.local import LocalStore

pytestmark = pytest.mark.slow

TEXTS = ["heat flow", "", "a wing in a slip stream", "shock waves", "an experimental study" + " of flow" * 25]
QUESTION = {"query": "query: ", "document": "passage: "}


def encoder(folder: Path, **settings: object) -> Encoder:
    return Encoder(folder, Student.model_validate({"model": str(folder), **settings}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.student(tmp_path_factory.mktemp("models") / "plain", vocab_texts=TEXTS)


@pytest.mark.parametrize(("declared", "pooling"), [("mean", "mean"), ("cls", "cls"), ("lasttoken", "last")])
def test_vectors_and_prompts_are_those_of_sentence_transformers_before_and_after_saving(
    tmp_path: Path, declared: str, pooling: str
) -> None:
    ours = encoder(tiny.student(tmp_path / "made", pooling=declared, prompts=QUESTION, vocab_texts=TEXTS))
    ours.save(tmp_path / "saved")
    assert ours.pooling == pooling
    for folder in (tmp_path / "made", tmp_path / "saved"):
        theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        for text in TEXTS:
            np.testing.assert_allclose(ours.queries([text]), theirs.encode_query([text]), atol=1e-5)
            np.testing.assert_allclose(ours.docs([text]), theirs.encode_document([text]), atol=1e-5)


def test_a_saved_student_gives_the_same_vectors_when_read_again(folder: Path, tmp_path: Path) -> None:
    first = encoder(folder, pooling="cls", query_prefix="find ")
    first.save(tmp_path / "bge-tuned")
    again = encoder(tmp_path / "bge-tuned")
    np.testing.assert_array_equal(first.queries(TEXTS), again.queries(TEXTS))
    np.testing.assert_array_equal(first.docs(TEXTS), again.docs(TEXTS))


def test_a_saved_tokenizer_does_not_remember_the_limit_of_the_last_call(folder: Path, tmp_path: Path) -> None:
    student = encoder(folder, max_query_tokens=4)
    student.queries(TEXTS)
    student.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"] is None


def test_vectors_do_not_depend_on_how_texts_are_batched(folder: Path) -> None:
    alone = np.concatenate([encoder(folder).docs([text]) for text in TEXTS])
    for budget in (1, 40, 10_000):
        together = Encoder(folder, Student(model=str(folder)), token_budget=budget).docs(TEXTS)
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)


def job_over(texts: list[str], folder: Path) -> Any:
    """What encode_docs needs of a job, over a real store."""
    ids = [f"d{number}" for number in range(len(texts))]
    docs = tables.DOCS.of(ids, [""] * len(texts), texts, [False] * len(texts))
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    store = LocalStore(folder / "store")
    return SimpleNamespace(
        scratch=scratch,
        table=lambda name: SimpleNamespace(rows=len(ids), batches=lambda columns: docs.select(columns).to_batches()),
        cache=lambda name, identity, type: ContentCache(store, name, identity, type, scratch),
        source=Path,
    )


def test_documents_are_encoded_in_order_and_each_is_paid_for_once_per_model(folder: Path, tmp_path: Path) -> None:
    student = Student(model=str(folder))
    ids, vectors = encode_docs(job_over(TEXTS, tmp_path), student, student.model, "encode")
    assert ids == ["d0", "d1", "d2", "d3", "d4"]
    np.testing.assert_allclose(vectors, encoder(folder).docs(TEXTS), atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:
        paid: list[list[int]] = []
        patch.setattr(Encoder, "encode_tokens", lambda _, rows: paid.extend(rows) or np.zeros((len(rows), 32), "f4"))
        again = encode_docs(job_over(TEXTS[::-1], tmp_path), student, student.model, "encode")[1]
        assert paid == []
        np.testing.assert_array_equal(again, vectors[::-1])
        other = student.model_copy(update={"pooling": "cls"})
        encode_docs(job_over([*TEXTS, TEXTS[0]], tmp_path), other, student.model, "encode")
        assert paid == encoder(folder).tokenize_docs(TEXTS)


def test_a_large_model_on_a_processor_keeps_what_it_encoded_soon_and_goes_on_there_after_a_kill(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, student = [f"a study of {'flow ' * at}" for at in range(40)], Student(model=str(folder))
    whole = encode_docs(job_over(texts, tmp_path / "small"), student, student.model, "encode")[1]
    monkeypatch.setattr("hone.backends.budget.SOON", 0.0)
    monkeypatch.setattr("hone.progress.LOG_EVERY_SECONDS", 0.0)
    turns: list[int] = []
    encode_tokens = Encoder.encode_tokens

    def killed(self: Encoder, rows: list[list[int]]) -> np.ndarray:
        turns.append(len(rows))
        return pytest.fail("killed") if len(turns) == 3 else encode_tokens(self, rows)

    monkeypatch.setattr(Encoder, "encode_tokens", killed)
    job = job_over(texts, tmp_path / "large")
    with pytest.raises(pytest.fail.Exception):
        encode_docs(job, student, student.model, "encode")
    np.testing.assert_allclose(encode_docs(job, student, student.model, "encode")[1], whole, atol=1e-5)
    assert turns == [16, 16, 8, 8], "what was kept before the kill is not encoded again"
    assert "encode: 16/40 docs" in capsys.readouterr().err


def test_a_student_that_differs_in_its_head_alone_pays_for_no_text_again(folder: Path, tmp_path: Path) -> None:
    student = Student(model=str(folder))
    base = encode_docs(job_over(TEXTS, tmp_path), student, student.model, "encode")[1]
    np.testing.assert_array_equal(
        encode_queries(job_over([], tmp_path), encoder(folder), "encode", TEXTS), encoder(folder).queries(TEXTS)
    )
    headed = encoder(folder)
    torch.nn.init.normal_(headed.add_head().change, std=0.2)
    headed.save(tmp_path / "headed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Encoder, "encode_tokens", lambda _, rows: pytest.fail("encoded again"))
        vectors = encode_docs(job_over(TEXTS, tmp_path), student, tmp_path / "headed", "encode")[1]
        queries = encode_queries(job_over([], tmp_path), headed, "encode", TEXTS)
    np.testing.assert_allclose(vectors, headed.docs(TEXTS), atol=1e-5)
    np.testing.assert_allclose(queries, headed.queries(TEXTS), atol=1e-5)
    assert not np.allclose(vectors, base, atol=1e-2)


def test_queries_are_kept_on_a_processor_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, student = job_over([], tmp_path), encoder(folder)
    kept = QueryEncoder(job, student)
    expected = kept(TEXTS)
    assert len(list(LocalStore(tmp_path / "store").objects("memo/vectors"))) == 1
    monkeypatch.setattr(student, "device", SimpleNamespace(type="cuda"))
    anew = QueryEncoder(job, student)
    monkeypatch.undo()
    assert (kept.cache is None, anew.cache) == (False, None)
    with progress.task("encode", len(TEXTS), "queries") as shown:
        np.testing.assert_array_equal(anew(TEXTS, shown), expected)
    assert "encode: 5/5 queries" in capsys.readouterr().err


def test_layers_that_differ_in_one_weight_or_in_their_tokenizer_share_nothing(folder: Path, tmp_path: Path) -> None:
    other, lower = encoder(folder), encoder(folder)
    torch.nn.init.normal_(next(other.model.parameters()))
    other.save(tmp_path / "weight")
    lower.save(tmp_path / "tokenizer")
    tokenizer = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    for model in (folder, tmp_path / "weight", tmp_path / "tokenizer"):
        encode_docs(job_over(TEXTS, tmp_path), Student(model=str(model)), model, "encode")
    assert len(list((tmp_path / "store" / "memo" / "vectors").iterdir())) == 3


def test_two_processes_share_the_documents_and_find_what_one_finds(tmp_path: Path) -> None:
    together, one = tmp_path / "together", tmp_path / "one"
    for folder in (together, one):
        tiny.student(folder / "student", vocab_texts=encoding_together.WORDS)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = forks()
    ranks = [context.Process(target=encoding_together.joined, args=(together, rank, port)) for rank in range(2)]
    processes = [*ranks, context.Process(target=encoding_together.mined, args=(one,))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    shared = [json.loads((together / f"{rank}.json").read_text()) for rank in range(2)]
    alone = json.loads((one / "0.json").read_text())
    assert {process["candidates"] for process in shared} == {alone["candidates"]}
    shares = [process["encoded"] for process in shared]
    distinct = len(set(encoding_together.TEXTS))
    assert alone["encoded"] == distinct
    assert min(shares) >= distinct // 3


def test_no_document_gives_no_vector(folder: Path, tmp_path: Path) -> None:
    ids, vectors = encode_docs(job_over([], tmp_path), Student(model=str(folder)), folder, "encode")
    assert (ids, vectors.shape) == ([], (0, 32))


def test_no_text_gives_no_vector(folder: Path) -> None:
    assert encoder(folder).docs([]).shape == (0, 32)


def test_texts_are_cut_with_their_prefix_to_the_limit(folder: Path) -> None:
    student = encoder(folder, query_prefix="heat ", max_query_tokens=5, max_doc_tokens=100_000)
    assert [len(ids) for ids in student.tokenize_queries(["flow", "flow " * 50])] == [4, 5]
    assert len(student.tokenize_docs(["flow " * 2_000])[0]) == tiny.LONGEST


@pytest.mark.parametrize("side", ["right", "left"])
def test_how_much_of_a_document_is_read_is_what_tokenising_it_whole_says(folder: Path, side: str) -> None:
    student, whole = (encoder(folder, doc_prefix="heat ", max_doc_tokens=limit) for limit in (9, 100_000))
    student.tokenizer.truncation_side = side
    texts = [*TEXTS, "flow " * 200, "flow " * 6, "flow " * 7]
    expected = [
        (len(kept), len(every))
        for kept, every in zip(student.tokenize_docs(texts), whole.tokenize_docs(texts), strict=True)
    ]
    assert student.doc_lengths(texts) == expected
    assert {kept < every for kept, every in expected} == {True, False}
    assert student.doc_lengths([]) == []


def test_documents_that_are_longer_than_what_the_student_reads_are_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = job_over(["flow " * 30] * 300 + ["flow"] * 700, tmp_path).table("docs")
    found = reading(encoder(folder, max_doc_tokens=12), docs)
    assert found == Reading(1_000, 12, 0.3, round(20 * 300 / (32 * 300 + 3 * 700), 4))
    said = capsys.readouterr().err
    assert "30% of the documents are longer than the 12 tokens that the student reads: 51% of the text is" in said
    assert f"or set student.max_doc_tokens, up to {tiny.LONGEST}" in said
    few = job_over(["flow " * 30] * 30 + ["flow"] * 970, tmp_path / "few").table("docs")
    assert reading(encoder(folder, max_doc_tokens=12), few).longer == 0.03
    assert "longer than" not in capsys.readouterr().err


def test_of_many_documents_a_sample_says_how_much_is_read(folder: Path, tmp_path: Path) -> None:
    texts = ["flow " * (30 if number % 4 == 0 else 1) for number in range(6_000)]
    found = reading(encoder(folder, max_doc_tokens=12), job_over(texts, tmp_path).table("docs"))
    assert found.docs == 1_000
    assert found.longer == pytest.approx(0.25, abs=0.04)
    none = reading(encoder(folder), job_over([], tmp_path).table("docs"))
    assert none == Reading(0, min(Student(model="m").max_doc_tokens, tiny.LONGEST), 0.0, 0.0)


def test_bf16_vectors_are_near_those_of_fp32(folder: Path) -> None:
    cosines = (encoder(folder).docs(TEXTS) * encoder(folder, precision="bf16").docs(TEXTS)).sum(1)
    assert cosines.min() > 0.99


def test_gradients_in_bf16_are_as_near_to_those_of_fp32_with_attention_in_fp32_and_vectors_are_the_same_bits(
    folder: Path,
) -> None:
    exact, plain, wide = (encoder(folder, precision=precision) for precision in ("fp32", "bf16", "bf16"))
    before = wide.docs(TEXTS)
    for student in (exact, wide):
        student.take_gradients()
    attentions = [student.model.config._attn_implementation for student in (exact, plain, wide)]
    assert attentions == ["sdpa", "sdpa", wide_attention.NAME]
    away = [(gradient(student) - gradient(exact)).norm() / gradient(exact).norm() for student in (plain, wide)]
    assert 0 < away[1] < 1.1 * away[0] < 0.1
    assert (wide.docs(TEXTS) == before).all()


def gradient(student: Encoder) -> Tensor:
    """Of all weights in a row, for texts of different lengths in one batch."""
    student.model.zero_grad()
    aims = torch.arange(32.0).cos()
    (student.embed(*student.pad(student.tokenize_docs(TEXTS))) * aims).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in student.model.parameters() if weight.grad is not None])


def test_gradients_reach_the_weights(folder: Path) -> None:
    student = encoder(folder)
    student.embed(*student.pad(student.tokenize_docs(TEXTS))).sum().backward()
    assert torch.isfinite(student.model.embeddings.word_embeddings.weight.grad).all()


@pytest.mark.parametrize(
    ("name", "pooling", "query_prefix"),
    [
        ("bge-base-en-v1.5", "cls", "Represent this sentence for searching relevant passages: "),
        ("snowflake-arctic-embed-m-v1.5", "cls", "Represent this sentence for searching relevant passages: "),
        ("models--intfloat--multilingual-e5-base", "mean", "query: "),
        ("gte-base-en-v1.5", "cls", ""),
        ("3fe5a1", "mean", ""),
        ("model", "mean", ""),
    ],
)
def test_a_family_is_known_by_whole_words_of_the_name(name: str, pooling: str, query_prefix: str) -> None:
    assert (family(name).pooling, family(name).query_prefix) == (pooling, query_prefix)


def test_what_the_folder_leaves_open_comes_from_its_family_and_settings_win(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "e5-tiny")
    assert encoder(folder).query_prefix == "query: "
    assert encoder(folder, query_prefix="").query_prefix == ""
    assert encoder(folder, pooling="last").pooling == "last"


def test_a_title_stands_before_the_text() -> None:
    assert [doc_text("Heat", "flows"), doc_text("", "flows")] == ["Heat flows", "flows"]


@pytest.mark.parametrize("harm", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_folder_that_lacks_a_file_is_refused_by_name(tmp_path: Path, harm: str) -> None:
    folder = tiny.bert(tmp_path / "harmed")
    (folder / harm).unlink()
    with pytest.raises(UserError, match="harmed"):
        encoder(folder)


def test_truncated_weights_are_refused_by_name(tmp_path: Path) -> None:
    weights = tiny.bert(tmp_path / "harmed") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5_000])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        encoder(weights.parent)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        encoder(folder)


def test_weights_of_another_model_are_refused_instead_of_made_up(tmp_path: Path) -> None:
    folder = tiny.bert(tmp_path / "small", layers=1)
    deeper = tiny.bert(tmp_path / "deep", layers=2)
    (folder / "config.json").write_bytes((deeper / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"lack encoder\.layer\.1"):
        encoder(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_size": 64}, "config.json gives other shapes than the weights have"),
        ({"vocab_size": 9}, "config.json gives other shapes than the weights have"),
        ({"max_position_embeddings": 8}, "config.json gives other shapes than the weights have"),
        ({"hidden_size": -32}, "config.json gives other shapes than the weights have"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"hidden_act": "nonsense"}, "config.json names 'nonsense', which is unknown"),
    ],
)
def test_a_configuration_of_another_shape_than_the_weights_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = tiny.reconfigured(tiny.bert(tmp_path / "harmed"), **change)
    sentence = rf"harmed cannot be loaded \(.*{said}.*\); copy the model folder again$"
    with pytest.raises(UserError, match=sentence) as refused:
        encoder(folder)
    assert "\n" not in str(refused.value)


def test_bm25_finds_stems_and_words_inside_identifiers() -> None:
    index = BM25(["the class ConfigParser", "running os.path", "HTTP_error of readLine", "nothing here"])
    assert index.top_k("parsers", 4).tolist() == [0]
    assert index.top_k("runs", 4).tolist() == [1]
    assert index.top_k("line", 4).tolist() == [2]
    assert index.top_k("readline", 4).tolist() == [2]
    assert index.top_k("path", 4, np.array([True, False, True, True])).tolist() == []
    assert index.top_k("the unheard", 4).tolist() == []


def test_bm25_of_a_corpus_without_words_finds_nothing() -> None:
    assert BM25(["", "the"]).top_k("wing", 3).tolist() == []


def test_bm25_scores_are_those_of_lucene() -> None:
    texts = [["wing", "flow"], ["wing", "wing", "heat"], ["shock"]]
    scores = BM25([" ".join(words) for words in texts]).scores("wing heat")
    np.testing.assert_allclose(scores, [lucene(words, ["wing", "heat"], texts) for words in texts], rtol=1e-5)


def lucene(doc: list[str], query: list[str], docs: list[list[str]], k1: float = 1.2, b: float = 0.75) -> float:
    """Source: Kamphuis et al., "Which BM25 do you mean?", ECIR 2020, the row Lucene (accurate)."""
    mean = sum(map(len, docs)) / len(docs)
    total = 0.0
    for term in query:
        containing = sum(term in other for other in docs)
        idf = np.log(1 + (len(docs) - containing + 0.5) / (containing + 0.5))
        count = doc.count(term)
        total += idf * count / (count + k1 * (1 - b + b * len(doc) / mean))
    return total


def test_identifiers_are_kept_beside_their_words() -> None:
    assert with_identifier_words("readLine2Buf") == "readLine2Buf read Line2 Buf"
    assert with_identifier_words("an HTTPServer__x") == "an HTTPServer__x HTTP Server x"
    assert with_identifier_words("plain words") == "plain words"
