"""Where a language model runs and how it is sampled: what every generator backend is given."""

from typing import Annotated, Any, Literal

from pydantic import Field

from hone.backends.precision import PrecisionSetting
from hone.config import Address, ModelSource, Resource, Settings, Source


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


class Sampling(Settings):
    """A language model, where it runs and how it is sampled."""

    model: ModelSource = ""
    """The folder of a causal language model with a chat template and safetensors weights."""
    endpoint: Annotated[Endpoint, Field(validate_default=True)] = Endpoint()
    """The server of the source openai."""
    temperature: float = Field(default=0.8, ge=0)
    """Sampling temperature; 0 always takes the likeliest token."""
    max_new_tokens: int = Field(default=50, ge=1)
    """An answer is cut after this many tokens."""
    max_doc_tokens: int = Field(default=512, ge=1)
    """Of a document, this many tokens are shown; fewer if the model's context is too small."""
    precision: PrecisionSetting = "auto"
    """The precision of weights and computation; bf16 halves the memory. auto takes bf16 where the GPU or the processor
    computes in it, else fp32."""
    token_budget: Annotated[int, Resource()] = Field(default=16_384, ge=1)
    """Tokens held at once by the source transformers, padding and answers included; a processor takes fewer, so that
    little is lost with a kill."""
    tensor_parallel: Annotated[int, Resource()] = Field(default=1, ge=1)
    """GPUs that the source vllm divides the model among."""
    gpu_memory: Annotated[float, Resource()] = Field(default=0.9, gt=0, le=1)
    """Share of each GPU's memory that the source vllm takes."""
    batch: Annotated[int, Resource()] = Field(default=1_024, ge=1)
    """Prompts handed to the model at once."""
