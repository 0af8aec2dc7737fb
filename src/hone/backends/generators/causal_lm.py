"""Any causal language model with a chat template, through transformers: prompts in, sampled answers out.

A row's answer depends on its own prompt and seed, up to the device's rounding: it brings its own random numbers and
never takes those of its neighbours.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import BoolTensor, FloatTensor, LongTensor, Tensor
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hone.backends.budget import Budget
from hone.backends.generators.answers import Answer, Request, is_complete
from hone.backends.generators.chat import Chat
from hone.backends.generators.settings import Sampling

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class CausalLM:
    """A language model. Loads safetensors only and never code from the folder; weights are loaded when first needed."""

    local: ClassVar[bool] = True

    def __init__(self, folder: Path, settings: Sampling, probes: Sequence[Request] = ()) -> None:
        """Refuses as `Chat` does, before any weights are read."""
        self.chat, self.settings = Chat(folder, settings, probes), settings
        self.tokenizer, self.prompt = self.chat.tokenizer, self.chat.prompt
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.budget = Budget(settings.token_budget)

    @property
    def gpus(self) -> int:
        """GPUs that are busy while it generates."""
        return int(self.device.type == "cuda")

    @cached_property
    def model(self) -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.chat.folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=PRECISIONS[self.settings.precision],
        )
        # The folder's own sampling settings (top_p, repetition_penalty ...) must not mix with ours.
        model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.settings.max_new_tokens,
            eos_token_id=_ends(model.generation_config.eos_token_id, self.tokenizer.eos_token_id),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return model.to(self.device).eval()

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        """One sampled answer per prompt, in the order given; `seeds` are non-negative integers."""
        tokens = self.chat.tokens(prompts)
        answers: list[list[int]] = [[] for _ in prompts]
        lengths = [len(ids) + self.settings.max_new_tokens for ids in tokens]

        def sample(rows: list[int]) -> None:
            sampled = self._sample([tokens[row] for row in rows], [seeds[row] for row in rows])
            for row, new in zip(rows, sampled, strict=True):
                answers[row] = new

        self.budget.each(lengths, sample)
        return [self._answer(*pair) for pair in zip(tokens, answers, strict=True)]

    def _answer(self, prompt: list[int], new: list[int]) -> Answer:
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        cut = len(new) == self.settings.max_new_tokens and not is_complete(text)
        return Answer(text, cut, len(prompt), 0, len(new))

    @torch.no_grad()
    def _sample(self, tokens: list[list[int]], seeds: list[int]) -> list[list[int]]:
        padded = self.tokenizer.pad({"input_ids": tokens}, padding_side="left", return_tensors="pt").to(self.device)
        start = padded["input_ids"].shape[1]
        uniforms = np.stack([np.random.default_rng(seed).random(self.settings.max_new_tokens) for seed in seeds])
        processors = LogitsProcessorList()
        if self.settings.temperature > 0:
            processors.append(OwnNumbers(torch.from_numpy(uniforms).to(self.device), self.settings.temperature))
        output = self.model.generate(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([OneLine(self.tokenizer, start)]),
        )
        ends = {*self.model.generation_config.eos_token_id, self.tokenizer.pad_token_id}
        return [list(takewhile(lambda token: token not in ends, row)) for row in output[:, start:].tolist()]


class OwnNumbers(LogitsProcessor):
    """Inverse transform sampling: at each step a row takes the token at which its cumulated probability passes its
    own uniform number. Leaves one token per row possible, so that taking the likeliest takes the sampled one."""

    def __init__(self, uniforms: Tensor, temperature: float) -> None:
        """`uniforms`: [rows, steps] float64 in [0, 1)."""
        self.uniforms, self.temperature, self.step = uniforms, temperature, 0

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        """[rows, tokens so far] ids and [rows, vocabulary] logits to logits."""
        cumulated = torch.softmax(scores.double() / self.temperature, dim=-1).cumsum(-1)
        thresholds = self.uniforms[:, self.step, None] * cumulated[:, -1:]
        chosen = torch.searchsorted(cumulated, thresholds, right=True).clamp(max=scores.shape[1] - 1)
        self.step += 1
        return cast(FloatTensor, torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0))


class OneLine(StoppingCriteria):
    """Ends a row as soon as it has its one line."""

    def __init__(self, tokenizer: Any, start: int) -> None:
        self.tokenizer, self.start = tokenizer, start

    def __call__(self, input_ids: LongTensor, scores: Any, **kwargs: Any) -> BoolTensor:
        """[rows, tokens so far] ids to [rows] bool."""
        done = [self._complete(row) for row in input_ids[:, self.start :].tolist()]
        return cast(BoolTensor, torch.tensor(done, device=input_ids.device))

    def _complete(self, new: list[int]) -> bool:
        return "\n" in self.tokenizer.decode(new[-1:]) and is_complete(self.tokenizer.decode(new))


def _ends(*stated: int | list[int] | None) -> list[int]:
    ends = [end for one in stated if one is not None for end in (one if isinstance(one, list) else [one])]
    return sorted(set(ends))
