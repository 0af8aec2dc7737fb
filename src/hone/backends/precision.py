"""The precision that a setting comes to on this machine."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from hone.log import log

Precision = Literal["fp32", "bf16"]
PrecisionSetting = Literal["auto", "fp32", "bf16"]
DTYPES: Mapping[Precision, Any] = {"fp32": "float32", "bf16": "bfloat16"}
"""What torch and vLLM call them."""


def resolved_precision(setting: PrecisionSetting) -> Precision:
    """`auto` as bf16 where the GPU or the processor computes in it, else as fp32. What is asked for by name is done,
    and told where the device only emulates it: that takes many times as long (docs/benchmarks/scoring.md)."""
    if setting == "auto":
        return "bf16" if knows_bf16() else "fp32"
    if setting == "bf16" and not knows_bf16():
        _tell_emulated()
    return setting


def torch_dtype(setting: PrecisionSetting) -> Any:
    """torch's type of the weights of a model that is loaded in this precision."""
    import torch

    return getattr(torch, DTYPES[resolved_precision(setting)])


def knows_bf16() -> bool:
    """Whether the GPU, or without one the processor, multiplies in bf16 by itself."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known: Mapping[str, Any] = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@cache
def _tell_emulated() -> None:
    log.warning(
        "bf16 is only emulated here, many times as slow as fp32; precision: auto takes what the device computes in"
    )
