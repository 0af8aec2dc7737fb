"""A `/rerank` endpoint as a teacher. What an endpoint does wrong loses nothing: an answer counts only if it has one
finite score for every document, a request is sent again with back-off, and what was scored before is kept."""

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

import numpy as np
import urllib3

from hone.backends.server_errors import lower_limit, reason, web_page
from hone.backends.teachers.settings import OneTeacher, RerankServer
from hone.errors import TransientError, UserError
from hone.retry import Backoff, retried
from hone.secrets import secret

LONGEST_WAIT = 8.0
_ABOUT_SIZE = re.compile("batch|documents|texts|passages|inputs|items|too many|maximum|at most", re.I)
PASSING = (408, 409, 425, 429)
"""Refusals that the next try may fix, as those from 500 on."""


class TooMany(Exception):
    """The server takes no more than `limit` documents in a request."""

    def __init__(self, limit: int) -> None:
        super().__init__(str(limit))
        self.limit = limit


class Malformed(Exception):
    """The server answered 200 with something that is not one finite score for every document."""


class WebPage(Malformed):
    """The server answered with a page for people, such as one to sign in."""


@dataclass(frozen=True)
class Shape:
    """One row: what a request holds, where in the answer the scores are and what a score is called."""

    body: Callable[[RerankServer, str, Sequence[str]], dict[str, Any]]
    results: Callable[[Any], Any]
    score: str


def _tei(server: RerankServer, query: str, docs: Sequence[str]) -> dict[str, Any]:
    return {"query": query, "texts": list(docs), "raw_scores": True, "truncate": True}


def _cohere(server: RerankServer, query: str, docs: Sequence[str]) -> dict[str, Any]:
    return {"model": server.model, "query": query, "documents": list(docs), "top_n": len(docs)}


def _jina(server: RerankServer, query: str, docs: Sequence[str]) -> dict[str, Any]:
    return {**_cohere(server, query, docs), "return_documents": False}


SHAPES = {
    "tei": Shape(_tei, lambda answer: answer, "score"),
    "cohere": Shape(_cohere, lambda answer: answer["results"], "relevance_score"),
    "jina": Shape(_jina, lambda answer: answer["results"], "relevance_score"),
}


class RerankEndpoint:
    """A served reranker. The server cuts long documents; requests of one query go out several at once."""

    pairwise = True
    pairs_at_once = 512
    documents_first = False

    def __init__(self, settings: OneTeacher) -> None:
        self.server = settings.server
        if not self.server.url:
            raise UserError("teacher.server.url is empty: give the address of the rerank endpoint")
        self.shape = SHAPES[self.server.shape]
        self.docs_per_request = self.server.docs_per_request
        self.pool = urllib3.PoolManager(maxsize=self.server.concurrency, retries=False, timeout=self.server.timeout)

    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 scores of n pairs, in the order given.

        Raises UserError if the server refuses, TransientError if it kept failing.
        """
        scores = np.zeros(len(queries), dtype=np.float32)
        requests = list(self._requests(queries))
        with ThreadPoolExecutor(self.server.concurrency) as workers:
            asked = [(str(queries[rows[0]]), [str(docs[row]) for row in rows]) for rows in requests]
            answers = workers.map(lambda pair: self._ask(*pair), asked)
            for rows, values in zip(requests, answers, strict=True):
                scores[rows] = values
        return scores

    def _requests(self, queries: Sequence[str]) -> list[list[int]]:
        """The rows of each request: of one query, and no more than the server takes."""
        order = sorted(range(len(queries)), key=lambda row: (queries[row], row))
        size = self.docs_per_request
        groups = (list(rows) for _, rows in groupby(order, key=lambda row: queries[row]))
        return [rows[start : start + size] for rows in groups for start in range(0, len(rows), size)]

    def _ask(self, query: str, docs: Sequence[str]) -> list[float]:
        backoff = Backoff(self.server.attempts, self.server.first_wait, LONGEST_WAIT, jitter=False)

        def scores() -> list[float]:
            return self._scores(self._post(self.shape.body(self.server, query, docs), len(docs)), len(docs))

        try:
            return retried(scores, backoff, urllib3.exceptions.HTTPError, Malformed, lasting=self._lasting)
        except TooMany as most:
            self.docs_per_request = most.limit
            parts = (docs[at : at + most.limit] for at in range(0, len(docs), most.limit))
            return [score for part in parts for score in self._ask(query, part)]

    def _lasting(self, error: Exception, _: int) -> Exception:
        """What a fault that outlasted all tries means for the user."""
        where, problem = f"the reranker at {self.server.url}", str(error) or type(error).__name__
        if isinstance(error, WebPage):
            return UserError(f"{where} answers with {problem} and not as an API; correct teacher.server.url")
        return TransientError(f"{where} kept failing ({problem}); finished scores are kept, run again")

    def _post(self, body: dict[str, Any], count: int) -> Any:
        key = secret(os.environ.get(self.server.key_variable, ""))
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        answer = self.pool.request("POST", self.server.url, body=json.dumps(body).encode(), headers=headers)
        where, said = f"the reranker at {self.server.url}", reason(answer.data)
        if answer.status in (401, 403):
            why = f" ({said})" if said else ""
            raise UserError(f"{where} does not accept the key in {self.server.key_variable}{why}")
        if answer.status in PASSING or answer.status >= 500:
            raise Malformed(f"status {answer.status}{f': {said}' if said else ''}")
        if page := web_page(answer.data.decode("utf-8", "replace")):
            raise WebPage(page)
        if answer.status != 200:
            self._refused(answer.status, said, count)
        try:
            content: Any = json.loads(answer.data)
        except ValueError as error:
            raise Malformed("an answer that is not JSON") from error
        if (
            isinstance(content, dict)
            and not content.get("results")
            and ("error" in content or content.get("object") == "error")
        ):
            self._refused(content.get("code") or content.get("status") or 200, said, count)
        return content

    def _refused(self, status: Any, said: str, count: int) -> NoReturn:
        """Raises TooMany where the server wants fewer documents, Malformed for what may pass, else UserError."""
        limit = lower_limit(said, count) if _ABOUT_SIZE.search(said) else 0
        if count > 1 and (limit or status == 413):
            raise TooMany(limit or -(-count // 2))
        if status == 200 or (str(status).isdecimal() and (int(status) >= 500 or int(status) in PASSING)):
            raise Malformed(f"an error inside: {said}")
        raise UserError(
            f"the reranker at {self.server.url} refuses the requests: {status} {said}; correct teacher.server"
        )

    def _scores(self, answer: Any, count: int) -> list[float]:
        """The scores in the order of the documents. Raises Malformed unless each has exactly one finite score."""
        try:
            pairs = [(int(row["index"]), float(row[self.shape.score])) for row in self.shape.results(answer)]
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed("an answer of another shape") from error
        if sorted(at for at, _ in pairs) != list(range(count)):
            raise Malformed(f"scores for {len(pairs)} of {count} documents")
        values = [score for _, score in sorted(pairs)]
        if not all(map(math.isfinite, values)):
            raise Malformed("a score that is not a number")
        return [_logit(value) for value in values] if self.server.probabilities else values


def _logit(probability: float) -> float:
    """What a sigmoid turned into this probability. Raises UserError for what is none."""
    if not 0 <= probability <= 1:
        raise UserError(
            f"the reranker gave {probability}, which is not a probability; set teacher.server.probabilities: false"
        )
    inside = min(max(probability, 1e-7), 1 - 1e-7)
    return math.log(inside / (1 - inside))
