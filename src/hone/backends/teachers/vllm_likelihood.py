"""`query_likelihood` in vLLM: the log-probabilities of the query's tokens as vLLM gives those of a prompt."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hone.backends.generators.vllm_engine import engine_of
from hone.backends.teachers.query_likelihood import Texts
from hone.backends.teachers.settings import OneTeacher


class VLLMLikelihood:
    """A teacher whose opinion of a document does not depend on the others. Safetensors only, and no code of the folder.

    Every pair is computed whole: vLLM does not read its prefix cache where a prompt's log-probabilities are wanted. A
    pair's score depends on its batch in the last bits.
    """

    pairwise = True
    pairs_at_once = 4_096
    documents_first = False

    def __init__(self, settings: OneTeacher, folder: Path, token_budget: int) -> None:
        """Raises UserError if the folder is not a model, or brings code of its own, before any weights are read."""
        self.settings, self.folder, self.token_budget = settings, folder, token_budget
        self.texts = Texts(settings, folder)

    def score_pairs(self, queries: Sequence[str], docs: Sequence[str]) -> np.ndarray:
        """[n] float32 mean log-probabilities of n pairs, in the order given. The document is cut to fit."""
        if not queries:
            return np.zeros(0, dtype=np.float32)
        from vllm import SamplingParams, TokensPrompt

        asked = [self.texts.query(query) for query in queries]
        before = {doc: self.texts.prefix(doc) for doc in dict.fromkeys(docs)}
        outputs = self.engine.generate(
            [TokensPrompt(prompt_token_ids=[*before[doc], *ids]) for doc, ids in zip(docs, asked, strict=True)],
            SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0),
            use_tqdm=False,
        )
        return np.array([_mean(output, len(ids)) for output, ids in zip(outputs, asked, strict=True)], dtype=np.float32)

    @cached_property
    def engine(self) -> Any:
        """The engine, made when first needed; one token more than a pair has is always written."""
        limit = self.texts.limit + 1
        return engine_of(self.folder, self.settings, limit, max_num_batched_tokens=max(self.token_budget, limit))


def _mean(output: Any, count: int) -> float:
    """Of the last `count` tokens of a prompt."""
    ids, logprobs = output.prompt_token_ids[-count:], output.prompt_logprobs[-count:]
    return float(np.mean([at[number].logprob for number, at in zip(ids, logprobs, strict=True)]))
