"""What a run will cost, from counts of a sample: pure arithmetic, each figure with where it comes from.

A forward pass takes 2 floating-point operations per weight and token, a step with gradient caching 8: a forward pass
without a graph, one with it, and a backward pass of twice its cost (arXiv 2101.06983). Embedding matrices are looked up
and do not count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hone.spent import COMPARISONS, Spent

FORWARD = 2
TRAINING = 8
BLOCK = 16
"""Tokens to a block of a server's prefix cache (vLLM's default)."""
BYTES_PER_ENTRY = 6.6
"""A listed document with its score, compressed: a million lists of 20 took 132 MB."""
STARTING = 4.0
"""Seconds until a stage's models are loaded."""
SHRUNK = 3.0
"""By how much text is compressed in a table: zstd, English."""
BYTES_PER_QUERY = 120
BYTES_PER_ANSWER = 160


@dataclass(frozen=True)
class Device:
    """What computes: operations per second, the share of them that a forward pass and that decoding reaches, and
    where the figures come from."""

    name: str
    flops: float
    forward: float
    decode: float
    source: str

    @property
    def assumed(self) -> str:
        """What estimates for it rest on."""
        return (
            f"estimates for {self.name}: {self.flops / 1e12:,.3g} TFLOPS, of which a forward pass is taken to reach "
            f"{100 * self.forward:.3g}% and decoding {100 * self.decode:.3g}%; {self.source}"
        )


SHEET = (
    "dense bf16 of NVIDIA's data sheet; a forward pass as Llama 3's training on H100s (38 to 43%, arXiv 2407.21783); "
)
DEVICES = {
    "cpu": Device("CPU core", 70e9, 0.75, 0.1, "fp32 measured on one AVX-512 core of an AMD EPYC; decoding assumed"),
    "l4": Device(
        "L4", 121e12, 0.4, 0.08, SHEET + "decoding assumed, that of an L40S by memory bandwidth (300 of 864 GB/s)"
    ),
    "l40s": Device(
        "L40S", 362e12, 0.4, 0.075, SHEET + "0.53 of the new tokens of an A100 (TensorRT-LLM in fp16, arXiv 2405.04532)"
    ),
    "a100": Device(
        "A100", 312e12, 0.4, 0.16, SHEET + "vLLM: 3,363 tokens/s of 7.6e9 weights (morphllm.com/vllm-benchmarks)"
    ),
    "h100": Device(
        "H100", 989e12, 0.4, 0.2, SHEET + "vLLM: 12,500 tokens/s of 8e9 weights (morphllm.com/vllm-benchmarks)"
    ),
    "h200": Device(
        "H200", 989e12, 0.4, 0.24, SHEET + "1.18 of the new tokens of an H100 (TensorRT-LLM's own table, Llama 3.1 8B)"
    ),
}
"""Published rates of decoding include what prefilling took, so they are low rather than high."""


@dataclass(frozen=True)
class Work:
    """What one stage has to do: amounts by name, floating-point operations of forward passes and of decoding, and the
    bytes that it leaves in the store. `sizes` are those that its time grows with (`hone.spent`)."""

    stage: str
    amounts: Mapping[str, float]
    forward: float = 0.0
    decode: float = 0.0
    bytes: float = 0.0
    sizes: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Earlier:
    """What a stage of an earlier run took, by what that grows with, and how much of each there was."""

    spent: Mapping[str, Spent]
    sizes: Mapping[str, float]
    source: str

    def seconds(self, sizes: Mapping[str, float]) -> Spent:
        """Seconds of the clock and of the processor for other sizes: what does not grow with one that is known of both
        takes as long as it did."""
        grown = [(self._growth(unit, sizes), both) for unit, both in self.spent.items()]
        return sum(by * clock for by, (clock, _) in grown), sum(by * used for by, (_, used) in grown)

    def _growth(self, unit: str, sizes: Mapping[str, float]) -> float:
        if unit == COMPARISONS:
            return self._growth("queries", sizes) * self._growth("docs", sizes)
        before, now = self.sizes.get(unit, 0.0), sizes.get(unit)
        return 1.0 if now is None or not before else now / before


@dataclass(frozen=True)
class Row:
    """The forecast of one stage. `processor_hours` are 0 without an earlier run, `price` is 0 where none is given."""

    stage: str
    amounts: Mapping[str, float]
    hours: float
    gigabytes: float
    price: float
    source: str
    processor_hours: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """All stages; `notes` say what the figures rest on and which are bounds."""

    device: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())

    def total(self, name: str) -> float:
        """The sum of hours, gigabytes, price or processor hours."""
        return sum(getattr(row, name) for row in self.rows)


def priced(work: Work, device: Device, before: Mapping[str, Earlier], per_hour: float) -> Row:
    """A stage's time by what an earlier run took, else by the operations it takes, and its price."""
    if earlier := before.get(work.stage):
        (seconds, used), source = earlier.seconds(work.sizes), earlier.source
    else:
        seconds = (work.forward / device.forward + work.decode / device.decode) / device.flops
        seconds, used, source = (seconds + STARTING, 0.0, "estimate") if seconds else (0.0, 0.0, "no model runs here")
    hours = seconds / 3600
    return Row(work.stage, work.amounts, hours, work.bytes / 1e9, hours * per_hour, source, used / 3600)


def prefilled(prompts: Iterable[list[int]], known: Iterable[list[int]] = ()) -> int:
    """Tokens that are computed if every full block is kept for ever: a block is computed once for all prompts that
    begin with the same tokens up to its end, those of `known` before."""
    seen: set[int] = set()
    for tokens in known:
        _cached(tokens, seen)
    return sum(max(1, len(tokens) - _cached(tokens, seen)) for tokens in prompts)


def _cached(tokens: list[int], seen: set[int]) -> int:
    """Leading tokens of a prompt that were seen; adds all its blocks to what was."""
    cached = key = 0
    for end in range(BLOCK, len(tokens) + 1, BLOCK):
        key = hash((key, *tokens[end - BLOCK : end]))
        cached += BLOCK if key in seen and cached == end - BLOCK else 0
        seen.add(key)
    return cached
