"""The openai backend against a real HTTP server on loopback that misbehaves on purpose."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from openai.types.chat import ChatCompletion

import tiny
from drafting import corpus, generated, prepared, rows
from hone.backends.generators.answers import Answer
from hone.backends.generators.openai_api import answer_of, sent_at_once
from hone.backends.generators.settings import Endpoint
from hone.errors import TransientError, UserError
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import EXAMPLE, Request
from hone.storage.local import LocalStore
from openai_server import FAULTS, KEY, completion, sections, serving

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_server_that_fails_every_fifth_time_costs_no_row_and_doubles_none(tmp_path: Path) -> None:
    whole, broken = LocalStore(tmp_path / "whole"), LocalStore(tmp_path / "broken")
    docs = corpus(100)
    with serving() as server:
        expected = generated(whole, prepared(whole, docs), **sections(server))
        assert 2 <= server.most_open <= 8
    with serving(faulty=0.2) as server:
        found = generated(broken, prepared(broken, docs), **sections(server))
        assert set(server.faults) == {"", *FAULTS}
    assert found.outputs == expected.outputs
    written = [row for name in ("queries", "dropped_by_generate") for row in rows(broken, found, name)]
    assert len(written) == 160
    assert set(server.answered.values()) == {1}
    tokens = {"prompt_tokens": 16_000, "cached_tokens": 9_600, "new_tokens": 1_280}
    assert {key: found.cost[key] for key in tokens} == tokens
    spent = found.facts["answers"]["openai"]
    assert {key: sum(style[key] for style in spent.values()) for key in tokens} == tokens
    assert sum(style["microseconds"] for style in spent.values()) / 1e6 == pytest.approx(
        found.cost["model_seconds"], 0.01
    )
    assert found.facts["target"] == {"openai": {"question": 80, "title": 80}}


def test_tokens_that_a_server_does_not_tell_are_no_zero(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with serving() as server:
        server.tells_usage = False
        manifest = generated(store, prepared(store, corpus(5)), **sections(server))
    assert "prompt_tokens" not in manifest.cost
    assert {style["without_cached_tokens"] for style in manifest.facts["answers"]["openai"].values()} == {4}


def test_a_server_that_dies_ends_the_run_and_what_it_answered_is_kept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    inputs = prepared(store, corpus(100))
    with serving() as server:
        server.dies_after = 90
        with pytest.raises(TransientError, match=r"kept failing.*run again"):
            generated(store, inputs, **sections(server, attempts=2))
        first = Counter(server.answered)
        assert first.total() >= 90
        server.dies_after = sys.maxsize
        generated(store, inputs, **sections(server))
    assert set(server.answered.values()) == {1}
    assert server.answered.total() == 160


def test_a_corpus_of_which_3_percent_changed_asks_for_3_percent(tmp_path: Path) -> None:
    store, docs = LocalStore(tmp_path / "store"), corpus(200)
    changed = [f"{text} anew" if at in range(1, 30, 5) else text for at, text in enumerate(docs["text"].to_pylist())]
    with serving() as server:
        generated(store, prepared(store, docs), **sections(server))
        first = server.answered.total()
        inputs = prepared(store, docs.set_column(2, "text", pa.array(changed)), fingerprint="e" * 16)
        generated(store, inputs, **sections(server))
    assert server.answered.total() - first == 12 == 0.0375 * first


def test_a_wrong_key_ends_the_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with serving() as server:
        with pytest.raises(UserError, match=r"does not accept the key.*OPENAI_API_KEY") as caught:
            generated(store, prepared(store, corpus(100)), **sections(server))
        assert len(server.refusals) <= 16
    assert "sk-wrong" not in str(caught.value)


def test_the_key_may_come_from_a_mounted_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    store, file = LocalStore(tmp_path / "store"), tmp_path / "key"
    inputs = prepared(store, corpus(5))
    with serving() as server:
        with pytest.raises(UserError, match="does not accept the key"):
            generated(store, inputs, **sections(server))
        with pytest.raises(UserError, match=r"key_file .*No such file"):
            generated(store, inputs, **sections(server, key_file=str(file)))
        file.write_text(f"{KEY}\n")
        assert len(rows(store, generated(store, inputs, **sections(server, key_file=str(file))))) == 8
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path != file]
    assert not any(KEY.encode() in data for data in everything)


def test_what_the_server_refuses_is_said_in_its_own_words(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with serving() as server, pytest.raises(UserError, match="The model `huge` does not exist"):
        generated(store, prepared(store, corpus(5)), **sections(server, model="huge"))


@pytest.mark.parametrize(("text", "cut"), [("what is flutter\nI chose this as", False), ("what is flut", True)])
def test_an_answer_that_ran_out_of_tokens_is_cut_only_within_its_line(text: str, cut: bool) -> None:
    said = {**completion("", 0), "usage": None}
    said["choices"][0] |= {"finish_reason": "length", "message": {"role": "assistant", "content": text}}
    assert answer_of(ChatCompletion.model_validate(said)).cut == cut


def test_every_request_carries_its_seed_its_limit_and_the_further_fields(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    thinking = {"chat_template_kwargs": {"enable_thinking": False}}
    with serving() as server:
        chosen = sections(server, extra_body=thinking, length_field="max_completion_tokens")
        generated(store, prepared(store, corpus(5)), **chosen)
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies) == 8
    assert all(0 <= body["seed"] < 2**31 for body in server.bodies)
    assert all(body["max_completion_tokens"] == 50 and "max_tokens" not in body for body in server.bodies)
    assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in server.bodies)


def test_a_document_is_cut_by_the_tokenizer_of_the_served_model_or_by_bytes(tmp_path: Path) -> None:
    from hone.backends.generators.openai_api import OpenAIServer

    settings = LanguageModel(endpoint=Endpoint(url="http://127.0.0.1:1", model="tiny"), max_doc_tokens=20)
    request = Request("ä" * 100, EXAMPLE)
    folder = tiny.llama(tmp_path / "llama")
    assert OpenAIServer(folder, settings).prompt(request).count("ä") == 10
    assert OpenAIServer(None, settings).prompt(request).count("ä") == 30


def test_no_more_is_asked_than_answers_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from hone.backends.generators import openai_api

    monkeypatch.setattr(openai_api, "HEARTBEAT", 0.05)
    with serving() as server:
        endpoint = Endpoint(url=server.url, model="tiny", concurrency=3)
        backend = openai_api.OpenAIServer(None, LanguageModel(endpoint=endpoint))
        parts = backend.generate([f"prompt {at}" for at in range(20)], list(range(20)))
        taken: dict[int, Answer] = {}
        for part in parts:
            time.sleep(0.05)
            assert len(server.bodies) <= len(taken) + 3
            taken |= part
        assert sorted(taken) == list(range(20))
        parts = backend.generate(["slow"], [1])
        with server.lock:  # the server waits for it too
            assert next(parts) == {}
        assert list(next(part for part in parts if part)) == [0]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0.0, 31.0, 1), (16.0, 0.0, 1), (9.0, 0.0, 3)],
    ids=["while none come", "before the next one would be too late", "as many as come in half a minute"],
)
def test_answers_are_kept_every_half_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: float, after: float, expected: int
) -> None:
    from hone.backends.generators.openai_api import OpenAIServer
    from hone.stages.generate import from_model

    store, now, kept = LocalStore(tmp_path / "store"), [0.0], list[int]()
    plain = OpenAIServer.generate

    def one_by_one(self: Any, *asked: Any) -> Iterator[dict[int, Answer]]:
        for part in plain(self, *asked):
            for at, answer in part.items():
                now[0] += before
                yield {at: answer}
                now[0] += after
                yield {}
                kept.append(len(list(store.objects("memo/answers"))))

    monkeypatch.setattr(OpenAIServer, "generate", one_by_one)

    def clock() -> float:
        now[0] += 0.001
        return now[0]

    monkeypatch.setattr(from_model, "time", SimpleNamespace(monotonic=clock))
    with serving() as server:
        generated(store, prepared(store, corpus(5)), **sections(server))
    assert kept == [at // expected for at in range(1, 9)]


def test_answers_of_an_earlier_run_do_not_count_in_the_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hone import stages
    from hone.progress import Task, task

    shown = list[Task]()

    @contextmanager
    def noted(*asked: Any, **how: Any) -> Iterator[Task]:
        with task(*asked, **how) as running:
            shown.append(running)
            yield running

    monkeypatch.setattr(stages.stage("generate"), "task", noted)
    store, docs = LocalStore(tmp_path / "store"), corpus(10)
    with serving() as server:
        generated(store, prepared(store, docs.slice(0, 5)), **sections(server))
        generated(store, prepared(store, docs, fingerprint="e" * 16), **sections(server))
    assert [(running.done, running.skipped) for running in shown] == [(8, 0), (16, 8)]


def test_a_server_that_is_slow_with_many_requests_is_sent_fewer() -> None:
    now = sent_at_once(32, 32, beside=32, seconds=240.0)
    assert now == 4
    assert sent_at_once(now, 32, beside=32, seconds=240.0) == 4  # one of those that were sent with it
    assert sent_at_once(now, 32, beside=4, seconds=29.0) == 4
    assert sent_at_once(now, 32, beside=4, seconds=10.0) == 5
    assert sent_at_once(32, 32, beside=32, seconds=1.0) == 32
    assert sent_at_once(1, 32, beside=1, seconds=500.0) == 1


def test_a_claim_that_is_a_question_counts_as_one_only_where_questions_are_asked_for(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    for other in ("question", "title"):
        store = LocalStore(tmp_path / other)
        with serving() as server:
            asked = sections(server)
            asked["llm"]["styles"] = {"claim": 1, other: 1}
            found = generated(store, prepared(store, corpus(10)), **asked)
        spent = {style: told["answers"] for style, told in found.facts["answers"]["openai"].items()}
        assert spent == {"claim": 8, other: 8}
        made[other] = Counter(row["style"] for row in rows(store, found))
        dropped = [row["reason"] for row in rows(store, found, "dropped_by_generate")]
        assert dropped == ["wrong form"] * (8 if other == "title" else 0)
    assert made == {"question": {"question": 16}, "title": {"title": 8}}
