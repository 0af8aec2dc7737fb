"""Any causal language model with a chat template, through transformers: prompts in, sampled answers out.

A row's answer depends on its own prompt and seed, up to the device's rounding: it brings its own random numbers and
never takes those of its neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import BoolTensor, FloatTensor, LongTensor, Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from hone.backends.encoder import token_batches
from hone.core.cleaning import is_complete
from hone.core.styles import LanguageModel, Request
from hone.errors import UserError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Answers:
    """Sampled texts in the order of their prompts, and what they cost."""

    texts: list[str]
    prompt_tokens: int
    new_tokens: int


class CausalLM:
    """A language model. Loads safetensors only and never code from the folder; weights are loaded when first needed."""

    def __init__(self, folder: Path, settings: LanguageModel) -> None:
        """Raises UserError if `folder` is no chat model with safetensors weights."""
        _check(folder)
        self.folder, self.settings = folder, settings
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if not self.tokenizer.chat_template:
            raise UserError(f"{folder} has no chat template; name an instruction-tuned model in generate.llm.model")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def context(self) -> int:
        """Tokens of prompt and answer together that the model can take."""
        config: Any = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        stated = getattr(config.get_text_config(), "max_position_embeddings", None)
        return min(int(stated or self.tokenizer.model_max_length), int(self.tokenizer.model_max_length))

    @cached_property
    def model(self) -> Any:
        model: Any = AutoModelForCausalLM.from_pretrained(
            self.folder,
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

    def prompt(self, request: Request) -> str:
        """The rendered chat, up to where the answer begins; the document is cut by tokens until all fits.

        Raises UserError if the model's context has no room for a document.
        """
        ends = self._token_ends(request.doc)
        room = len(ends)
        while True:
            text = self._chat(request.prompt(request.doc[: ends[room - 1]] if room else ""))
            excess = len(self._tokens([text])[0]) + self.settings.max_new_tokens - self.context
            if excess <= 0:
                return text
            if excess >= room:
                raise UserError(
                    f"the context of {self.folder} ({self.context} tokens) has no room for a document; "
                    "lower generate.llm.max_new_tokens or name another model"
                )
            room -= excess

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Answers:
        """One sampled answer per prompt, in the order given; `seeds` are non-negative integers."""
        tokens = self._tokens(prompts)
        answers: list[list[int]] = [[] for _ in prompts]
        lengths = [len(ids) + self.settings.max_new_tokens for ids in tokens]
        for rows in token_batches(lengths, self.settings.token_budget):
            sampled = self._sample([tokens[row] for row in rows], [seeds[row] for row in rows])
            for row, new in zip(rows, sampled, strict=True):
                answers[row] = new
        texts = [self.tokenizer.decode(new, skip_special_tokens=True) for new in answers]
        return Answers(texts, sum(map(len, tokens)), sum(map(len, answers)))

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

    def _chat(self, content: str) -> str:
        """Only a user's turn, as some templates know no system role; templates that can switch thinking off do."""
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def _tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids; the template has written the special tokens already."""
        return self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]

    def _token_ends(self, doc: str) -> list[int]:
        """Where in `doc` each of its first `max_doc_tokens` tokens ends, in characters."""
        found = self.tokenizer(
            doc,
            add_special_tokens=False,
            return_offsets_mapping=True,
            truncation=True,
            max_length=self.settings.max_doc_tokens,
        )
        return [end for _, end in found["offset_mapping"]]


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


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json; generate.llm.model must be a transformers model folder")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no .safetensors weights; convert them to safetensors (pickle is refused)")


def _ends(*stated: int | list[int] | None) -> list[int]:
    ends = [end for one in stated if one is not None for end in (one if isinstance(one, list) else [one])]
    return sorted(set(ends))
