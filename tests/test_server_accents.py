"""Servers that speak the language of others with an accent: what they mean is understood, or said in one sentence."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from drafting import together
from hone.backends.generators.openai_api import OpenAIServer, text_of
from hone.backends.generators.settings import Endpoint, Sampling
from hone.backends.server_errors import lower_limit, reason
from hone.backends.teachers.rerank_endpoint import RerankEndpoint
from hone.backends.teachers.settings import OneTeacher
from hone.errors import TransientError, UserError
from loopback import Handler, Server, running

pytestmark = pytest.mark.slow

Body = dict[str, Any]
Reply = tuple[int, Any]
PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>please</body></html>"


@contextmanager
def serving(reply: Callable[[Body], Reply]) -> Iterator[tuple[str, list[Body]]]:
    """A server that answers every request by `reply`; its address, and what was sent."""
    seen: list[Body] = []

    class Replying(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.body())
            seen.append(body)
            status, content = reply(body)
            self.answer(content, status, "text/html" if isinstance(content, str) else "application/json")

    with running(Server(Replying)) as server:
        yield server.address, seen


def said(content: Any) -> Body:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


def ask(url: str, **endpoint: Any) -> list[str]:
    settings = Sampling(endpoint=Endpoint(url=f"{url}/v1", model="m", attempts=2, concurrency=2, **endpoint))
    found = together(OpenAIServer(None, settings).generate(["a", "b", "c"], [1, 2, 3]))
    return [found[at].text for at in range(3)]


def refusal(url: str) -> Exception:
    with pytest.raises((UserError, TransientError)) as stopped:
        ask(url)
    return stopped.value


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([{"type": "text", "text": "one "}, {"type": "text", "text": "query"}], "one query"),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "query"}], "query"),
        ([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "query"}], "query"),
        ([{"type": "text", "text": {"value": "query", "annotations": []}}], "query"),
        ([{"thought": True, "text": "hm"}, "query"], "query"),
        ({"type": "text", "text": "query"}, "query"),
        ([], ""),
    ],
)
def test_the_text_of_an_answer_is_that_of_its_parts(content: Any, text: str) -> None:
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("field", "status", "error"),
    [
        ("seed", 422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}),
        ("seed", 400, {"error": {"message": "Unrecognized request argument supplied: seed"}}),
        ("temperature", 400, {"error": {"message": "'temperature' does not support 0.8 with this model."}}),
        ("max_tokens", 400, {"error": {"message": "Unsupported: 'max_tokens'. Use 'max_completion_tokens'."}}),
    ],
)  # fmt: skip
def test_a_field_that_is_refused_by_name_is_left_out_from_then_on(field: str, status: int, error: Body) -> None:
    with serving(lambda body: (status, error) if field in body else (200, said("query"))) as (url, seen):
        assert ask(url) == ["query"] * 3
    assert sum(field in body for body in seen) <= 2
    assert field not in seen[-1]
    assert ("max_completion_tokens" in seen[-1]) is (field == "max_tokens")


REASONS = [
    ({"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}, "messages: Field required"),
    ({"detail": "model is not loaded"}, "model is not loaded"),
    ({"message": "no such model", "object": "error"}, "no such model"),
    ({"error": "too long a prompt"}, "too long a prompt"),
    ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
]


@pytest.mark.parametrize(("error", "why"), REASONS)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_is_told_with_its_reason(status: int, error: Body, why: str) -> None:
    with serving(lambda body: (status, error)) as (url, seen):
        cause = refusal(url)
    assert isinstance(cause, UserError)
    assert f"refuses the requests: {why}; correct" in str(cause)
    assert len(seen) <= 3


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        ({"error": {"message": "no credit left", "code": 402}}, UserError, "no credit left"),
        ({"error": {"message": "upstream is busy", "code": 503}}, TransientError, "upstream is busy"),
        ({"object": "error", "message": "no such model", "code": 404}, UserError, "no such model"),
        ({"error": "something broke"}, TransientError, "something broke"),
    ],
)
def test_an_error_inside_an_answer_is_told(answer: Body, kind: type[Exception], why: str) -> None:
    with serving(lambda body: (200, answer)) as (url, _):
        cause = refusal(url)
    assert isinstance(cause, kind)
    assert why in str(cause)


def test_a_page_to_sign_in_is_no_api() -> None:
    with serving(lambda body: (200, PAGE)) as (url, _):
        cause = refusal(url)
    assert isinstance(cause, UserError)
    assert "answers with a web page called 'Sign in' and not as an API; correct generate.llm.endpoint.url" in str(cause)


def rerank(url: str, size: int = 8) -> np.ndarray:
    server = {"url": url, "first_wait": 0.001, "attempts": 2, "docs_per_request": size, "concurrency": 1}
    teacher = OneTeacher.model_validate({"kind": "endpoint", "server": server})
    return RerankEndpoint(teacher).score_pairs(["q"] * 8, [f"{at}" * (at + 1) for at in range(8)])


def scored(body: Body) -> list[Body]:
    return [{"index": at, "score": float(len(text))} for at, text in enumerate(body["texts"])]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (422, {"error": "batch size 8 > maximum allowed batch size 3", "error_type": "Validation"}),
        (400, {"detail": [{"loc": ["body", "texts"], "msg": "List should have at most 3 items, not 8"}]}),
        (413, {"error": "payload too large"}),
        (200, {"error": {"message": "too many documents: 8, the most are 3", "code": 400}}),
    ],
)
def test_a_limit_on_documents_is_learnt_from_the_refusal(status: int, error: Body) -> None:
    with serving(lambda body: (status, error) if len(body["texts"]) > 3 else (200, scored(body))) as (url, seen):
        np.testing.assert_array_equal(rerank(url), np.arange(1, 9))
    assert len(seen) <= 8


@pytest.mark.parametrize(
    ("status", "answer", "kind", "why"),
    [
        (
            422,
            {"detail": [{"loc": ["body", "query"], "msg": "is empty"}]},
            UserError,
            "query: is empty",
        ),
        (403, {"message": "this key may not rerank"}, UserError, r"does not accept the key .*this key may not rerank"),
        (200, {"error": "model is loading", "code": 503}, TransientError, "model is loading"),
        (200, PAGE, UserError, "a web page called 'Sign in' and not as an API; correct teacher.server.url"),
        (500, {"error": "out of memory"}, TransientError, "status 500: out of memory"),
    ],
)
def test_what_a_reranker_refuses_is_told(status: int, answer: Any, kind: type[Exception], why: str) -> None:
    with serving(lambda body: (status, answer)) as (url, _), pytest.raises(kind, match=why):
        rerank(url)


def test_reasons_and_limits_are_found_in_whatever_was_sent() -> None:
    assert reason(b'{"detail": {"error": {"message": "x"}}}') == "x"
    assert reason("plain\n text") == "plain text"
    assert reason(PAGE) == "a web page called 'Sign in'"
    assert reason(None) == reason({}) == ""
    assert lower_limit("batch size 64 > maximum allowed batch size 32", 64) == 32
    assert lower_limit("context of 4096 tokens", 64) == 0
