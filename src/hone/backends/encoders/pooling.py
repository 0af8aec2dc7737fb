"""How token vectors become one: the ways that sentence-transformers knows, one or several side by side."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hone.errors import UserError

WAYS: Mapping[str, tuple[str, str]] = {
    "cls": ("cls", "cls_token"),
    "max": ("max", "max_tokens"),
    "mean": ("mean", "mean_tokens"),
    "mean_sqrt_len": ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    "weightedmean": ("weightedmean", "weightedmean_tokens"),
    "last": ("lasttoken", "lasttoken"),
}
"""Ours to sentence-transformers' name for it, and to the flag that older folders set, in the order in which several
ways are put side by side there."""
FLAG = "pooling_mode_"
ALONE = 1
"""What a mask says of a token that is looked at and pooled."""
UNPOOLED = 2
"""What a mask says of a token that is looked at but not pooled: the prompt's, where a folder leaves it out."""


def names(pooling: str) -> list[str]:
    """The ways that are put side by side, such as cls and mean of `cls+mean`."""
    return pooling.split("+")


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Token vectors [n, t, d] and mask [n, t] (right-padded) to [n, d], or [n, m x d] of m ways side by side."""
    pooled = (mask == ALONE).long()
    return torch.cat([_POOLED[way](hidden, pooled) for way in names(pooling)], dim=-1)


def pool_packed(hidden: Tensor, starts: Tensor, pooling: str) -> Tensor:
    """Token vectors [n, d] of t texts one after another to [t, d], or [t, m x d]."""
    first, after, lengths = starts[:-1].long(), starts[1:].long(), starts.diff().long()
    counts = lengths.unsqueeze(-1).to(hidden.dtype)

    def weighted() -> Tensor:
        places = torch.arange(len(hidden), device=hidden.device) - first.repeat_interleave(lengths) + 1
        weights = places.unsqueeze(-1).to(hidden.dtype)
        sums = torch.segment_reduce(hidden * weights, "sum", lengths=lengths, axis=0)
        return sums / torch.segment_reduce(weights, "sum", lengths=lengths, axis=0)

    ways: dict[str, Callable[[], Tensor]] = {
        "cls": lambda: hidden[first],
        "last": lambda: hidden[after - 1],
        "max": lambda: torch.segment_reduce(hidden, "max", lengths=lengths, axis=0),
        "mean": lambda: torch.segment_reduce(hidden, "mean", lengths=lengths, axis=0),
        "mean_sqrt_len": lambda: torch.segment_reduce(hidden, "sum", lengths=lengths, axis=0) / counts.sqrt(),
        "weightedmean": weighted,
    }
    return torch.cat([ways[way]() for way in names(pooling)], dim=-1)


def declared(config: Mapping[str, Any], where: object) -> str | None:
    """What a pooling file says, in our names; None where it is silent. Raises UserError for a way that is unknown."""
    if not config:
        return None
    flags = [ours for ours, (_, flag) in WAYS.items() if config.get(FLAG + flag)]
    named = config.get("pooling_mode", flags or "mean")
    ours = {theirs: ours for ours, (theirs, _) in WAYS.items()} | {way: way for way in flags}
    unknown = sorted(key for key in config if key.startswith(FLAG) and config[key] and key[len(FLAG) :] not in _FLAGS)
    ways = [str(way) for way in (named if isinstance(named, list) else [named])]
    unknown += [way for way in ways if way not in ours]
    if unknown or not ways:
        raise UserError(
            f"{where} names the pooling {unknown[0] if unknown else 'of no kind'!r}; Hone knows {', '.join(WAYS)}: "
            "name another model"
        )
    return "+".join(ours[way] for way in ways)


def config_of(pooling: str, dimension: int, *, include_prompt: bool) -> dict[str, Any]:
    """The pooling file. It has every flag: text-embeddings-inference reads no file that lacks one."""
    ways = names(pooling)
    flags = {FLAG + flag: ours in ways for ours, (_, flag) in WAYS.items()}
    several = {"pooling_mode": [WAYS[way][0] for way in ways]} if len(ways) > 1 else {}
    prompt = {} if include_prompt else {"include_prompt": False}
    return {"word_embedding_dimension": dimension, **flags, **several, **prompt}


def _cls(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[_rows(hidden), mask.argmax(1)]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(mask.shape[1], device=mask.device)
    return hidden[_rows(hidden), (mask * places).argmax(1)]


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).max(1).values


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _mean_sqrt_len(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9).sqrt()


def _weightedmean(hidden: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _mean(hidden, mask * places)


def _rows(hidden: Tensor) -> Tensor:
    return torch.arange(len(hidden), device=hidden.device)


_FLAGS = frozenset(flag for _, flag in WAYS.values())
_POOLED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls, "max": _max, "mean": _mean, "mean_sqrt_len": _mean_sqrt_len, "weightedmean": _weightedmean,
    "last": _last,
}  # fmt: skip
