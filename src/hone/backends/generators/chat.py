"""The tokenizer side of a chat model: requests become prompts that fit the model, without loading any weights."""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from hone.backends.generators.answers import Request
from hone.backends.generators.settings import Sampling
from hone.errors import UserError
from hone.inputs import model_folder

LEAST_ROOM = 32
"""A document of fewer tokens says too little to be asked about."""


class Chat:
    """A chat model's template and tokens."""

    def __init__(self, folder: Path, settings: Sampling, probes: Sequence[Request] = ()) -> None:
        """`probes` are the longest prompts without a document. Raises UserError if `folder` is not a chat model with
        safetensors weights, or if its context has no room for a document."""
        model_folder.check(folder)
        self.folder, self.settings = folder, settings
        self.tokenizer = open_tokenizer(folder)
        if not self.tokenizer.chat_template:
            raise UserError(f"{folder} has no chat template; name an instruction-tuned model in generate.llm.model")
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self._ends = lru_cache(1)(self._token_ends)
        lengths = self.tokens([self._render(probe.prompt("")) for probe in probes]) if probes else [[]]
        least = max(map(len, lengths)) + settings.max_new_tokens
        if least + LEAST_ROOM > self.context:
            raise UserError(self._no_room())
        self.limit = min(self.context, least + settings.max_doc_tokens) if probes else self.context

    @cached_property
    def context(self) -> int:
        """Tokens of prompt and answer together that the model can take."""
        config: Any = AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        stated = getattr(config.get_text_config(), "max_position_embeddings", None)
        return min(int(stated or self.tokenizer.model_max_length), int(self.tokenizer.model_max_length))

    def prompt(self, request: Request) -> str:
        """The rendered chat, up to where the answer begins; the document is cut by tokens until all fits.

        Raises UserError if the model's context has no room for a document.
        """
        ends = self._ends(request.doc)
        room = len(ends)
        while True:
            text = self._render(request.prompt(request.doc[: ends[room - 1]] if room else ""))
            excess = len(self.tokens([text])[0]) + self.settings.max_new_tokens - self.limit
            if excess <= 0:
                return text
            if excess >= room:
                raise UserError(self._no_room())
            room -= excess

    def tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids; the template has written the special tokens already."""
        return self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]

    def _no_room(self) -> str:
        return (
            f"the context of {self.folder} ({self.context} tokens) has no room for a document beside prompt and "
            "answer; lower generate.llm.max_new_tokens or name another model"
        )

    def _render(self, content: str) -> str:
        """Only a user's turn, as some templates know no system role; templates that can switch thinking off do."""
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )

    def _token_ends(self, doc: str) -> list[int]:
        return token_ends(self.tokenizer, doc, self.settings.max_doc_tokens)


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer of a model folder; never runs code from it."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def token_ends(tokenizer: Any, doc: str, limit: int) -> list[int]:
    """Where in `doc` each of its first `limit` tokens ends, in characters."""
    encoded = tokenizer(
        doc, add_special_tokens=False, return_offsets_mapping=True, truncation=True, max_length=limit
    )  # fmt: skip
    return [end for _, end in encoded["offset_mapping"]]
