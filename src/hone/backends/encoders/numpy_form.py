"""Writes a student as `numpy_encoder` reads it, if that gives the same vectors."""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from hone.backends.encoders import pooling
from hone.backends.encoders.encoder import Encoder
from hone.backends.encoders.head import Cut, Dense
from hone.backends.encoders.numpy_encoder import ABOUT, NumpyEncoder
from hone.log import log

AFTER_PADDING = {"bert": False, "roberta": True, "camembert": True, "xlm-roberta": True}
"""Kinds of model whose layers are BERT's, and whether places are counted from after the padding token's number."""
FIRST = "embeddings.word_embeddings.weight"
SAMPLE = ("one", "what a query may look like", "and one which is longer, so that its words can be told apart by places")
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""What rounding may change in a unit vector, by the student's precision."""


def write_numpy_form(encoder: Encoder, folder: Path, file: Path) -> bool:
    """Writes to `file` what queries need of a student beside its layers, which stay in its `folder`.

    False, and no file, for what is not a BERT with a head of matrices alone, or where a few queries get other vectors.
    """
    config: Any = encoder.model.config
    weights = encoder.declared.weights / "model.safetensors"
    steps = encoder.head.parts if encoder.head else []
    plain = all(step.plain if isinstance(step, Dense) else not isinstance(step, Cut) for step in steps)
    own = bool(encoder.student.trust_code) or not encoder.declared.include_prompt
    if config.model_type not in AFTER_PADDING or config.hidden_act != "gelu" or not plain or own:
        return False
    if not weights.is_file():  # in several files
        return False
    saved = encoder.head.saved() if encoder.head else []
    form = {
        "weights": weights.relative_to(folder).as_posix(),
        "before": _before(weights),
        "prefix": encoder.query_prefix,
        "limit": encoder.query_limit,
        "tokenizer": encoder.tokenizer_json(),
        "pooling": pooling.names(encoder.pooling),
        "unit": encoder.unit,
        "head": [f"head.{number}" if isinstance(step, Dense) else "" for number, step in enumerate(saved)],
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "epsilon": config.layer_norm_eps,
        "first_position": config.pad_token_id + 1 if AFTER_PADDING[config.model_type] else 0,
    }
    matrices = {f"head.{number}": step.weight for number, step in enumerate(saved) if isinstance(step, Dense)}
    save_file({name: matrix.cpu().contiguous() for name, matrix in matrices.items()}, file, {ABOUT: json.dumps(form)})
    try:
        vectors, expected = NumpyEncoder(folder, file).queries(SAMPLE), encoder.queries(SAMPLE)
        same = np.allclose(vectors, expected, atol=TOLERANCE[encoder.precision])
    # Weights of a type that NumPy lacks, layers of another kind.
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        log.info("queries need torch", reason=str(error)[:200])
        same = False
    if not same:
        file.unlink()
    return same


def _before(weights: Path) -> str:
    """What stands before the names of the layers in a file, such as `bert.`."""
    with cast(Any, safe_open(weights, framework="numpy")) as opened:
        return next((name.removesuffix(FIRST) for name in opened.offset_keys() if name.endswith(FIRST)), "")
