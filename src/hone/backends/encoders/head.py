"""The linear map between pooling and normalising: sentence-transformers' Dense modules, and what training adds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from hone.errors import UserError

LINEAR = "torch.nn.modules.linear.Identity"


class Head(nn.Module):
    """Pooled vectors [n, d] to vectors [n, e]: through `base` [e, d], then through the identity plus `change` [e, e].

    `change` is what is trained. It starts at zero, so that weight decay pulls the student back to what it was.
    """

    base: Tensor

    def __init__(self, base: Tensor) -> None:
        super().__init__()
        self.register_buffer("base", base)
        self.change = nn.Parameter(torch.zeros(len(base), len(base)), requires_grad=False)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.turned(linear(pooled, self.base))

    def turned(self, vectors: Tensor) -> Tensor:
        """What `change` makes of vectors [n, e] that are through `base` already."""
        return vectors + linear(vectors, self.change)

    @property
    def weight(self) -> Tensor:
        """[e, d]: both steps as one matrix."""
        return self.turned(self.base.T).T.contiguous()


def load_head(modules: Sequence[Path]) -> Head | None:
    """The map that Dense modules make together, in order; None for none. Raises UserError if it is not linear."""
    base: Tensor | None = None
    for folder in modules:
        config = cast(dict[str, Any], json.loads((folder / "config.json").read_text("utf-8")))
        weights = folder / "model.safetensors"
        if config.get("bias", True) or config.get("activation_function") != LINEAR or not weights.is_file():
            raise UserError(
                f"{folder} is not a linear Dense module in safetensors without bias, the only kind Hone knows; "
                "name another student.model"
            )
        weight = load_file(weights)["linear.weight"].float()
        base = weight if base is None else weight @ base
    return None if base is None else Head(base)


def save_head(head: Head, folder: Path) -> None:
    """Writes the map as one Dense module."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = head.weight.detach().cpu()
    rows, columns = weight.shape
    config = {"in_features": columns, "out_features": rows, "bias": False, "activation_function": LINEAR}
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    save_file({"linear.weight": weight}, folder / "model.safetensors")
