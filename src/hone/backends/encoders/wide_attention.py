"""Attention in fp32 where a CPU takes gradients in bf16.

torch's attention on CPU goes back through bf16 three times as slowly as through fp32, which was half of a training step
of a small student (benchmarks/wide_attention.py). Matrix products of the layers stay in bf16, and so does attention
without gradients, which is the faster in bf16. Registered with transformers under its own name.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "wide"


def wide_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **others: Any
) -> tuple[Tensor, Any]:
    """Attention of transformers' kind: [n, heads, t, d] to [n, t, heads, d], in the precision that came."""
    if query.dtype != torch.bfloat16 or not torch.is_grad_enabled():
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)
    with torch.autocast(query.device.type, enabled=False):
        attended, weights = sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), attention_mask, **others
        )
    return attended.to(query.dtype), weights


AttentionInterface.register(NAME, wide_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
