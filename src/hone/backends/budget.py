"""Batches that fit: rows sorted by length, and fewer tokens at once as soon as memory runs out.

This is the one place that knows what running out of memory looks like.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from hone.errors import UserError
from hone.log import log

T = TypeVar("T")
CACHED = 1_024
"""Tokens at once on CPU: what a layer makes of more leaves the cache (docs/benchmarks/scoring.md),"""
WIDE = 384
"""where it makes this many numbers of each, or more; of narrower layers more tokens fit."""
SOON = 2e12
"""Floating-point operations that one core needs half a minute to a minute for."""
FEWEST = 16
Cut = Callable[[Sequence[int], int], Iterator[list[int]]]
"""Lengths of rows and a budget of tokens to batches of row numbers."""
SAID = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What a RuntimeError says that is a lack of memory: torch raises one on CPU, and where a library fails to start."""


def tokens_at_once(tokens: int, device: torch.device, width: int = WIDE) -> int:
    """How many of the `tokens` that memory has room for are best worked on at once, by layers of this width."""
    return min(tokens, CACHED * WIDE // min(width, WIDE)) if device.type == "cpu" else tokens


def kept_together(model: Any, tokens: int, most: int) -> int:
    """After how many texts of up to `tokens` what a transformers model made of them is kept: what a killed run pays for
    again, and when progress is told.

    A GPU is through with `most` in no time. For a processor it is a power of two, `FEWEST` at least, that takes about a
    minute at most; model and limit alone say it, so that a resumed run has the same texts at once as one never cut off.
    """
    if model.device.type != "cpu":
        return most
    operations = 2 * model.num_parameters(exclude_embeddings=True) * tokens
    return min(most, max(FEWEST, 1 << int(math.log2(max(1.0, SOON / operations)))))


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Row numbers in batches, longest rows first, each with rows x longest row <= budget (or one row).

    Sorting by length leaves next to no padding; starting with the longest makes a lack of memory show at once.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


class Budget:
    """How many tokens, padding included, are worked on at once: as set, halved whenever they do not fit.

    What was learned holds for as long as the object lives, so that a model pays for it once.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def fitting(self, work: Callable[[int], T], least: int = 1) -> T:
        """What `work(tokens)` gives, tried again with half as many tokens as often as memory runs out.

        A try that failed has to leave nothing behind that the next one does not overwrite. Raises UserError if `least`
        tokens do not fit either.
        """
        while True:
            try:
                return work(self.tokens)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.tokens <= least:
                    raise UserError(
                        f"{self.tokens} tokens at once do not fit into memory; lower the limit of tokens a text, or "
                        "take a smaller model or a machine with more memory"
                    ) from error
            # Here the error is gone, and with it the tensors that its traceback held.
            self._halve()

    def each(self, lengths: Sequence[int], work: Callable[[list[int]], None], cut: Cut = token_batches) -> None:
        """`work(rows)` for batches that hold every row once; rows of a batch that did not fit are batched anew."""
        left = list(range(len(lengths)))

        def through(tokens: int) -> None:
            nonlocal left
            batches = [[left[at] for at in batch] for batch in cut([lengths[row] for row in left], tokens)]
            done = set[int]()
            try:
                for batch in batches:
                    work(batch)
                    done.update(batch)
            finally:
                left = [row for row in left if row not in done]

        self.fitting(through, least=min(lengths, default=1))

    def _halve(self) -> None:
        self.tokens = max(1, self.tokens // 2)
        log.warning("out of memory", tokens_at_once=self.tokens)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory, on a GPU or on CPU."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in SAID))
