"""Texts to vectors while training: through the whole model, or, with what is below frozen, through the rest alone."""

import math
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hone.backends.budget import Budget, token_batches, tokens_at_once
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.tokens import Tokens
from hone.backends.training.settings import TrainingSettings
from hone.errors import UserError

BLOCK_TOKENS = 4_096
SCALED_BY = 64
"""Texts by which the length of vectors is judged."""


class Embedder(Protocol):
    """Texts are numbers; `weights` are what is trained."""

    encoder: Encoder
    lengths: np.ndarray
    """[n] int64: tokens of each text."""
    weights: list[Tensor]
    held: int
    """Bytes of main memory in which states are kept over all steps."""

    def embed(self, numbers: Sequence[int]) -> Tensor:
        """[n, d] float32 unit vectors (of a student that is compared by dot products, of length 1 on average); with the
        graph if gradients are on."""
        ...


class WholeModel:
    """Every layer is trained."""

    held = 0

    def __init__(self, encoder: Encoder, tokens: Sequence[list[int]]) -> None:
        self.encoder, self.tokens, self.lengths = encoder, tokens, _lengths(tokens)
        self.weights = _train_only(encoder.model, list(encoder.model.parameters()))
        self.scale = _scale_of_tokens(encoder, tokens)

    def embed(self, numbers: Sequence[int]) -> Tensor:
        return _times(self.encoder.embed_tokens([self.tokens[number] for number in numbers]), self.scale)


