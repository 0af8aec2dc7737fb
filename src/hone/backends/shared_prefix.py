"""What several texts begin with is computed once: keys and values of a common beginning, handed on to every row.

Rows of token ids are sorted, so that those that begin alike stand side by side, and cut into batches of three parts: a
trunk that all rows of the batch begin with (a guide to the styles, say), branches that groups of rows go on with (a
document), and the rest of each row. Between the parts rows are filled up to one length; what fills them is masked, and
every token gets its true position, so a row's keys and values are those it has alone.
"""

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

LEAST = 16
"""Fewer tokens in common are not worth a separate pass."""
LEAST_TRUNK = 64
"""Groups of which some share so many tokens less are divided among batches."""
LEAST_ROWS = 8
"""A group is not divided into fewer rows to save time: one more token costs a processor about the same for all of them.
"""

ROOM = 64
"""Tokens for which keys and values get room at once."""
GROUPED = "grouped"
"""The name under which transformers knows `grouped_attention`."""

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Rows in three parts: row i is `trunk`, then `branches[branch_of[i]]`, then `tails[i]`, which is never empty."""

    rows: list[int]
    trunk: list[int]
    branches: list[list[int]]
    branch_of: list[int]
    tails: list[list[int]]

    @property
    def computed(self) -> int:
        """Tokens that are computed, padding left out."""
        return len(self.trunk) + self.branched

    @property
    def branched(self) -> int:
        """Those after the trunk, which is computed once for several batches."""
        return sum(map(len, self.branches)) + sum(map(len, self.tails))


def can_share(model: Any) -> bool:
    """Whether keys and values of a beginning may be handed on: not where layers see a window or keep a state."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None)
    whole = all(kind == "full_attention" for kind in kinds) if kinds else not getattr(config, "sliding_window", None)
    parameters = inspect.signature(model.forward).parameters
    accepts = {"position_ids", "past_key_values", "logits_to_keep"} <= parameters.keys()
    return whole and accepts and not getattr(model, "_is_stateful", False)


def batches(tokens: Sequence[Sequence[int]], budget: int, room: int = 0, work: float = math.inf) -> Iterator[Batch]:
    """All rows, none of them empty, in batches of at most `budget` tokens, padding and `room` for new ones included, or
    of one row; and of at most `work` tokens that are computed, or of one group."""
    order = sorted(range(len(tokens)), key=lambda row: (list(tokens[row]), row))
    links = [in_common(tokens[one], tokens[two]) for one, two in pairwise(order)]
    groups = _divided(order, _weak(links, LEAST))
    outer = [in_common(tokens[one[-1]], tokens[two[0]]) for one, two in pairwise(groups)]
    for family in _divided(groups, _weak(outer, LEAST_TRUNK)):
        trunk = _beginning([tokens[row] for group in family for row in group])
        held: list[list[int]] = []
        batch: Batch | None = None
        for part in (part for group in family for part in _parts(group, tokens, budget, room, work)):
            held.append(part)
            joined = _batch(held, trunk, tokens)
            if batch and (_held(joined, tokens, room) > budget or joined.branched + len(joined.rows) * room > work):
                yield batch
                held = [part]
                joined = _batch(held, trunk, tokens)
            batch = joined
        if batch:
            yield batch


