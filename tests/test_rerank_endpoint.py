"""Rerank endpoints of every shape that misbehave: no score is lost, wrong or paid for twice."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import given
import tiny
from hone.backends.teachers.rerank_endpoint import RerankEndpoint
from hone.backends.teachers.settings import OneTeacher
from hone.errors import TransientError, UserError
from hone.storage.local import LocalStore
from loopback import Handler, Server, running
from scoring import world

pytestmark = pytest.mark.slow

QUERIES = ["heat flow", "a wing", "shock waves in nozzles", "heat flow", "stall"]
DOCS = ["heat", "a wing in a slip stream " * 9, "shock waves and flow", "", "the stall of wings " * 3]


class Reranker(Handler):
    """Scores a document by the letters it shares with the query, in one of three shapes, and misbehaves as asked."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.body())
        with server.lock:
            server.seen.append({**body, "authorization": self.headers.get("Authorization")})
            fault = server.fault(len(server.seen))
        docs = body.get("texts", body.get("documents"))
        scores = [shared(body["query"], doc) for doc in docs]
        name = "score" if "texts" in body else "relevance_score"
        rows = [{"index": at, name: score} for at, score in enumerate(scores)][::-1]
        if fault == "stall":
            time.sleep(1.5)
        if fault == "missing":
            rows = rows[1:]
        if fault == "twice":
            rows[0] = rows[-1]
        if fault == "nan":
            rows[0][name] = float("nan")
        if fault == "null":
            rows[0][name] = None
        text = json.dumps(rows if "texts" in body else {"results": rows}).encode()
        self.answer(b"<oops>" + text[6:] if fault == "html" else text, fault if isinstance(fault, int) else 200)


def shared(query: str, doc: str) -> float:
    return len(set(query) & set(doc)) / 26 + len(doc) / 1_000


@contextmanager
def serving(fault: Callable[[int], Any] = lambda count: None) -> Iterator[Any]:
    server: Any = Server(Reranker)
    server.seen, server.fault, server.lock = [], fault, threading.Lock()
    server.url = f"{server.address}/rerank"
    with running(server):
        yield server


def endpoint(url: str, **settings: Any) -> RerankEndpoint:
    server = {"url": url, "first_wait": 0.001, "timeout": 0.5, "docs_per_request": 2, **settings}
    return RerankEndpoint(OneTeacher.model_validate({"kind": "endpoint", "server": server}))


EXPECTED = np.array([shared(query, doc) for query, doc in zip(QUERIES, DOCS, strict=True)], dtype=np.float32)


@pytest.mark.parametrize("shape", ["tei", "cohere", "jina"])
def test_an_endpoint_of_each_shape_gives_its_scores_in_order(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RERANK_API_KEY", "k")
    with serving() as server:
        found = endpoint(server.url, shape=shape, model="m").score_pairs(QUERIES * 3, DOCS * 3)
    np.testing.assert_array_equal(found, np.tile(EXPECTED, 3))
    assert all(len(body.get("texts", body.get("documents"))) <= 2 for body in server.seen)
    assert {body["authorization"] for body in server.seen} == {"Bearer k"}
    if shape == "tei":
        assert all(body["raw_scores"] and body["truncate"] for body in server.seen)
    else:
        assert {body["model"] for body in server.seen} == {"m"}


FAULTS = ["stall", 500, 503, 429, "missing", "twice", "nan", "null", "html"]


def test_whatever_an_endpoint_does_wrong_is_asked_again() -> None:
    with serving(lambda count: FAULTS[count // 2 % len(FAULTS)] if count % 2 else None) as server:
        found = endpoint(server.url, attempts=12, concurrency=2).score_pairs(QUERIES * 4, DOCS * 4)
    np.testing.assert_array_equal(found, np.tile(EXPECTED, 4))
    assert len(server.seen) >= 18


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (500, "status 500"),
        ("missing", "scores for 1 of 2"),
        ("nan", "not a number"),
        ("html", "is not JSON"),
        ("null", "shape"),
    ],
)
def test_an_endpoint_that_stays_broken_is_a_transient_fault_that_says_what_was_wrong(fault: Any, said: str) -> None:
    with serving(lambda count: fault) as server, pytest.raises(TransientError, match=said):
        endpoint(server.url, attempts=3).score_pairs(["a", "a"], ["b", "c"])


@pytest.mark.parametrize(
    ("status", "said"), [(401, "does not accept the key in RERANK_API_KEY"), (422, "refuses .* 422")]
)
def test_what_no_further_try_can_mend_is_the_users_to_mend(status: int, said: str) -> None:
    with serving(lambda count: status) as server, pytest.raises(UserError, match=said):
        endpoint(server.url).score_pairs(["a"], ["b"])
    assert len(server.seen) == 1


def test_probabilities_are_turned_back_into_logits() -> None:
    with serving() as server:
        found = endpoint(server.url, probabilities=True).score_pairs(QUERIES[:3], DOCS[:3])
        np.testing.assert_allclose(1 / (1 + np.exp(-found)), EXPECTED[:3], rtol=1e-5)
        with pytest.raises(UserError, match="which is not a probability"):
            endpoint(server.url, probabilities=True).score_pairs(["a"], ["b" * 2_000])


def test_a_run_whose_endpoint_dies_goes_on_with_the_scores_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RerankEndpoint, "pairs_at_once", 64)
    student = tiny.student(tmp_path / "student")
    store, dead = LocalStore(tmp_path / "store"), {"from": 60}
    inputs = given.results(store, **world())
    with serving(lambda count: 500 if count >= dead["from"] else None) as server:
        served = {"url": server.url, "attempts": 2, "first_wait": 0.001}
        settings = {
            "student": {"model": str(student)}, "early_exit": False, "qualify_queries": 0,
            "teacher": {"kind": "endpoint", "force": True, "server": served},
        }  # fmt: skip
        with pytest.raises(TransientError, match="finished scores are kept, run again"):
            given.run(store, "score", inputs, **settings)
        paid = sum(len(body["texts"]) for body in server.seen[:59])
        dead["from"], asked = 10_000, len(server.seen)
        scored = given.run(store, "score", inputs, **settings)
        again = sum(len(body["texts"]) for body in server.seen[asked:])
    assert scored.outputs["teacher_scores"].rows == world()["queries"].num_rows
    assert again <= scored.cost["pairs"] - paid + 64