class TopLayers:
    """The top layers are trained; what enters them never changes and is computed once per text.

    States are computed block by block as texts are first asked for. Blocks depend on the texts alone, so that a text's
    states are the same bits whenever they are made. They are kept in main memory where all fit `memory` bytes, else in
    `folder`. Raises UserError if the model cannot be split below these layers.
    """

    def __init__(self, encoder: Encoder, tokens: Sequence[list[int]], top: int, memory: float, folder: Path) -> None:
        self.encoder, self.tokens, self.lengths = encoder, tokens, _lengths(tokens)
        self.layers = _layers(encoder.model, "train_layers: set it to 0 to train all")
        if top >= len(self.layers):
            raise UserError(
                f"distill.train_layers: the student has {len(self.layers)} layers, so {top} is not a top part of them; "
                "set it to 0 to train all"
            )
        self.frozen, self.trained = self.layers[:-top], self.layers[-top:]
        self.weights = _train_only(encoder.model, [w for layer in self.trained for w in layer.parameters()])
        self.starts = np.concatenate([[0], np.cumsum(self.lengths)])
        self.blocks = list(token_batches(self.lengths.tolist(), BLOCK_TOKENS))
        self.block_of = np.zeros(len(tokens), dtype=np.int64)
        for number, rows in enumerate(self.blocks):
            self.block_of[rows] = number
        self.known = np.zeros(len(self.blocks), dtype=bool)
        self.memory, self.folder, self.held = memory, folder, 0
        self.states: Tensor | None = None
        self._check()
        self.scale = _scale_of_tokens(encoder, tokens)

    def embed(self, numbers: Sequence[int]) -> Tensor:
        return _times(self._embed(numbers), self.scale)

    def _embed(self, numbers: Sequence[int]) -> Tensor:
        ids, mask = self.encoder.pad([self.tokens[number] for number in numbers])
        lower = self._lower(numbers, mask)
        with _forward(self.frozen[:-1], _unchanged), _forward(self.frozen[-1:], lambda *_, **__: lower):
            return self.encoder.embed(ids, mask)

    def _lower(self, numbers: Sequence[int], mask: Tensor) -> Tensor:
        """[n, t, h]: what enters the trained layers, zero where padded."""
        for block in np.unique(self.block_of[list(numbers)]):
            if not self.known[block]:
                self._fill(self.blocks[block])
                self.known[block] = True
        assert self.states is not None
        counts = (mask > 0).sum(1).tolist()
        parts = [
            self.states[(start := self.starts[n]) : start + count] for n, count in zip(numbers, counts, strict=True)
        ]
        lower = torch.zeros(*mask.shape, self.states.shape[1], dtype=self.states.dtype)
        for row, part in enumerate(parts):
            lower[row, : len(part)] = part
        return lower.to(mask.device)

    def _fill(self, rows: list[int]) -> None:
        states = self._compute(rows)
        if self.states is None:
            self.states = self._room((int(self.starts[-1]), states.shape[2]), states.dtype)
        for place, number in enumerate(rows):
            part = states[place, : self.lengths[number]]  # one row is spare where a prompt is not pooled
            self.states[(start := self.starts[number]) : start + len(part)] = part

    @torch.no_grad()
    def _compute(self, numbers: Sequence[int]) -> Tensor:
        """[n, t, h] what the last frozen layer gives for these texts."""
        seen: list[Any] = []
        hook = self.frozen[-1].register_forward_hook(lambda _, __, output: seen.append(output))
        with _forward(self.trained, _unchanged):
            self.encoder.embed(*self.encoder.pad([self.tokens[number] for number in numbers]))
        hook.remove()
        if len(seen) != 1 or not isinstance(seen[0], Tensor):
            raise self._refusal()
        return seen[0].cpu()

    def _check(self) -> None:
        """The split model must give what the whole gives."""
        sample = list(range(min(4, len(self.tokens))))
        with torch.no_grad():
            whole = self.encoder.embed(*self.encoder.pad([self.tokens[number] for number in sample]))
            if not torch.allclose(whole, self._embed(sample), atol=2e-2):
                raise self._refusal()

    def _refusal(self) -> UserError:
        kind = type(self.encoder.model).__name__
        return UserError(f"distill.train_layers: {kind} cannot be split between layers; set it to 0 to train all")

    def _room(self, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        count = math.prod(shape)
        if count * dtype.itemsize <= self.memory:
            self.held = count * dtype.itemsize
            return torch.empty(shape, dtype=dtype)
        path = self.folder / f"states-{uuid.uuid4().hex}"
        return torch.from_file(str(path), shared=True, size=count, dtype=dtype).view(shape)


class HeadOnly:
    """The layers are frozen and the head is trained: a text is the vector that the untrained student gives it.

    Vectors serve as well as pooled ones, since what is trained comes last: the map has no constant term.
    A text costs as much as a token.
    """

    held = 0

    def __init__(self, encoder: Encoder, vectors: np.ndarray) -> None:
        """`vectors`: [n, d] float32, from `encoder` as it is now."""
        self.encoder, self.head = encoder, encoder.add_head()
        self.lengths = np.ones(len(vectors), dtype=np.int64)
        self.vectors = torch.from_numpy(vectors).to(encoder.device)
        self.scale = _scale(encoder, vectors)
        _train_only(encoder.model, [])
        self.weights: list[Tensor] = [self.head.change.requires_grad_()]

    def embed(self, numbers: Sequence[int]) -> Tensor:
        return _times(self.encoder.scaled(self.head.turned(self.vectors[list(numbers)])), self.scale)


class LowRank(WholeModel):
    """The layers are frozen; a product of two thin matrices is added to each linear map and trained.

    Source: Hu et al., arXiv 2106.09685. The second matrix starts at zero, the first is drawn from `seed`.
    """

    def __init__(self, encoder: Encoder, tokens: Sequence[list[int]], settings: TrainingSettings) -> None:
        from peft import LoraConfig, get_peft_model

        super().__init__(encoder, tokens)
        config = LoraConfig(
            r=settings.lora_rank, lora_alpha=settings.lora_alpha, lora_dropout=0.0, target_modules="all-linear"
        )
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.adapted: Any = get_peft_model(encoder.model, config)
        self.weights = [weight for weight in self.adapted.parameters() if weight.requires_grad]

    def merge(self) -> list[Tensor]:
        """Adds the products to the maps for good, which are then `weights`; returns what the maps were."""
        maps = [part for part in self.adapted.modules() if hasattr(part, "lora_A")]
        self.weights = [part.base_layer.weight for part in maps]
        before = [weight.detach().clone() for weight in self.weights]
        self.encoder.model = self.adapted.merge_and_unload()
        return before


def make_embedder(
    encoder: Encoder, tokens: Sequence[list[int]], settings: TrainingSettings, memory: float, folder: Path
) -> Embedder:
    """The embedder that trains what the settings say. States are kept in `memory` bytes, or in `folder`."""
    encoder.take_gradients()
    if settings.gradient_checkpointing:
        recompute(_layers(encoder.model, "gradient_checkpointing: set it to false"))
    if settings.train == "lora":
        return LowRank(encoder, tokens, settings)
    if settings.train_layers:
        return TopLayers(encoder, tokens, settings.train_layers, memory, folder)
    if settings.compile:
        encoder.packs = False
        encoder.model.compile(dynamic=True)
    return WholeModel(encoder, tokens)


def recompute(layers: Sequence[nn.Module]) -> None:
    """From now on these layers keep only what enters them and compute the rest again when gradients are taken."""

    def again(layer: Callable[..., Tensor], hidden: Tensor, *others: Any, **named: Any) -> Any:
        return checkpoint(layer, _Held.apply(hidden), *others, use_reentrant=False, **named)

    for layer in layers:
        layer.forward = partial(again, layer.forward)


class _Held(torch.autograd.Function):
    """The identity, noting that what passes is kept: a checkpoint holds it out of sight of who measures graphs."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        ctx.save_for_backward(hidden)
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _unnoticed(count: int) -> None:
    """What nobody watches."""


@torch.no_grad()
def embed_all(
    embedder: Embedder, numbers: Sequence[int], budget: int, advance: Callable[[int], object] = _unnoticed
) -> Tensor:
    """[n, d] vectors of all texts, without a graph, in their order; `advance` is called with how many more are done."""
    vectors = torch.empty(len(numbers), embedder.encoder.dimension, device=embedder.encoder.device)

    def embed(rows: list[int]) -> None:
        vectors[rows] = embedder.embed([numbers[row] for row in rows])
        advance(len(rows))

    tokens = tokens_at_once(budget, embedder.encoder.device, embedder.encoder.width)
    Budget(tokens).each(embedder.lengths[list(numbers)].tolist(), embed)
    return vectors


def _scale_of_tokens(encoder: Encoder, tokens: Sequence[list[int]]) -> float:
    return 1.0 if encoder.unit else _scale(encoder, encoder.encode_tokens(list(tokens[:SCALED_BY])))


def _scale(encoder: Encoder, vectors: np.ndarray) -> float:
    """What brings vectors [n, d] that are compared by their dot product to a length of about 1, so that the same
    temperatures serve as for cosines; no ranking depends on it."""
    return 1.0 if encoder.unit or not len(vectors) else float(1 / np.sqrt(np.square(vectors).sum(1).mean()))


def _times(vectors: Tensor, scale: float) -> Tensor:
    return vectors if scale == 1.0 else vectors * scale


def _lengths(tokens: Sequence[list[int]]) -> np.ndarray:
    """[n] int64; of a file without reading it."""
    return tokens.lengths if isinstance(tokens, Tokens) else np.array([len(ids) for ids in tokens], dtype=np.int64)


def _layers(model: nn.Module, otherwise: str) -> list[nn.Module]:
    """The one list of transformer layers of a model. Raises UserError, ending in what to do otherwise, if there is none
    or more than one."""
    count = getattr(model.config, "num_hidden_layers", 0)
    lists = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if len(lists) != 1:
        kind = type(model).__name__
        raise UserError(f"{kind} has no single list of layers, needed by distill.{otherwise}")
    return list(lists[0])


def _train_only(model: nn.Module, chosen: list[Tensor]) -> list[Tensor]:
    for weight in model.parameters():
        weight.requires_grad_(False)
    for weight in chosen:
        weight.requires_grad_(True)
    return chosen


def _unchanged(hidden: Tensor, *_: object, **__: object) -> Tensor:
    return hidden


@contextmanager
def _forward(layers: Sequence[nn.Module], instead: Callable[..., Tensor]) -> Generator[None]:
    """Layers that do something else for the time of a block."""
    before = [layer.forward for layer in layers]
    for layer in layers:
        layer.forward = instead
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            layer.forward = forward
