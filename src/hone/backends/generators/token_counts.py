"""What is known of a model from its folder without loading any weights: how it counts tokens, and how large it is."""

import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

from hone.backends import generators
from hone.errors import UserError

BYTES_PER_TOKEN = 3
"""No tokenizer at hand: common ones make fewer tokens of text in Latin script than one for every three bytes."""


class ModelFolder:
    """A transformers or sentence-transformers folder. Raises UserError if it has no tokenizer."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.rglob("tokenizer_config.json"), key=lambda file: len(file.parts))
        if not files:
            raise UserError(f"{folder} has no tokenizer; name a transformers model folder")
        self.folder = files[0].parent
        self.tokenizer: Any = generators.open_tokenizer(self.folder)

    def tokens(self, text: str) -> int:
        """Tokens of a text, without the special ones."""
        return len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @cached_property
    def dimension(self) -> int:
        """Numbers of a hidden vector."""
        config = json.loads((self.folder / "config.json").read_text("utf-8"))
        return int(config.get("hidden_size") or config.get("d_model") or 0)

    @cached_property
    def bytes(self) -> int:
        """Bytes of the weights."""
        return sum(file.stat().st_size for file in self.folder.glob("*.safetensors"))

    @cached_property
    def weights(self) -> int:
        """Weights that every token meets: all but embeddings, which are looked up. Read from the files' heads."""
        from safetensors import safe_open

        total = 0
        for file in self.folder.glob("*.safetensors"):
            with safe_open(file, framework="numpy") as tensors:
                names = [name for name in tensors.keys() if "embed" not in name]  # noqa: SIM118 (no dictionary)
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
        return total


def tokens_by_bytes(text: str) -> int:
    """About the tokens of a text, where no tokenizer is at hand."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)
