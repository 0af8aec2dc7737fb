"""What a language model is asked and what it answers, whichever backend it runs in."""

import re
from collections.abc import Iterator, Sequence, Set
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
    prompt that the server had computed before. A count that the server does not report is None. `seconds` and
    `gpu_seconds` are the answer's share of its batch's."""

    text: str
    cut: bool
    prompt_tokens: int | None
    cached_tokens: int | None
    new_tokens: int | None
    seconds: float = 0.0
    gpu_seconds: float = 0.0


class Generator(Protocol):
    """A language model, wherever it runs."""

    @property
    def gpus(self) -> int:
        """GPUs that are busy while it generates."""
        ...

    @property
    def resolved(self) -> dict[str, str]:
        """Settings as they come to on this machine, where they leave that open."""
        ...

    def prompt(self, request: Request) -> str:
        """The text that the model is asked with."""
        ...

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], wanted: Set[int] | None = None
    ) -> Iterator[dict[int, Answer]]:
        """Answers by the positions of their prompts, in parts as they come; `seeds` are non-negative integers.

        Only the `wanted` positions are asked for, or all; others may come along where they cost nothing more. A part
        may be empty: it says that time has passed. When the backend has to stop, everything that is finished is given
        first: then a UserError or a TransientError.
        """
        ...


_REASONING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def without_reasoning(answer: str) -> str:
    """An answer without its `<think>` blocks, closed or cut off, and without leading space."""
    return _REASONING.sub("", answer).lstrip()


def is_complete(answer: str) -> bool:
    """Whether a growing answer already has its one line."""
    return "\n" in without_reasoning(answer)
