"""vLLM as an offline engine in this process: token ids in, one seed per prompt, shared beginnings computed once."""

import os
from collections.abc import Iterator, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import ValidationError

from hone.backends.generators.answers import Answer, Request, is_complete
from hone.backends.generators.chat import Chat
from hone.backends.generators.settings import Sampling
from hone.backends.precision import DTYPES, PrecisionSetting, resolved_precision
from hone.errors import UserError

LARGEST_SEED = 2**63 - 1
ON_CPU: dict[str, Any] = {"enforce_eager": True, "block_size": 32, "enable_chunked_prefill": False, "max_num_seqs": 8}
"""Blocks of the prefix cache must be a multiple of 32 tokens, and seeded sampling there knows no divided prompts. More
texts at once are hardly faster there, and all that are under way are lost with a kill."""


class VLLM:
    """A language model in vLLM. Loads safetensors only and never code from the folder, when first needed."""

    local: ClassVar[bool] = True

    def __init__(self, folder: Path, settings: Sampling, probes: Sequence[Request] = ()) -> None:
        """Refuses as `Chat` does, before any weights are read."""
        self.chat, self.settings = Chat(folder, settings, probes), settings
        self.prompt = self.chat.prompt

    @property
    def gpus(self) -> int:
        """GPUs that are busy while it generates."""
        import torch

        return self.settings.tensor_parallel if torch.cuda.is_available() else 0

    @property
    def resolved(self) -> dict[str, str]:
        """The precision on this machine."""
        return {"precision": resolved_precision(self.settings.precision)}

    @cached_property
    def engine(self) -> Any:
        """The engine; its statistics are in `get_metrics()`."""
        return engine_of(
            self.chat.folder,
            self.settings,
            self.chat.limit,
            generation_config="vllm",  # the folder's own sampling settings must not mix with ours
            enable_prefix_caching=True,
            disable_log_stats=False,
        )

    def generate(
        self, prompts: Sequence[str], seeds: Sequence[int], wanted: Set[int] | None = None
    ) -> Iterator[dict[int, Answer]]:
        """Sampled answers by position, step by step of the engine; `seeds` are non-negative integers."""
        places = range(len(prompts)) if wanted is None else sorted(wanted)
        if not places:
            return
        from vllm import SamplingParams, TokensPrompt

        llm, engine = self.settings, self.engine.llm_engine
        under_way: set[str] = set()
        try:
            for at, ids in zip(places, self.chat.tokens([prompts[at] for at in places]), strict=True):
                seed = seeds[at] & LARGEST_SEED
                sampling = SamplingParams(temperature=llm.temperature, max_tokens=llm.max_new_tokens, seed=seed)
                engine.add_request(str(at), TokensPrompt(prompt_token_ids=ids), sampling)
                under_way.add(str(at))
            while under_way:
                finished = [output for output in engine.step() if output.finished]
                under_way.difference_update(output.request_id for output in finished)
                yield {int(output.request_id): _answer(output) for output in finished}
        finally:
            engine.abort_request(list(under_way))


class Placing(Protocol):
    """Settings that say how a model is loaded."""

    @property
    def precision(self) -> PrecisionSetting: ...
    @property
    def tensor_parallel(self) -> int: ...
    @property
    def gpu_memory(self) -> float: ...


def engine_of(folder: Path, placing: Placing, limit: int, **options: Any) -> Any:
    """vLLM's engine in this process for texts of at most `limit` tokens. Safetensors only, no code of the folder.

    Raises UserError if vLLM is not installed, or refuses its settings: too little memory, say, or a precision that
    the GPU does not know.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    import torch

    try:
        from vllm import LLM
    except ModuleNotFoundError as error:
        raise UserError(
            "vLLM is not installed: install hone-retrieval[vllm], or choose a model in transformers"
        ) from error
    try:
        return LLM(
            str(folder),
            load_format="safetensors",
            trust_remote_code=False,
            dtype=DTYPES[resolved_precision(placing.precision)],
            max_model_len=limit,
            tensor_parallel_size=placing.tensor_parallel,
            gpu_memory_utilization=placing.gpu_memory,
            seed=0,
            **options,
            **({} if torch.cuda.is_available() else ON_CPU),
        )
    except ValueError as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error).splitlines()[0]
        said = said.removeprefix("Value error, ").rstrip(".")
        cure = "change its gpu_memory, precision or tensor_parallel in the settings"
        raise UserError(f"vLLM does not start with {folder}: {said}; {cure}") from error


def _answer(output: Any) -> Answer:
    made = output.outputs[0]
    cut = made.finish_reason == "length" and not is_complete(made.text)
    cached = output.num_cached_tokens or 0
    return Answer(made.text, cut, len(output.prompt_token_ids), cached, len(made.token_ids))
