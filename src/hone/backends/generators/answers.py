"""What a language model is asked and what it answers, whichever backend it runs in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

TYPE = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("cut", pa.bool_()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("cached_tokens", pa.int32()),
        pa.field("new_tokens", pa.int32()),
        pa.field("seconds", pa.float32()),
        pa.field("gpu_seconds", pa.float32()),
    ]
)
"""How an answer is kept."""
TOKENS = ("prompt_tokens", "cached_tokens", "new_tokens")


class Request(Protocol):
    """One question about `doc`."""

    @property
    def doc(self) -> str: ...

    def prompt(self, doc: str) -> str:
        """The user's turn of the chat; `doc` is the document as far as it fits."""
        ...


@dataclass(frozen=True)
class Answer:
    """A sampled text, and what it cost. `cut`: it ended at the limit of new tokens. `cached_tokens` are those of the
    prompt that the server had computed before. A count that the server does not tell is None. `seconds` and
    `gpu_seconds` are the answer's share of its batch's."""

    text: str
    cut: bool
    prompt_tokens: int | None
    cached_tokens: int | None
    new_tokens: int | None
    seconds: float = 0.0
    gpu_seconds: float = 0.0


class Interrupted(Exception):
    """A backend had to stop amid a batch: the answers it has by position, and what to tell the user."""

    def __init__(self, answers: Mapping[int, Answer], cause: Exception) -> None:
        super().__init__(str(cause))
        self.answers, self.cause = answers, cause


_REASONING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def without_reasoning(answer: str) -> str:
    """An answer without its `<think>` blocks, closed or cut off, and without leading space."""
    return _REASONING.sub("", answer).lstrip()


def is_complete(answer: str) -> bool:
    """Whether a growing answer already has its one line."""
    return "\n" in without_reasoning(answer)
