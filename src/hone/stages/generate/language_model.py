"""Which language model writes queries, where it runs, how it is sampled and what it is asked for."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from hone.config import Address, Resource, Settings
from hone.inputs.references import ModelSource, Source
from hone.stages.generate.prompts import checked_template
from hone.stages.generate.styles import STYLES, Style, counts_of


class Endpoint(Settings):
    """An OpenAI-compatible server. Its key comes from the environment or a mounted file, never from the settings."""

    url: Address = ""
    """The base address, such as http://127.0.0.1:8000/v1."""
    model: str = ""
    """The name under which the server offers the model."""
    revision: str = ""
    """Which revision of the model that is, in your own words: after a change of it everything is generated anew."""
    tokenizer: Source = ""
    """A folder with the model's tokenizer, to cut documents by; without it a token is taken to be 3 bytes of UTF-8."""
    key_variable: Annotated[str, Resource()] = "OPENAI_API_KEY"
    """The environment variable that holds the key."""
    key_file: Annotated[str, Resource()] = ""
    """A mounted file that holds the key, instead of the environment."""
    concurrency: Annotated[int, Resource()] = Field(default=32, ge=1)
    """Requests under way at once."""
    timeout: Annotated[float, Resource()] = Field(default=120.0, gt=0)
    """Seconds after which a request is given up and sent again."""
    attempts: Annotated[int, Resource()] = Field(default=8, ge=1)
    """How often a request is sent before the run stops; what is finished is kept."""
    length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the server calls the limit of an answer."""
    extra_body: dict[str, Any] = Field(default={})
    """Further fields of every request, such as chat_template_kwargs: {enable_thinking: false}."""


class LanguageModel(Settings):
    """Which language model writes queries, and how it is sampled."""

    model: ModelSource = ""
    """The folder of a causal language model with a chat template and safetensors weights."""
    endpoint: Annotated[Endpoint, Field(validate_default=True)] = Endpoint()
    """The server of the source openai."""
    define: dict[str, Style] = Field(default={})
    """Styles of your own by name, or another instruction and examples for those that come with Hone."""
    styles: dict[str, float] = dict.fromkeys(STYLES, 1.0)
    """How many queries of each style a document is asked for; 0.25 asks every fourth document."""
    layout: Literal["guide", "examples", "document"] = "guide"
    """What comes first in a prompt: a guide to all styles, the examples of the one style, or the document."""
    example_sets: int = Field(default=16, ge=0)
    """Into how many sets the examples are drawn; a document's hash picks one, so that many documents share the
    beginning of their prompts. 0 draws for every document anew."""
    template: str = ""
    """A Jinja template of your own in place of the layout, with document, style (name, instruction, max_words,
    examples), styles (all of them) and language."""
    language: str = ""
    """ISO 639-1 code of the language to write in, such as de; empty for that of the document."""
    temperature: float = Field(default=0.8, ge=0)
    """Sampling temperature; 0 always takes the likeliest token."""
    max_new_tokens: int = Field(default=50, ge=1)
    """An answer is cut after this many tokens."""
    max_doc_tokens: int = Field(default=512, ge=1)
    """Of a document, this many tokens are shown; fewer if the model's context is too small."""
    max_copied_words: int = 10
    """Longer runs of words copied from the document are dropped."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """The precision of weights and computation; bf16 halves the memory."""
    token_budget: Annotated[int, Resource()] = 16_384
    """Tokens sampled at once by the source transformers, padding and answers included."""
    tensor_parallel: Annotated[int, Resource()] = Field(default=1, ge=1)
    """GPUs that the source vllm divides the model among."""
    gpu_memory: Annotated[float, Resource()] = Field(default=0.9, gt=0, le=1)
    """Share of each GPU's memory that the source vllm takes."""
    batch: Annotated[int, Resource()] = Field(default=1_024, ge=1)
    """Prompts handed to the model at once; a killed run writes at most so many of its answers again."""

    @field_validator("styles")
    @classmethod
    def _known(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        return dict(counts_of({**STYLES, **info.data.get("define", {})}, value))

    @field_validator("language")
    @classmethod
    def _two_letters(cls, value: str) -> str:
        if value and not re.fullmatch("[a-z]{2}", value):
            raise ValueError("give the two letters of ISO 639-1, such as de, or nothing for the document's language")
        return value

    @field_validator("template")
    @classmethod
    def _usable(cls, value: str) -> str:
        return checked_template(value) if value else value

    @property
    def known_styles(self) -> dict[str, Style]:
        """Hone's styles and the user's."""
        return {**STYLES, **self.define}
