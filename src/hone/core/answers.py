"""What a language model answered, whichever backend it ran in."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

TYPE = pa.struct(
    [
        pa.field("text", pa.string()),
        pa.field("cut", pa.bool_()),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("cached_tokens", pa.int32()),
        pa.field("new_tokens", pa.int32()),
    ]
)
"""How an answer is kept."""


@dataclass(frozen=True)
class Answer:
    """A sampled text, and what it cost. `cut`: it ended at the limit of new tokens. `cached_tokens` are those of the
    prompt that the server had computed before, as far as it tells."""

    text: str
    cut: bool
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int


class Interrupted(Exception):
    """A backend had to stop amid a batch: the answers it has by position, and what to tell the user."""

    def __init__(self, answers: Mapping[int, Answer], cause: Exception) -> None:
        super().__init__(str(cause))
        self.answers, self.cause = answers, cause
