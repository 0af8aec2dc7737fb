"""Any OpenAI-compatible server through the official client: a bounded number of requests at once, each sent again
after faults that pass."""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar, cast

import openai

from hone.backends import generators
from hone.backends.generators.answers import Answer, Interrupted, Request, is_complete
from hone.backends.generators.settings import Endpoint, Sampling
from hone.backends.generators.token_counts import BYTES_PER_TOKEN
from hone.errors import TransientError, UserError
from hone.secrets import secret

LARGEST_SEED = 2**31 - 1
PASSING = (408, 409, 429)
"""Refusals that the next try may mend; of the others below 500 none does."""
LONGEST_WAIT = 8.0


class Malformed(Exception):
    """The server answered 200 with something that is no completion."""


class OpenAIServer:
    """A served language model; the server applies its own chat template."""

    local: ClassVar[bool] = False
    gpus: ClassVar[int] = 0

    def __init__(self, tokenizer: Path | None, settings: Sampling) -> None:
        """`tokenizer`: the folder by which documents are cut. Raises UserError on a key file that cannot be read."""
        self.settings, self.endpoint = settings, settings.endpoint
        self.cut = by_tokens(tokenizer) if tokenizer else by_bytes
        self.client = openai.OpenAI(
            base_url=self.endpoint.url,
            api_key=api_key(self.endpoint),
            timeout=self.endpoint.timeout,
            max_retries=self.endpoint.attempts - 1,
        )

    def prompt(self, request: Request) -> str:
        """The user's turn, with the document cut to `max_doc_tokens`."""
        return request.prompt(self.cut(request.doc, self.settings.max_doc_tokens))

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """One answer per prompt, in the order given.

        Raises Interrupted with what is finished: for a UserError if the server refuses, else for a TransientError.
        """
        pool = ThreadPoolExecutor(self.endpoint.concurrency)
        try:
            futures = [pool.submit(self._ask, *pair) for pair in zip(prompts, seeds, strict=True)]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
        failure = next((error for error in map(_failure, futures) if error), None)
        if failure:
            finished = {at: future.result() for at, future in enumerate(futures) if _succeeded(future)}
            raise Interrupted(finished, self._for_the_user(failure)) from failure
        return [future.result() for future in futures]

    def _ask(self, prompt: str, seed: int) -> Answer:
        """The client itself waits and sends again after 408, 409, 429, 5xx, time-outs and broken connections, for as
        long as the server's Retry-After says."""
        for attempt in range(self.endpoint.attempts):
            try:
                return answer_of(self._complete(prompt, seed))
            except (Malformed, json.JSONDecodeError, UnicodeDecodeError):
                time.sleep(min(LONGEST_WAIT, 0.5 * 2**attempt))
        raise Malformed(f"{self.endpoint.attempts} answers in a row were no completion")

    def _complete(self, prompt: str, seed: int) -> Any:
        return self.client.chat.completions.create(
            model=self.endpoint.model,
            messages=[{"role": "user", "content": prompt}],
            seed=seed & LARGEST_SEED,
            temperature=self.settings.temperature,
            extra_body={self.endpoint.length_field: self.settings.max_new_tokens, **self.endpoint.extra_body},
        )

    def _for_the_user(self, error: BaseException) -> UserError | TransientError:
        where = f"the server at {self.endpoint.url}"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            key = self.endpoint.key_file or f"the environment variable {self.endpoint.key_variable}"
            return UserError(f"{where} does not accept the key; put the right one into {key}")
        if isinstance(error, openai.APIStatusError) and error.status_code < 500 and error.status_code not in PASSING:
            return UserError(f"{where} refuses the requests: {_said(error)}; correct generate.llm")
        if isinstance(error, openai.OpenAIError | Malformed):
            return TransientError(f"{where} kept failing ({error}); finished answers are kept, run again")
        raise error


def by_tokens(folder: Path) -> Callable[[str, int], str]:
    """Cuts documents to a number of tokens, as the tokenizer in `folder` counts them."""
    tokenizer = generators.open_tokenizer(folder)
    return lambda doc, limit: doc[: max(generators.token_ends(tokenizer, doc, limit), default=0)]


def by_bytes(doc: str, limit: int) -> str:
    """The document cut to about `limit` tokens, without a tokenizer."""
    return doc.encode()[: limit * BYTES_PER_TOKEN].decode(errors="ignore")


def api_key(endpoint: Endpoint) -> str:
    """From the mounted file, or the environment; servers without keys take anything. Raises UserError."""
    if not endpoint.key_file:
        return secret(os.environ.get(endpoint.key_variable, "")) or "none"
    try:
        return secret(Path(endpoint.key_file).read_text("utf-8").strip())
    except OSError as error:
        raise UserError(f"generate.llm.endpoint.key_file {endpoint.key_file}: {error.strerror}; mount it") from error


def answer_of(completion: Any) -> Answer:
    """The first choice of a completion. Raises Malformed if it has none."""
    choices: Any = getattr(completion, "choices", None)
    message: Any = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if not hasattr(message, "content"):
        raise Malformed("no choices")
    usage = getattr(completion, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    text = message.content or getattr(message, "refusal", None) or ""
    return Answer(
        text=text,
        cut=choices[0].finish_reason == "length" and not is_complete(text),
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        cached_tokens=getattr(details, "cached_tokens", None),
        new_tokens=getattr(usage, "completion_tokens", None),
    )


def _failure(future: "Future[Answer]") -> BaseException | None:
    return future.exception() if future.done() and not future.cancelled() else None


def _succeeded(future: "Future[Answer]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _said(error: BaseException) -> str:
    body = getattr(error, "body", None)
    message = cast(dict[str, Any], body).get("message") if isinstance(body, dict) else None
    return str(message or error).splitlines()[0][:200]
