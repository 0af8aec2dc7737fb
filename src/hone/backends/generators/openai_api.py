"""Any OpenAI-compatible server through the official client: a bounded number of requests at once, each sent again
after faults that pass."""

import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import openai

from hone.backends import generators
from hone.backends.generators.answers import Answer, Request, is_complete
from hone.backends.generators.settings import Endpoint, Sampling
from hone.backends.generators.token_counts import BYTES_PER_TOKEN
from hone.backends.server_errors import reason, web_page
from hone.errors import TransientError, UserError
from hone.log import log
from hone.retry import Backoff, retried
from hone.secrets import secret

LARGEST_SEED = 2**31 - 1
PASSING = (408, 409, 429)
"""Refusals that the next try may fix; of the others below 500 none does."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
HEARTBEAT = 1.0
"""Seconds without an answer after which an empty part says that time has passed."""
UNDER_WAY = 30.0
"""Seconds that a request may take before fewer are sent at once: whatever is under way is lost with a kill."""


class Malformed(Exception):
    """The server answered 200 with something that is not a completion."""


class Refused(Exception):
    """The server answered 200 with an error that the next try does not fix."""


class WebPage(Exception):
    """The server answered with a page for people, such as one to sign in."""


_UNKNOWN = re.compile(
    "support|unknown|unrecogni[sz]ed|unexpected|extra|additional|permitted|allowed|only the default|no such|"
    "invalid (?:field|param|arg)",
    re.I,
)
"""How servers say that they do not know a field."""
OTHER_LENGTH = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""The other name of the limit of new tokens: which one a server takes depends on its age."""


