"""A student's queries without torch: a BERT of any size in NumPy, for a process that answers a few queries.

Importing torch and transformers takes many times as long as the answer. What the student resolved to (prefix, limit,
pooling, head) was written by `numpy_form` when it was last loaded in full, and its vectors were compared then; its
layers are read from the model folder.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

ABOUT = "student"
"""The entry of the file's notes that holds the `Form`."""
SMALLEST_LENGTH = 1e-12
"""Below this a vector is not brought to length 1, as in torch."""
POOLED: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "cls": lambda hidden: hidden[0],
    "max": lambda hidden: hidden.max(0),
    "mean": lambda hidden: hidden.mean(0),
    "mean_sqrt_len": lambda hidden: hidden.sum(0) / math.sqrt(len(hidden)),
    "weightedmean": lambda hidden: np.average(hidden, 0, np.arange(1, len(hidden) + 1)).astype(np.float32),
    "last": lambda hidden: hidden[-1],
}
"""Token vectors [t, d] of one text to [d], by the ways of `pooling`."""

_erf: Any = np.frompyfunc(math.erf, 1, 1)


class NumpyEncoder:
    """Queries to vectors, from a model folder and the file that `write_numpy_form` made of it."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.weights: dict[str, np.ndarray] = {}
        with cast(Any, safe_open(file, framework="numpy")) as opened:
            self.form: dict[str, Any] = json.loads(opened.metadata()[ABOUT])
            self.weights.update((name, opened.get_tensor(name)) for name in opened.offset_keys())
        before = self.form["before"]
        with cast(Any, safe_open(folder / self.form["weights"], framework="numpy")) as opened:
            for name in opened.offset_keys():
                if name.startswith((f"{before}embeddings.", f"{before}encoder.")):
                    self.weights[name.removeprefix(before)] = opened.get_tensor(name).astype(np.float32, copy=False)
        self.tokenizer: Tokenizer = Tokenizer.from_str(self.form["tokenizer"])
        self.tokenizer.enable_truncation(self.form["limit"])

    def queries(self, texts: Sequence[str]) -> np.ndarray:
        """Queries to [n, d] float32 vectors, of unit length unless the student's are compared by their dot product."""
        return np.stack([self._vector(self.tokenizer.encode(self.form["prefix"] + text).ids) for text in texts])

    def _vector(self, ids: Sequence[int]) -> np.ndarray:
        hidden = self._layers(np.array(ids))
        vector = np.concatenate([POOLED[way](hidden) for way in self.form["pooling"]])
        for step in self.form["head"]:
            vector = self.weights[step] @ vector if step else _unit(vector)
        return _unit(vector) if self.form["unit"] else vector

    def _layers(self, ids: np.ndarray) -> np.ndarray:
        """Token ids [t] to token vectors [t, h]: arXiv 1810.04805, normalised after each half of a layer."""
        form, weights = self.form, self.weights
        places = form["first_position"] + np.arange(len(ids))
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][places]
        hidden = self._normed("embeddings.LayerNorm", hidden + weights["embeddings.token_type_embeddings.weight"][0])
        for number in range(form["layers"]):
            layer = f"encoder.layer.{number}"
            seen = self._attention(f"{layer}.attention.self", hidden)
            seen = self._linear(f"{layer}.attention.output.dense", seen)
            hidden = self._normed(f"{layer}.attention.output.LayerNorm", hidden + seen)
            wide = _gelu(self._linear(f"{layer}.intermediate.dense", hidden))
            hidden = self._normed(f"{layer}.output.LayerNorm", hidden + self._linear(f"{layer}.output.dense", wide))
        return hidden

    def _attention(self, name: str, hidden: np.ndarray) -> np.ndarray:
        """[t, h] to [t, h]: every token looks at all."""
        query, key, value = (
            self._linear(f"{name}.{part}", hidden).reshape(len(hidden), self.form["heads"], -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(1, 2) / np.float32(math.sqrt(query.shape[-1]))
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        return (shares / shares.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(hidden.shape)

    def _linear(self, name: str, hidden: np.ndarray) -> np.ndarray:
        return hidden @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normed(self, name: str, hidden: np.ndarray) -> np.ndarray:
        centred = hidden - hidden.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(self.form["epsilon"]))
        return centred / spread * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def _gelu(values: np.ndarray) -> np.ndarray:
    """The exact one, by the error function: arXiv 1606.08415."""
    errors = np.asarray(_erf(values / math.sqrt(2)), dtype=np.float32)
    return (values * (1 + errors) / 2).astype(np.float32)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector), np.float32(SMALLEST_LENGTH))
