"""What stands between pooling and the vector: sentence-transformers' Dense and Normalize modules, and what training
adds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from hone.errors import UserError
from hone.inputs import model_folder

LINEAR = "torch.nn.modules.linear.Identity"
TANH = "torch.nn.modules.activation.Tanh"
"""What a Dense module that names no activation has."""


class Dense(nn.Module):
    """A linear map with what may follow it: a constant, an activation function, what came in added again."""

    weight: Tensor
    bias: Tensor | None
    residual: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        activation: str = LINEAR,
        *,
        adds: bool = False,
        residual: Tensor | None = None,
    ) -> None:
        """`weight` [e, d]; `adds`: what came in is added, through `residual` [e, d] where that is given."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("residual", residual)
        self.activation_name, self.adds = activation, adds
        self.activation: nn.Module = getattr(nn, activation.rpartition(".")[2])()

    @property
    def plain(self) -> bool:
        """Whether it is a matrix and nothing else."""
        return self.bias is None and self.activation_name == LINEAR and not self.adds

    def forward(self, vectors: Tensor) -> Tensor:
        mapped = self.activation(linear(vectors, self.weight, self.bias))
        if not self.adds:
            return mapped
        return mapped + (vectors if self.residual is None else linear(vectors, self.residual))

    def save(self, folder: Path) -> None:
        """As sentence-transformers does."""
        rows, columns = self.weight.shape
        config = {
            "in_features": columns, "out_features": rows, "bias": self.bias is not None,
            "activation_function": self.activation_name,
        } | ({"use_residual": True} if self.adds else {})  # fmt: skip
        named = {"linear.weight": self.weight, "linear.bias": self.bias, "residual.weight": self.residual}
        _write(folder, config)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items() if tensor is not None}
        save_file(tensors, folder / "model.safetensors")


class Unit(nn.Module):
    """Vectors to length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        return normalize(vectors, dim=-1)

    def save(self, folder: Path) -> None:
        """As sentence-transformers does."""
        _write(folder, {})


class Cut(nn.Module):
    """The first numbers of a vector: what `truncate_dim` leaves."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors[..., : self.size]


Step = Dense | Unit | Cut


class Head(nn.Module):
    """Pooled vectors [n, d] to vectors [n, e]: step after step, then through the identity plus `change` [e, e].

    `change` is what is trained. It starts at zero, so that weight decay pulls the student back to what it was.
    """

    def __init__(self, steps: Sequence[Step], pooled: int) -> None:
        """`pooled`: the numbers of a pooled vector."""
        super().__init__()
        self.steps, self.pooled = nn.ModuleList(steps), pooled
        self.dimension = _dimension(steps, pooled)
        self.change = nn.Parameter(torch.zeros(self.dimension, self.dimension), requires_grad=False)

    def forward(self, pooled: Tensor) -> Tensor:
        for step in self.steps:
            pooled = step(pooled)
        return self.turned(pooled)

    def turned(self, vectors: Tensor) -> Tensor:
        """What `change` makes of vectors [n, e] that are through all steps already."""
        return vectors + linear(vectors, self.change)

    @property
    def parts(self) -> list[Step]:
        """The steps."""
        return cast(list[Step], list(self.steps))

    @property
    def direction_alone(self) -> bool:
        """Whether pooled vectors of any length give the same direction: then unit vectors serve as well."""
        return all(not isinstance(step, Dense) or step.plain for step in self.parts)

    @property
    def size(self) -> int:
        """How many weights it has."""
        return sum(tensor.numel() for part in self.saved() if isinstance(part, Dense) for tensor in part.buffers())

    def saved(self) -> list[Dense | Unit]:
        """The modules that make the same vectors: Dense modules that are matrices alone become one. What `truncate_dim`
        cuts stays a setting of the folder unless a matrix was trained after it."""
        trained = bool(self.change.any()) or not self.parts
        folded: list[Dense | Unit] = []
        width = self.pooled
        for step in [*self.parts, *([Dense(torch.eye(self.dimension).to(self.change) + self.change)] * trained)]:
            if isinstance(step, Cut):
                if not trained:
                    continue
                step = Dense(torch.eye(min(step.size, width), width).to(self.change))
            if isinstance(step, Dense):
                width = len(step.weight)
                before = folded[-1] if folded else None
                if step.plain and isinstance(before, Dense) and before.plain:
                    folded[-1] = Dense(step.weight @ before.weight)
                    continue
            folded.append(step)
        return folded


def load_steps(folder: Path, entries: Sequence[dict[str, str]]) -> list[Dense | Unit]:
    """The Dense and Normalize modules that modules.json lists, in order; matrices alone become one.

    Raises UserError for what would give other vectors.
    """
    steps: list[Dense | Unit] = []
    for entry in entries:
        place = folder / entry["path"]
        config = model_folder.json_object(place / "config.json") if (place / "config.json").is_file() else {}
        for key in ("module_input_name", "module_output_name"):
            if config.get(key) not in (None, "sentence_embedding"):
                raise UserError(f"{place} sets {key} to {config[key]!r}, which Hone does not know; name another model")
        step = Unit() if model_folder.kind(entry) == "Normalize" else _load_dense(place, config)
        before = steps[-1] if steps else None
        if isinstance(step, Dense) and step.plain and isinstance(before, Dense) and before.plain:
            steps[-1] = Dense(step.weight @ before.weight)
        else:
            steps.append(step)
    return steps


def _load_dense(folder: Path, config: dict[str, Any]) -> Dense:
    weights, activation = folder / "model.safetensors", str(config.get("activation_function", TANH))
    if not weights.is_file():
        raise UserError(f"{folder} has no model.safetensors; convert the model to safetensors (pickle is refused)")
    known = getattr(nn, activation.rpartition(".")[2], None)
    if not (activation.startswith("torch.nn.modules.") and isinstance(known, type) and issubclass(known, nn.Module)):
        raise UserError(f"{folder}: the activation_function {activation} is not one of torch.nn; name another model")
    tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
    adds = bool(config.get("use_residual", False))
    wide = config.get("in_features") != config.get("out_features")
    wanted = {"linear.weight": True, "linear.bias": bool(config.get("bias", True)), "residual.weight": adds and wide}
    missing = [name for name, needed in wanted.items() if needed and name not in tensors]
    if missing:
        raise UserError(f"{weights} lacks {missing[0]}, which the config.json beside it requires; {model_folder.COPY}")
    given = {name: tensors[name] for name, needed in wanted.items() if needed}
    return Dense(
        given["linear.weight"], given.get("linear.bias"), activation, adds=adds, residual=given.get("residual.weight")
    )


def _dimension(steps: Sequence[Step], pooled: int) -> int:
    for step in steps:
        if isinstance(step, Dense):
            pooled = len(step.weight)
        elif isinstance(step, Cut):
            pooled = min(pooled, step.size)
    return pooled


def _write(folder: Path, config: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
