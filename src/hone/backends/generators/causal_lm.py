"""Any causal language model with a chat template, through transformers: prompts in, sampled answers out.

A row's answer depends on its own prompt and seed, up to the device's rounding: it brings its own random numbers and
never takes those of its neighbours. What prompts begin with alike is computed once (`shared_prefix`), and rows that are
done leave the batch.
"""

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from functools import cached_property, partial
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

from hone.backends.budget import Budget, token_batches
from hone.backends.encoders.encoder import named_faults
from hone.backends.generators.answers import Answer, Request, is_complete
from hone.backends.generators.chat import Chat
from hone.backends.generators.settings import Sampling
from hone.backends.precision import resolved_precision, torch_dtype
from hone.backends.shared_prefix import Batch, Beginnings, batches, can_share
from hone.errors import UserError

OPERATIONS_PER_THREAD = 4e12
"""A batch on a processor is at most so much work for each of its threads, ten to twenty seconds: that much is lost with
a kill. It follows from the model and the machine and not from a clock: a run that goes on makes the same batches."""


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

    @property
    def resolved(self) -> dict[str, str]:
        """The precision on this machine."""
        return {"precision": resolved_precision(self.settings.precision)}

    @cached_property
    def model(self) -> Any:
        loader: Any = AutoModelForCausalLM
        with named_faults(self.chat.folder):
            model, loading = loader.from_pretrained(
                self.chat.folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch_dtype(self.settings.precision),
                output_loading_info=True,
            )
        if loading["missing_keys"]:
            lacking = f"lack {min(loading['missing_keys'])}; config.json and weights must be of one model"
            raise UserError(f"the weights in {self.chat.folder} {lacking}")
        # The folder's own sampling settings (top_p, repetition_penalty ...) must not mix with ours.
        model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=self.settings.max_new_tokens,
            eos_token_id=_ends(model.generation_config.eos_token_id, self.tokenizer.eos_token_id),
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return model.to(self.device).eval()

    @cached_property
    def work(self) -> float:
        """Tokens that a batch may compute."""
        if self.device.type != "cpu":
            return math.inf
        weights = self.model.num_parameters(exclude_embeddings=True)
        return OPERATIONS_PER_THREAD * torch.get_num_threads() / (2 * weights)

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], wanted: Set[int] | None = None
    ) -> Iterator[dict[int, Answer]]:
        """Sampled answers by the positions of their prompts, batch by batch; `seeds` are non-negative integers.

        Batches with none of the `wanted` positions are left out, the others are computed whole: an answer comes from
        the same batch whether or not others are known already.
        """
        if wanted is not None and not wanted:
            return
        tokens = self.chat.tokens(prompts)
        for batch in self._batches(tokens, self.budget.tokens):
            if wanted is None or not wanted.isdisjoint(batch.rows):
                sampled = self.budget.fitting(partial(self._sampled, batch, tokens, seeds, self.budget.tokens))
                yield {row: self._answer(tokens[row], new) for row, new in sampled.items()}

    def _sampled(
        self, batch: Batch, tokens: Sequence[list[int]], seeds: Sequence[int], planned: int, budget: int
    ) -> dict[int, list[int]]:
        """New tokens by row; in smaller batches where `budget` is below what the batch was planned for."""
        if budget < planned:
            rows = sorted(batch.rows)
            parts = self._batches([tokens[row] for row in rows], budget)
            sampled: dict[int, list[int]] = {}
            for part in parts:
                moved = replace(part, rows=[rows[at] for at in part.rows])
                sampled |= self._sampled(moved, tokens, seeds, budget, budget)
            return sampled
        own = [seeds[row] for row in batch.rows]
        if can_share(self.model):
            return dict(zip(batch.rows, self._sample(batch, own), strict=True))
        whole = [tokens[row] for row in batch.rows]
        return dict(zip(batch.rows, self.sample_whole(whole, own), strict=True))

    def _batches(self, tokens: Sequence[list[int]], budget: int) -> Iterator[Batch]:
        """Batches of prompts that begin alike, or of prompts of one length where nothing can be shared."""
        room = self.settings.max_new_tokens
        if can_share(self.model):
            return batches(tokens, budget, room, self.work)
        cut = token_batches([len(ids) + room for ids in tokens], int(min(budget, self.work)))
        return (Batch(rows, [], [[]], [0] * len(rows), [tokens[row] for row in rows]) for rows in cut)

    def _answer(self, prompt: list[int], new: list[int]) -> Answer:
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        cut = len(new) == self.settings.max_new_tokens and not is_complete(text)
        return Answer(text, cut, len(prompt), 0, len(new))

    @torch.no_grad()
    def _sample(self, batch: Batch, seeds: list[int]) -> list[list[int]]:
        """New tokens of every row of a batch, in its order."""
        uniforms = self._uniforms(seeds)
        state = self.beginnings.state(batch)
        logits = self.beginnings.forward(state, batch.tails, keep=1)[:, -1]
        new: list[list[int]] = [[] for _ in batch.rows]
        alive = list(range(len(batch.rows)))
        for step in range(self.settings.max_new_tokens):
            chosen = drawn(logits, uniforms[alive, step], self.settings.temperature)
            going = [at for at, token in enumerate(chosen.tolist()) if self._goes_on(new[alive[at]], token)]
            if not going or step + 1 == self.settings.max_new_tokens:
                break
            if len(going) < len(alive):
                kept = torch.tensor(going, device=self.device)
                state.pick(kept)
                chosen, alive = chosen[kept], [alive[at] for at in going]
            logits = self.beginnings.append(state, chosen)
        return new

    def _goes_on(self, new: list[int], token: int) -> bool:
        """Adds a token to a row, unless it is an end; false if the row is done, by an end or by its one line."""
        if token in self.ends:
            return False
        new.append(token)
        return not ("\n" in self.tokenizer.decode([token]) and is_complete(self.tokenizer.decode(new)))

    @cached_property
    def beginnings(self) -> Beginnings:
        """Carries prompts through the model."""
        return Beginnings(self.model, self.tokenizer.pad_token_id)

    @cached_property
    def ends(self) -> Set[int]:
        """Tokens that end an answer."""
        return {*self.model.generation_config.eos_token_id, self.tokenizer.pad_token_id}

    def _uniforms(self, seeds: list[int]) -> Tensor:
        """[rows, steps] float64 in [0, 1): every row's own random numbers."""
        rows = [np.random.default_rng(seed).random(self.settings.max_new_tokens) for seed in seeds]
        return torch.from_numpy(np.stack(rows)).to(self.device)

    @torch.no_grad()
    def sample_whole(self, tokens: list[list[int]], seeds: list[int]) -> list[list[int]]:
        """The same by transformers' own loop, for models that cannot share what prompts begin with."""
        padded = self.tokenizer.pad({"input_ids": tokens}, padding_side="left", return_tensors="pt").to(self.device)
        start = padded["input_ids"].shape[1]
        processors = LogitsProcessorList()
        if self.settings.temperature > 0:
            processors.append(OwnNumbers(self._uniforms(seeds), self.settings.temperature))
        output = self.model.generate(
            input_ids=padded["input_ids"],
            attention_mask=padded["attention_mask"],
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([OneLine(self.tokenizer, start)]),
        )
        return [list(takewhile(lambda token: token not in self.ends, row)) for row in output[:, start:].tolist()]


def drawn(logits: Tensor, uniforms: Tensor, temperature: float) -> Tensor:
    """[rows, vocabulary] and [rows] float64 to [rows] tokens: the likeliest at temperature 0, else by inverse transform
    sampling, the token at which a row's cumulated probability passes its own number."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    cumulated = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    thresholds = uniforms[:, None] * cumulated[:, -1:]
    return torch.searchsorted(cumulated, thresholds, right=True).clamp(max=logits.shape[1] - 1)[:, 0]


class OwnNumbers(LogitsProcessor):
    """`drawn` for transformers' own loop: leaves one token per row possible, so that taking the likeliest takes it."""

    def __init__(self, uniforms: Tensor, temperature: float) -> None:
        """`uniforms`: [rows, steps] float64 in [0, 1)."""
        self.uniforms, self.temperature, self.step = uniforms, temperature, 0

    def __call__(self, input_ids: LongTensor, scores: FloatTensor) -> FloatTensor:
        """[rows, tokens so far] ids and [rows, vocabulary] logits to logits."""
        chosen = drawn(scores, self.uniforms[:, self.step], self.temperature)[:, None]
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
