"""vLLM as a teacher in this process: token ids in, raw logits out."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hone.backends.encoders.declared import usable_folder
from hone.backends.encoders.encoder import check_code, named_faults
from hone.backends.generators.vllm_engine import engine_of
from hone.backends.teachers.pair_models import KINDS, Row, positions
from hone.backends.teachers.settings import OneTeacher
from hone.errors import UserError
from hone.inputs.references import content_digest

FORMS = {"vllm": "cross_encoder", "vllm_yes_no": "yes_no"}
"""A kind of teacher here and the kind of `pair_models` that reads and scores as it does."""


class VLLMScores:
    """A sequence classifier, or a language model in the form of Qwen3-Reranker, in vLLM. Safetensors only, and never
    code from the folder.

    A pair's score depends on its batch in the last bits, as vLLM schedules pairs as they come.
    """

    pairwise = True
    pairs_at_once = 4_096
    documents_first = False

    def __init__(self, settings: OneTeacher, folder: Path, token_budget: int) -> None:
        """Raises UserError if the folder is not a model of this kind, before any weights are read."""
        import transformers

        self.settings, self.folder, self.token_budget = settings, folder, token_budget
        self.kind = KINDS[FORMS[settings.kind]]
        self.instruction = settings.instruction or self.kind.instruction
        usable_folder(folder, "teacher.model")
        check_code(folder, "", "teacher.trust_code", content_digest)
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        with named_faults(folder):
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            config: Any = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        self.limit = min(settings.max_tokens, self.tokenizer.model_max_length, positions(config))
        self.overrides = self._overrides()
        if not self.overrides and config.num_labels != 1:
            raise UserError(f"{folder} has {config.num_labels} labels; a teacher gives one score a pair")

    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 raw logits of n pairs, in the order given. The document is cut, never the query."""
        if not queries:
            return np.zeros(0, dtype=np.float32)
        from vllm import TokensPrompt

        rows = self.kind.encode(self, queries, docs)
        classified = self.engine.classify(
            [TokensPrompt(prompt_token_ids=row["input_ids"]) for row in rows],
            pooling_params=[_parameters(row) for row in rows],
            use_tqdm=False,
        )
        return np.array([answer.outputs.probs[0] for answer in classified], dtype=np.float32)

    @cached_property
    def engine(self) -> Any:
        """The engine, made when first needed."""
        return engine_of(
            self.folder,
            self.settings,
            self.limit,
            runner="pooling",
            hf_overrides=self.overrides,
            max_num_batched_tokens=max(self.token_budget, self.limit),
        )

    def _overrides(self) -> dict[str, Any]:
        """What vLLM is given beside config.json. Raises UserError if the folder's model is of another kind."""
        named = next(iter(self.config.get("architectures") or [""]))
        ending = "ForCausalLM" if self.settings.kind == "vllm_yes_no" else "ForSequenceClassification"
        if not named.endswith(ending):
            raise UserError(f"{self.folder} holds a {named or 'model without a name'}: it is not a {ending[3:]} model")
        if ending == "ForSequenceClassification":
            return {}
        # The score is the logit of "yes" less that of "no".
        marks = {"classifier_from_token": list(self.settings.answers)[::-1], "is_original_qwen3_reranker": True}
        return {"architectures": [f"{named.removesuffix(ending)}ForSequenceClassification"], **marks}


def _parameters(row: Row) -> Any:
    """Raw logits; and where the second text starts, for models that tell the two apart."""
    from vllm import PoolingParams

    types = row.get("token_type_ids", [])
    starts = {"compressed_token_type_ids": types.index(1)} if 1 in types else None
    return PoolingParams(use_activation=False, extra_kwargs=starts)
