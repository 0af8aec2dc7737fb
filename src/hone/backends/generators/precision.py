"""The precision that a setting comes to on this machine."""

from collections.abc import Mapping
from typing import Any


def resolved_precision(setting: str) -> str:
    """`auto` as bf16 where the GPU or the processor computes in it, else as fp32."""
    import torch

    if setting != "auto":
        return setting
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    known: Mapping[str, Any] = torch.cpu.get_capabilities()
    return "bf16" if known.get("avx512_bf16") or known.get("amx_bf16") else "fp32"
