"""Texts one after another without padding, kept apart by attention of variable length.

The attention is registered with transformers under its own name, so that every model that looks its attention up
there can use it. On a GPU torch's kernel does the work; on CPU a loop over the texts, which is there for tests: a CPU
gains nothing by packing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "packed"


@dataclass(frozen=True)
class Packed:
    """Texts as one row: ids and positions [1, n] int64, and where each of t texts starts, [t + 1] int32."""

    ids: Tensor
    positions: Tensor
    starts: Tensor
    longest: int

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model is called with. A mask of four dimensions is taken as it is: no other is made."""
        mask = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=self.ids.device)
        lengths = {"cu_seq_lens_q": self.starts, "max_length_q": self.longest}
        return {"input_ids": self.ids, "position_ids": self.positions, "attention_mask": mask, **lengths}


def pack(tokens: Sequence[Sequence[int]], device: torch.device) -> Packed:
    """Token lists, none empty, one after another."""
    lengths = torch.tensor([len(ids) for ids in tokens])
    starts = torch.zeros(len(tokens) + 1, dtype=torch.int32)
    starts[1:] = lengths.cumsum(0)
    flat = torch.tensor([number for ids in tokens for number in ids])
    positions = torch.cat([torch.arange(len(ids)) for ids in tokens])
    return Packed(
        flat.unsqueeze(0).to(device), positions.unsqueeze(0).to(device), starts.to(device), int(lengths.max())
    )


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    sliding_window: int | None = None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of transformers' kind: [1, heads, n, d] of packed texts to [1, n, heads, d]; of padded ones as ever."""
    if cu_seq_lens_q is None:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **others)
        return attended, None
    near = (sliding_window or 0) - 1
    window = (near, 0 if getattr(module, "is_causal", True) else near)
    parts = [part.squeeze(0).transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    attend = _by_kernel if value.is_cuda else _text_by_text
    return attend(parts, cu_seq_lens_q, max_length_q, scaling, window).unsqueeze(0), None


def _by_kernel(
    parts: Sequence[Tensor], starts: Tensor, longest: int, scale: float | None, window: tuple[int, int]
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = parts
    shared = query.shape[1] != key.shape[1]
    attended = varlen_attn(
        query, key, value, starts, starts, longest, longest, scale=scale, window_size=window, enable_gqa=shared
    )
    assert isinstance(attended, Tensor)
    return attended


def _text_by_text(
    parts: Sequence[Tensor], starts: Tensor, longest: int, scale: float | None, window: tuple[int, int]
) -> Tensor:
    """What the kernel computes, the slow way."""
    away = torch.arange(longest).unsqueeze(1) - torch.arange(longest)
    left, right = window
    seen = torch.ones_like(away, dtype=torch.bool)
    seen &= (away <= left) if left >= 0 else seen
    seen &= (-away <= right) if right >= 0 else seen
    attended: list[Tensor] = []
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        query, key, value = (part[start:end].transpose(0, 1).unsqueeze(0) for part in parts)
        mask = seen[: end - start, : end - start]
        text = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=True)
        attended.append(text.squeeze(0).transpose(0, 1))
    return torch.cat(attended)


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
