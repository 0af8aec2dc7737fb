"""The plug board: what can be chosen by name. A new backend is one file and one line here."""

import importlib
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


def load(kind: str, name: str) -> Any:
    """The class or function behind a name, imported now. Raises UserError listing the names there are."""
    known = BACKENDS[kind]
    if name not in known:
        raise UserError(f"{name!r} is no {kind}; the {kind}s are {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def library(module: str, extra: str) -> Any:
    """A client library that only one setting needs. Raises UserError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install 'hone[{extra}]'") from error
