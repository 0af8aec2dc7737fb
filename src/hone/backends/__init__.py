"""The plug board: what can be chosen by name. A new backend is one file and one line here."""

import importlib
import importlib.util
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from hone.errors import UserError

BACKENDS: dict[str, dict[str, str]] = {
    "teacher": {
        "fusion": "hone.backends.teachers.fusion:Fusion",
        "ensemble": "hone.backends.teachers.teacher:Ensemble",
        "cross_encoder": "hone.backends.teachers.pair_models:PairModel",
        "monot5": "hone.backends.teachers.pair_models:PairModel",
        "rankt5": "hone.backends.teachers.pair_models:PairModel",
        "yes_no": "hone.backends.teachers.pair_models:PairModel",
        "bge_lightweight": "hone.backends.teachers.pair_models:PairModel",
        "query_likelihood": "hone.backends.teachers.query_likelihood:QueryLikelihood",
        "vllm": "hone.backends.teachers.vllm_scores:VLLMScores",
        "vllm_yes_no": "hone.backends.teachers.vllm_scores:VLLMScores",
        "vllm_query_likelihood": "hone.backends.teachers.vllm_likelihood:VLLMLikelihood",
        "endpoint": "hone.backends.teachers.rerank_endpoint:RerankEndpoint",
    },
    "search": {
        "torch": "hone.backends.search.exact:Torch",
        "faiss_flat": "hone.backends.search.faiss_index:Flat",
        "faiss_ivf": "hone.backends.search.faiss_index:IVF",
    },
    "handover": {
        "hub": "hone.backends.export.hub:push",
        "mlflow": "hone.backends.export.mlflow_store:push",
        "model_registry": "hone.backends.export.kubeflow_registry:push",
    },
    "generator": {
        "transformers": "hone.backends.generators.causal_lm:CausalLM",
        "vllm": "hone.backends.generators.vllm_engine:VLLM",
        "openai": "hone.backends.generators.openai_api:OpenAIServer",
    },
}

EXTRAS = {
    **dict.fromkeys(
        (
            "torch", "transformers", "sentence_transformers", "tokenizers", "safetensors", "peft", "bm25s", "Stemmer",
            "datasketch", "py3langid", "tensorboardX",
        ),
        "train",
    ),
    **dict.fromkeys(("kfp", "kfp_kubernetes", "kfp_server_api", "kubernetes"), "pipeline"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    "faiss": "faiss", "vllm": "vllm", "openai": "openai", "huggingface_hub": "hub", "mlflow": "mlflow",
    "model_registry": "model-registry",
}  # fmt: skip
"""A package that the base installation lacks, to the extra that brings it."""


def load(kind: str, name: str) -> Any:
    """The class or function behind a name, imported now. Raises UserError listing the names there are."""
    known = BACKENDS[kind]
    if name not in known:
        raise UserError(f"there is no {kind} {name!r}; the {kind}s are {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def library(module: str, extra: str) -> Any:
    """A client library that only one setting needs. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(str(error.name), extra) from error


def require(module: str) -> None:
    """Looks for a package without importing it. Raises UserError naming the extra that brings it."""
    if importlib.util.find_spec(module) is None:
        raise _missing(module, EXTRAS[module])


@contextmanager
def named_extras() -> Generator[None]:
    """What the block misses of an extra, as one sentence. Raises UserError."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        if name not in EXTRAS:
            raise
        raise _missing(name, EXTRAS[name]) from error


def _missing(module: str, extra: str) -> UserError:
    return UserError(
        f"{module} is not installed, which the extra {extra} brings: pip install 'hone-retrieval[{extra}]'"
    )
