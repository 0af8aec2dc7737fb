"""A served model: texts to the vectors that its endpoint, OpenAI's `/v1/embeddings` or TEI's `/embed`, answers with."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import urllib3

from hone.backends.server_errors import lower_limit, reason, web_page
from hone.errors import TransientError, UserError
from hone.retry import Backoff, retried
from hone.secrets import address_alone, secret

Prompts = Literal["client", "server", "name"]
"""Who puts the model's prompt before a text: whoever asks, the server by itself, or the server by TEI's prompt_name."""
TEXTS_PER_REQUEST = 32
CONCURRENCY = 4
SECONDS = 60.0
BACKOFF = Backoff(attempts=4, first=0.5, longest=4.0)
_TOO_LONG = re.compile(r"context length|maximum .*length|tokens", re.I)
PASSING = (408, 409, 425, 429)
"""Refusals that the next try may fix, as those from 500 on."""


class _Passing(Exception):
    """A fault that the next try may fix."""


class _NotThere(Exception):
    """The server knows no such path."""


class _TooMany(Exception):
    """The server takes no more than `limit` texts in a request."""

    def __init__(self, limit: int) -> None:
        super().__init__(str(limit))
        self.limit = limit


@dataclass(frozen=True)
class Shape:
    """One row: where a server of this kind answers, and the vectors in its answer, in the order of the texts."""

    path: str
    rows: Callable[[Any], list[Any]]


def _openai_rows(answer: Any) -> list[Any]:
    return [row["embedding"] for row in sorted(answer["data"], key=lambda row: row["index"])]


SHAPES = {"openai": Shape("/v1/embeddings", _openai_rows), "tei": Shape("/embed", list)}


class Endpoint:
    """One served model."""

    def __init__(self, url: str, *, model: str, key_variable: str, prompts: Prompts) -> None:
        """`url`: the whole address, or the server's, where both paths are tried. `model`: the name under which an
        OpenAI server offers it; empty for the first that it lists."""
        self.key_variable, self.model = key_variable, model
        self.prompts: Prompts = prompts
        self.pool = urllib3.PoolManager(maxsize=CONCURRENCY, retries=False, timeout=SECONDS)
        self.per_request = TEXTS_PER_REQUEST
        self.cut: dict[str, Any] = {}
        self.url = url
        self.shape, self.url = self._found(url.rstrip("/"))
        if prompts == "name" and self.shape != "tei":
            raise UserError(f"{self.shown} takes no prompt_name, as TEI does; give --prompts client or server")

    @property
    def shown(self) -> str:
        return f"the endpoint {address_alone(self.url)}"

    def vectors(self, texts: Sequence[str], role: str) -> np.ndarray:
        """[n, d] float32, as served. Raises UserError if the server refuses, TransientError if it kept failing."""
        size = self.per_request
        parts = [texts[at : at + size] for at in range(0, len(texts), size)]
        with ThreadPoolExecutor(CONCURRENCY) as workers:
            try:
                vectors = list(workers.map(lambda part: self._ask(part, role), parts))
            except _NotThere:
                raise UserError(f"{self.shown} answers 404; give the whole address and the right --model") from None
        if len({part.shape[1] for part in vectors}) > 1:
            raise UserError(f"{self.shown} answers with vectors of several lengths; it must serve one model")
        return np.concatenate(vectors)

    def _found(self, url: str) -> tuple[str, str]:
        """The kind of server and its whole address."""
        for shape, row in SHAPES.items():
            if url.endswith(row.path.removeprefix("/v1")):
                self._name_model(shape, url.removesuffix(row.path.removeprefix("/v1")))
                return shape, url
        bases = {"openai": url if url.endswith("/v1") else f"{url}/v1", "tei": url}
        for shape, base in bases.items():
            self.url, self.shape = base + SHAPES[shape].path.removeprefix("/v1"), shape
            try:
                self._name_model(shape, base)
                self._ask(["a"], "")
            except _NotThere:
                continue
            return shape, self.url
        raise UserError(f"{address_alone(url)} has neither /v1/embeddings nor /embed; give its whole address")

    def _name_model(self, shape: str, base: str) -> None:
        """An OpenAI server wants the name of its model."""
        if shape != "openai" or self.model:
            return
        try:
            listed = self._sent("GET", f"{base}/models", None)
            self.model = str(listed["data"][0]["id"])
        except (_NotThere, KeyError, IndexError, TypeError):
            self.model = "default"

    def _ask(self, texts: Sequence[str], role: str) -> np.ndarray:
        """The vectors of one request's texts, which are sent in parts if the server takes fewer."""
        try:
            answer = self._sent("POST", self.url, self._body(texts, role), len(texts))
        except _TooMany as most:
            self.per_request = most.limit
            parts = (texts[at : at + most.limit] for at in range(0, len(texts), most.limit))
            return np.concatenate([self._ask(part, role) for part in parts])
        try:
            vectors = np.array(SHAPES[self.shape].rows(answer), dtype=np.float32)
        except (KeyError, TypeError, ValueError):
            vectors = np.zeros(0)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise UserError(f"{self.shown} does not answer with one vector for each text; correct the address")
        if not np.isfinite(vectors).all():
            raise UserError(f"{self.shown} answers with numbers that are not finite; look into the server's log")
        return vectors

    def _body(self, texts: Sequence[str], role: str) -> dict[str, Any]:
        if self.shape == "openai":
            return {"model": self.model, "input": list(texts), "encoding_format": "float", **self.cut}
        named = {"prompt_name": role} if self.prompts == "name" and role else {}
        return {"inputs": list(texts), "truncate": True, **named}

    def _sent(self, method: str, url: str, body: Mapping[str, Any] | None, count: int = 1) -> Any:
        """The answer; a fault that passes is tried again."""

        def once() -> Any:
            return self._once(method, url, body, count)

        def lasting(error: Exception, _: int) -> TransientError:
            return TransientError(f"{self.shown} kept failing ({error}); start it and run again")

        return retried(once, BACKOFF, _Passing, urllib3.exceptions.HTTPError, lasting=lasting)

    def _once(self, method: str, url: str, body: Mapping[str, Any] | None, count: int) -> Any:
        key = secret(os.environ.get(self.key_variable, ""))
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = json.dumps(body).encode() if body is not None else None
        answer = self.pool.request(method, url, body=data, headers=headers)
        said = reason(answer.data)
        if answer.status in PASSING or answer.status >= 500:
            raise _Passing(f"status {answer.status}{f': {said}' if said else ''}")
        if answer.status in (404, 405):
            raise _NotThere
        if page := web_page(answer.data.decode("utf-8", "replace")):
            raise UserError(f"{self.shown} answers with {page} and not as an API; correct the address")
        if answer.status != 200:
            return self._refused(answer.status, said, url, body, count)
        try:
            return json.loads(answer.data)
        except ValueError:
            raise UserError(f"{self.shown} answers with something that is not JSON; correct the address") from None

    def _refused(self, status: int, said: str, url: str, body: Mapping[str, Any] | None, count: int) -> Any:
        """The answer to the same texts, cut by the server. Raises _TooMany where it wants fewer, else UserError."""
        if status in (401, 403):
            raise UserError(f"{self.shown} does not accept the key in {self.key_variable} ({said}); set the variable")
        if body and self.shape == "openai" and "truncate_prompt_tokens" not in body and _TOO_LONG.search(said):
            # vLLM refuses what is longer than its model takes unless it is asked to cut.
            self.cut = {"truncate_prompt_tokens": -1}
            return self._once("POST", url, {**body, **self.cut}, count)
        limit = lower_limit(said, count)
        if count > 1 and (limit or status == 413):
            raise _TooMany(limit or -(-count // 2))
        raise UserError(f"{self.shown} refuses the texts: {status} {said}; correct the address, --model or the server")