def _parts(
    group: list[int], tokens: Sequence[Sequence[int]], budget: int, room: int, work: float
) -> Iterator[list[int]]:
    """A group as it fits into a batch."""
    whole = [tokens[row] for row in group]
    longest, begins = max(map(len, whole)), len(_beginning(whole))
    step = max(1, budget // (longest + room))
    if begins + len(group) * (longest - begins + room) > work:
        step = min(step, max(LEAST_ROWS, int((work - begins) // (longest - begins + room))))
    return (group[start : start + step] for start in range(0, len(group), step))


def _held(batch: Batch, tokens: Sequence[Sequence[int]], room: int) -> int:
    """Tokens, padding included, that are remembered at the end of a batch."""
    return len(batch.rows) * (max(len(tokens[row]) for row in batch.rows) + room)


def _weak(links: Sequence[int], least: int) -> list[int]:
    """Where neighbours share less, by `least` tokens or more, than one of them does with its neighbour on the other
    side."""
    around = [0, *links, 0]
    return [at for at, link in enumerate(links) if max(around[at], around[at + 2]) >= link + least]


def _divided(items: Sequence[T], cuts: Sequence[int]) -> list[list[T]]:
    """The items, cut after each of these places."""
    ends = [*(at + 1 for at in cuts), len(items)]
    return [list(items[start:end]) for start, end in zip([0, *ends], ends, strict=False) if items]


def _batch(groups: Sequence[Sequence[int]], trunk: list[int], tokens: Sequence[Sequence[int]]) -> Batch:
    rows = [row for group in groups for row in group]
    branches: list[list[int]] = []
    branch_of: list[int] = []
    tails: list[list[int]] = []
    for group in groups:
        start = len(trunk)
        branch = _beginning([tokens[row][start:] for row in group])
        branch_of += [len(branches)] * len(group)
        branches.append(branch)
        tails += [list(tokens[row][start + len(branch) :]) for row in group]
    return Batch(rows, trunk, branches, branch_of, tails)


def _beginning(texts: Sequence[Sequence[int]]) -> list[int]:
    """What all texts begin with; the last token of each is left to it."""
    whole = [list(text) for text in texts]
    first, last = min(whole), max(whole)
    return first[: min(in_common(first, last), min(map(len, whole)) - 1)]


def in_common(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    most = min(len(one), len(two))
    return next((at for at in range(most) if one[at] != two[at]), most)


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """transformers' attention, but for one new token a row: there keys and values that several heads share are read
    where they lie, instead of repeated for each head. [n, heads, 1, d], [n, key heads, t, d] to [n, 1, heads, d]."""
    rows, heads, new, size = query.shape
    if new > 1 or heads == key.shape[1] or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    asked = query.reshape(rows, key.shape[1], -1, size)
    attended = scaled_dot_product_attention(asked, key, value, attn_mask=attention_mask, scale=options.get("scaling"))
    return attended.reshape(rows, 1, heads, size), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


class Growing(DynamicLayer):
    """Keys and values of a layer, with room ahead: a new token is written there, instead of everything being copied."""

    _room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """[n, heads, new, d] of both to [n, heads, all, d]."""
        filled = self.get_seq_length()
        ends = filled + key_states.shape[2]
        if self._room is None or self._room[0].shape[2] < ends:
            self._room = _grown(self.keys, key_states, ends), _grown(self.values, value_states, ends)
            self.is_initialized = True
        self._room[0][:, :, filled:ends], self._room[1][:, :, filled:ends] = key_states, value_states
        self.keys, self.values = (room[:, :, :ends] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keeps these rows."""
        super().batch_select_indices(indices)
        self._room = None


def _grown(known: Tensor | None, new: Tensor, ends: int) -> Tensor:
    """Room for `ends` tokens and some more, what is known at its beginning."""
    room = new.new_empty(*new.shape[:2], ends + ROOM, new.shape[3])
    if known is not None and known.numel():
        room[:, :, : known.shape[2]] = known
    return room


def empty_cache(model: Any) -> DynamicCache:
    """Keys and values of nothing yet, for a model whose layers see everything."""
    cache: Any = DynamicCache()
    cache.layers = [Growing() for _ in range(model.config.get_text_config().num_hidden_layers)]
    cache.layer_class_to_replicate = None
    return cache


@dataclass
class State:
    """What a model remembers of rows: keys and values, which of them are real [rows, filled], and the position of each
    row's next token [rows, 1]."""

    cache: DynamicCache
    mask: Tensor
    next: Tensor

    def pick(self, rows: Tensor) -> None:
        """Keeps these rows; one may be named several times."""
        self.cache.batch_select_indices(rows)
        self.mask, self.next = self.mask[rows], self.next[rows]


class Beginnings:
    """Carries rows through a causal language model part by part. Most batches share the last trunk."""

    def __init__(self, model: Any, pad: int) -> None:
        self.model, self.pad, self.device = model, pad, model.device
        self._trunk: list[int] = []
        self._known = empty_cache(model)
        if can_share(model) and model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(GROUPED)

    def state(self, batch: Batch) -> State:
        """What the model remembers of every row up to its tail."""
        state = self._of_trunk(batch.trunk)
        if len(batch.branches) > 1:
            state.pick(torch.zeros(len(batch.branches), dtype=torch.long, device=self.device))
        if any(batch.branches):
            self.forward(state, batch.branches, keep=1)
        if batch.branch_of != list(range(len(batch.branches))):
            state.pick(torch.tensor(batch.branch_of, device=self.device))
        return state

    def forward(self, state: State, texts: Sequence[Sequence[int]], keep: int, width: int = 0) -> Tensor:
        """Goes on with one text per row; the logits of the last `keep` places, [rows, keep, vocabulary]. Texts stand
        at the right, so that the last place is real in all rows that have any, in `width` places or as many as the
        longest has."""
        width = max(width, *map(len, texts))
        ids = torch.tensor([[self.pad] * (width - len(text)) + list(text) for text in texts], device=self.device)
        sizes = torch.tensor([len(text) for text in texts], device=self.device)
        return self._step(state, ids, sizes, keep)

    def _step(self, state: State, ids: Tensor, sizes: Tensor, keep: int) -> Tensor:
        width = ids.shape[1]
        places = torch.arange(width, device=self.device) - (width - sizes[:, None])
        state.mask = torch.cat([state.mask, (places >= 0).long()], dim=1)
        positions = state.next + places.clamp(min=0)
        state.next = state.next + sizes[:, None]
        return self.model(
            input_ids=ids,
            attention_mask=state.mask,
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=True,
            logits_to_keep=keep,
        ).logits

    def append(self, state: State, ids: Tensor) -> Tensor:
        """One token more for every row, [rows]; the logits after it, [rows, vocabulary]."""
        return self._step(state, ids[:, None], torch.ones_like(ids), 1)[:, -1]

    def _of_trunk(self, trunk: list[int]) -> State:
        """One row that holds the trunk, which is computed again only if it is another than the last one. Never in part:
        so the rounding of a row does not depend on what came before it."""
        if trunk != self._trunk or not trunk:
            self._trunk, self._known = list(trunk), empty_cache(self.model)
            if trunk:
                self.forward(self._empty(self._known), [trunk], keep=1)
        whole: Any = empty_cache(self.model)
        known: Any = self._known
        for number, layer in enumerate(known.layers if trunk else ()):
            whole.update(layer.keys, layer.values, number)
        return State(
            whole,
            torch.ones(1, len(trunk), dtype=torch.long, device=self.device),
            torch.full((1, 1), len(trunk), device=self.device),
        )

    def _empty(self, cache: DynamicCache) -> State:
        """One row of which nothing is known yet."""
        mask = torch.ones(1, 0, dtype=torch.long, device=self.device)
        return State(cache, mask, torch.zeros(1, 1, dtype=torch.long, device=self.device))
