"""The ONNX form of a student beside its weights, where sentence-transformers, TEI and ONNX Runtime look for it."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hone.backends import library
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.families import Student
from hone.errors import UserError

PLACE = Path("onnx/model.onnx")
LARGEST_DIFFERENCE = 1e-4
"""Of any number of a vector, beside the longest one: far above rounding, far below what moves a document."""
SAMPLES = ("a", "what is compared", "a longer text of several words, so that the short ones are padded", "ü 文 !")


class Body(torch.nn.Module):
    """Token ids and mask to token vectors: pooling and what follows stays with whoever loads the folder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def add(folder: Path) -> float:
    """Writes onnx/model.onnx into a model folder and checks it; returns the largest difference of any number.

    Raises UserError if the ONNX form gives other vectors.
    """
    for name in ("onnx", "onnxscript"):
        library(name, "onnx")
    runtime = library("onnxruntime", "onnx")
    encoder = Encoder(folder, Student(model=str(folder)))
    encoder.model.cpu()
    encoder.device = torch.device("cpu")
    target = folder / PLACE
    target.parent.mkdir()
    _export(encoder, target)
    difference = parity(encoder, runtime.InferenceSession(str(target), providers=["CPUExecutionProvider"]))
    if not difference <= LARGEST_DIFFERENCE:
        raise UserError(
            f"the ONNX model gives other vectors (largest difference {difference:.2g}, allowed {LARGEST_DIFFERENCE}); "
            "set publish.onnx: false"
        )
    return difference


def parity(encoder: Encoder, session: Any) -> float:
    """The largest difference of any number of the vectors of some queries and documents."""
    tokens = [*encoder.tokenize_queries(SAMPLES), *encoder.tokenize_docs([" ".join(SAMPLES) * 8, *SAMPLES])]
    ids, mask = encoder.pad(tokens)
    hidden = session.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    with torch.no_grad():
        vectors = encoder.pooled_vectors(torch.from_numpy(hidden), mask)
        return float(np.abs(vectors.numpy() - encoder.embed(ids, mask).numpy()).max())


def _export(encoder: Encoder, target: Path) -> None:
    inputs = encoder.pad(encoder.tokenize_queries(SAMPLES))
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Body(encoder.model).eval(),
            inputs,
            str(target),
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
            dynamo=True,
            verbose=False,
        )
