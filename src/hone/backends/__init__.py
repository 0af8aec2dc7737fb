"""The plug board: what can be chosen by name. A new backend is one file and one line here."""

import importlib
from typing import Any

from hone.errors import UserError

BACKENDS: dict[str, dict[str, str]] = {
    "teacher": {
        "fusion": "hone.backends.fusion:Fusion",
        "ensemble": "hone.backends.judges:Ensemble",
        "cross_encoder": "hone.backends.pair_models:PairModel",
        "monot5": "hone.backends.pair_models:PairModel",
        "rankt5": "hone.backends.pair_models:PairModel",
        "yes_no": "hone.backends.pair_models:PairModel",
        "bge_lightweight": "hone.backends.pair_models:PairModel",
        "vllm": "hone.backends.vllm_scores:VLLMScores",
        "vllm_yes_no": "hone.backends.vllm_scores:VLLMScores",
        "endpoint": "hone.backends.rerank_endpoint:RerankEndpoint",
    },
    "search": {
        "torch": "hone.backends.search:Torch",
        "faiss_flat": "hone.backends.faiss_search:Flat",
        "faiss_ivf": "hone.backends.faiss_search:IVF",
    },
    "generator": {
        "transformers": "hone.backends.causal_lm:CausalLM",
        "vllm": "hone.backends.vllm_engine:VLLM",
        "openai": "hone.backends.openai_api:OpenAIServer",
    },
}


def load(kind: str, name: str) -> Any:
    """The class behind a name, imported now. Raises UserError listing the names there are."""
    known = BACKENDS[kind]
    if name not in known:
        raise UserError(f"{name!r} is no {kind}; the {kind}s are {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
