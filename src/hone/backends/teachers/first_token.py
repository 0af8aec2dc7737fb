"""Cross-encoders of BERT's kind score a pair by its first token: their last layer need compute nothing but that one.

Keys and values are still those of all tokens, so the score is the same; of twelve parts of the last layer's products
ten are spared. A model is shortened only if it then gives the same scores.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}
"""What a score may differ by, by the model's precision: rounding."""


def shorten(model: Any, score: Callable[[Mapping[str, Tensor]], Tensor], sample: Mapping[str, Tensor]) -> bool:
    """Lets the last layer of `model` compute the first token alone, if `score(sample)` stays the same; says whether."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if not layers or model.config._attn_implementation != "sdpa" or getattr(model.config, "is_decoder", False):
        return False
    last = layers[-1]
    whole, before = score(sample), last.forward
    last.forward = partial(first_token, last)
    try:
        same = torch.allclose(score(sample), whole, atol=TOLERANCE[model.dtype])
    except (AttributeError, TypeError, RuntimeError):  # its parts are put together otherwise than BERT's
        same = False
    if not same:
        last.forward = before
    return same


def first_token(layer: Any, hidden: Tensor, mask: Tensor | None = None, *others: Any, **named: Any) -> Tensor:
    """What a layer of BERT's kind makes of the first token: [n, t, d] and a mask [n, 1, t, t] or none to [n, 1, d]."""
    part = layer.attention.self
    heads = [
        made.unflatten(-1, (-1, part.attention_head_size)).transpose(1, 2)
        for made in (part.query(hidden[:, :1]), part.key(hidden), part.value(hidden))
    ]
    seen = scaled_dot_product_attention(*heads, attn_mask=None if mask is None else mask[:, :, :1])
    attended = layer.attention.output(seen.transpose(1, 2).flatten(2), hidden[:, :1])
    return layer.output(layer.intermediate(attended), attended)