class OpenAIServer:
    """A served language model; the server applies its own chat template."""

    local: ClassVar[bool] = False
    gpus: ClassVar[int] = 0
    resolved: ClassVar[dict[str, str]] = {}

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
        self.at_once = self.endpoint.concurrency
        self.length_field = self.endpoint.length_field
        self.left_out: set[str] = set()
        """Fields that the server refuses and that an answer can do without."""

    def prompt(self, request: Request) -> str:
        """The user's turn, with the document cut to `max_doc_tokens`."""
        return request.prompt(self.cut(request.doc, self.settings.max_doc_tokens))

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], wanted: Set[int] | None = None
    ) -> Iterator[dict[int, Answer]]:
        """Answers by position, as the server gives them. A request is sent only when an answer has been taken: what was
        asked for and not yet taken is at most `concurrency` answers, and fewer of a server that is slow with so many.

        After a failure no further request is sent, and what is under way is waited for and given. Then raises UserError
        if the server refuses, else TransientError.
        """
        places = deque(range(len(prompts)) if wanted is None else sorted(wanted))
        under_way: dict[Future[Answer], tuple[int, int]] = {}  # its position, and how many were under way with it
        pool = ThreadPoolExecutor(self.endpoint.concurrency)
        try:
            while places or under_way:
                while places and len(under_way) < self.at_once:
                    at = places.popleft()
                    under_way[pool.submit(self._ask, prompts[at], seeds[at])] = at, len(under_way) + 1
                done, _ = wait(under_way, HEARTBEAT, FIRST_COMPLETED)
                failure = next(filter(None, (future.exception() for future in done)), None)
                if failure:
                    break
                part: dict[int, Answer] = {}
                for future in done:
                    at, beside = under_way.pop(future)
                    part[at] = future.result()
                    self.at_once = sent_at_once(self.at_once, self.endpoint.concurrency, beside, part[at].seconds)
                yield part
            else:
                return
        finally:
            pool.shutdown()
        yield {at: future.result() for future, (at, _) in under_way.items() if future.exception() is None}
        raise self._for_the_user(failure) from failure

    def _ask(self, prompt: str, seed: int) -> Answer:
        """The client itself waits and sends again after 408, 409, 429, 5xx, time-outs and broken connections, for as
        long as the server's Retry-After says."""
        backoff = Backoff(self.endpoint.attempts, FIRST_WAIT, LONGEST_WAIT, jitter=False)

        def lasting(error: Exception, attempts: int) -> Malformed:
            problem = str(error) if isinstance(error, Malformed) else "no JSON"
            return Malformed(f"{attempts} answers in a row were not completions: {problem}")

        kinds = (Malformed, json.JSONDecodeError, UnicodeDecodeError)
        return retried(lambda: self._timed(prompt, seed), backoff, *kinds, lasting=lasting)

    def _timed(self, prompt: str, seed: int) -> Answer:
        started = time.monotonic()
        return replace(answer_of(self._complete(prompt, seed)), seconds=time.monotonic() - started)

    def _complete(self, prompt: str, seed: int) -> Any:
        """A completion. A field that the server refuses by name, and that an answer can do without, is left out from
        then on."""
        while True:
            fields = {"seed": seed & LARGEST_SEED, "temperature": self.settings.temperature}
            sent = {name: value for name, value in fields.items() if name not in self.left_out}
            length = self.length_field
            try:
                return self.client.chat.completions.create(
                    model=self.endpoint.model,
                    messages=[{"role": "user", "content": prompt}],
                    extra_body={length: self.settings.max_new_tokens, **self.endpoint.extra_body},
                    **cast(Any, sent),
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._does_without(_said(error), sent, length):
                    raise

    def _does_without(self, said: str, sent: Mapping[str, Any], length: str) -> bool:
        """Whether a refusal names a field that was sent and need not be; notes it, and says so once."""
        unknown = _UNKNOWN.search(said) is not None
        for name in sent:
            if re.search(rf"\b{name}\b", said, re.I) and (unknown or name == "seed"):
                if name not in self.left_out:
                    self.left_out.add(name)
                    log.warning("the server refuses a field, it is left out", field=name, said=said)
                return True
        other = OTHER_LENGTH.get(length, "")
        if unknown and other not in ("", *self.left_out) and re.search(rf"\b{length}\b", said):
            if self.length_field == length:
                self.length_field = other
                self.left_out.add(length)
                log.warning("the server refuses a field, its other name is sent", field=length, sent=other, said=said)
            return True
        return False

    def _for_the_user(self, error: BaseException) -> UserError | TransientError:
        where = f"the server at {self.endpoint.url}"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            key = self.endpoint.key_file or f"the environment variable {self.endpoint.key_variable}"
            return UserError(f"{where} does not accept the key ({_said(error)}); put the right one into {key}")
        if isinstance(error, WebPage):
            return UserError(
                f"{where} answers with {error} and not as an API; correct generate.llm.endpoint.url, which ends in /v1 "
                "for most servers, and see that nobody has to sign in on the way"
            )
        if isinstance(error, Refused):
            return UserError(f"{where} refuses the requests: {error}; correct generate.llm")
        if isinstance(error, openai.APIStatusError) and error.status_code < 500 and error.status_code not in PASSING:
            return UserError(f"{where} refuses the requests: {_said(error)}; correct generate.llm")
        if isinstance(error, openai.OpenAIError | Malformed):
            return TransientError(f"{where} kept failing ({error}); finished answers are kept, run again")
        raise error


def sent_at_once(now: int, most: int, beside: int, seconds: float) -> int:
    """How many requests to send at once, after one of `beside` took so many seconds: as many as are likely to take
    UNDER_WAY each, one more than now as long as they take less than half of it."""
    if seconds > UNDER_WAY:
        return max(1, min(now, int(beside * UNDER_WAY / seconds)))
    return min(most, now + 1) if seconds < UNDER_WAY / 2 else now


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
    """The first choice of a completion. Raises Malformed, Refused or WebPage if it has none."""
    if isinstance(completion, str) and web_page(completion):
        raise WebPage(web_page(completion))
    choices: Any = getattr(completion, "choices", None)
    if not choices:
        _raise_error_inside(completion)
    message: Any = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if not hasattr(message, "content"):
        raise Malformed("no choices")
    usage = getattr(completion, "usage", None)
    details = getattr(usage, "prompt_tokens_details", None)
    text = text_of(message.content) or getattr(message, "refusal", None) or ""
    return Answer(
        text=text,
        cut=choices[0].finish_reason == "length" and not is_complete(text),
        prompt_tokens=getattr(usage, "prompt_tokens", None),
        cached_tokens=getattr(details, "cached_tokens", None),
        new_tokens=getattr(usage, "completion_tokens", None),
    )


def text_of(content: Any) -> str:
    """The text of an answer, which some servers send in parts; what the model thought is none of it."""
    if isinstance(content, str) or content is None:
        return content or ""
    parts = cast(list[Any], content) if isinstance(content, list) else [content]
    return "".join(part if isinstance(part, str) else _text_of_part(part) for part in parts)


def _text_of_part(part: Any) -> str:
    fields = cast(dict[str, Any], part) if isinstance(part, dict) else {}
    if fields.get("type", "text") not in ("text", "output_text") or fields.get("thought"):
        return ""
    text: Any = fields.get("text", fields.get("content"))
    return str(cast(dict[str, Any], text).get("value") or "") if isinstance(text, dict) else str(text or "")


def _raise_error_inside(completion: Any) -> None:
    """An error that came with status 200, as gateways send them."""
    inside: dict[str, Any] = getattr(completion, "model_extra", None) or {}
    error: Any = (
        inside.get("error")
        or inside.get("detail")
        or (inside if getattr(completion, "object", "") == "error" else None)
    )
    if not error:
        return
    fields = cast(dict[str, Any], error) if isinstance(error, dict) else inside
    codes = [fields.get(name) for name in ("code", "status", "status_code", "http_status")]
    status = next((int(code) for code in map(str, codes) if code.isdecimal()), 0)
    said = reason(error) or "an error without a reason"
    if 400 <= status < 500 and status not in PASSING:
        raise Refused(said)
    raise Malformed(f"an error inside: {said}")


def _said(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return reason(getattr(error, "body", None)) or reason(getattr(response, "text", "")) or reason(str(error))
