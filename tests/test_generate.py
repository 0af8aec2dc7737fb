"""generate: which sources are asked what, what people asked, and that neither batches nor shards show in it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafting import SENTENCES, WORDS, corpus, generated, log, prepared, rows
from hone import tables
from hone.core import extractive
from hone.core.query_text import comparable
from hone.errors import UserError
from hone.stages.generate.from_people import Asked
from hone.stages.generate.settings import Config
from hone.storage.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


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
    assert [text for _, text, _ in Asked(path, "text")] == queries


def test_a_log_that_cannot_be_read_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"text": "mach"}\n{"text": {"de": "mach", "en": "mach"}}\n', "utf-8")
    with pytest.raises(UserError, match=r"log\.jsonl, line 2: field 'text' is an object with de, en"):
        list(Asked(path, "text"))
    with pytest.raises(UserError, match="none of"):
        list(Asked(tmp_path / "log.xls", "text"))


@given(st.sampled_from(sorted(extractive.STYLES)), SENTENCES, st.integers(0, 99))
def test_an_extract_holds_only_words_of_its_document_and_is_drawn_alike_twice(
    style: str, parts: list[list[str]], seed: int
) -> None:
    text = ". ".join(" ".join(words) for words in parts)
    first, again = (extractive.draw(style, "mach wedge", text, seed=seed, doc_id="d", number=0) for _ in range(2))
    assert first == again
    if first is not None:
        assert set(comparable(first).split()) <= set(comparable(f"mach wedge {text}").split())
        assert len(first.split()) <= 30


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
    assert {"rows": 5, "distinct": 3, "without text": 0}.items() <= manifest.facts["log"].items()
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
