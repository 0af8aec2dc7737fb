"""Model families: how a student pools, what it puts before queries and documents. Facts are rows.

Each row names its source; table 1 of arXiv 2502.19712 has the same for bge, e5, gte v1.5 and arctic v1.5.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from hone.backends.precision import PrecisionSetting
from hone.config import ModelSource, Resource, Settings

Pooling = Literal["cls", "mean", "last"]


class BiEncoder(Settings):
    """A retriever: one vector for each text."""

    model: ModelSource
    """A sentence-transformers or transformers folder with safetensors weights, hf://OWNER/NAME or package:NAME."""
    pooling: Literal["auto", "cls", "max", "mean", "mean_sqrt_len", "weightedmean", "last"] = "auto"
    """How token vectors become one; auto takes what the folder declares, else the model family's."""
    query_prefix: str = "auto"
    """Put before every query; auto takes what the folder declares, else the model family's."""
    doc_prefix: str = "auto"
    """Put before every document; auto as above."""
    trust_code: str = ""
    """A model that brings its own code is run only if this is the sha256 of that code, which the refusal names."""
    max_query_tokens: int = Field(default=64, ge=1)
    """Queries are cut to this many tokens."""
    max_doc_tokens: int = Field(default=512, ge=1)
    """Documents are cut to this many tokens."""
    packed: Annotated[bool, Resource()] = True
    """On a GPU with bf16, put texts one after another instead of padding them, where the student gives the same vectors
    that way; otherwise they are padded."""
    precision: PrecisionSetting = "fp32"
    """bf16 computes matrix products in bfloat16 (weights stay fp32): about twice as fast where the device has it, many
    times as slow where it is emulated. auto takes bf16 where the GPU or the processor computes in it, else fp32."""


class Student(BiEncoder):
    """The retriever that is specialised."""

    start: Annotated[Literal["base", "published"], Resource()] = "base"
    """Where training starts. published: from the model that is current under `publish.domain`, if there is one that was
    trained on other lists than these, against which the new one is then judged too. All other stages use `model`."""


@dataclass(frozen=True)
class Family:
    """One row: models whose name contains `match` as a whole word."""

    match: str
    pooling: Pooling
    query_prefix: str = ""
    doc_prefix: str = ""
    source: str = ""
    """The model whose card says so."""
    ends: bool = False
    """Whether a text ends with the mark for the end also where the tokenizer in the folder sets none."""
    both_ways: bool = False
    """Whether the layers of a decoder look both ways, as the code that its folder brings does and transformers' own
    does only if asked."""


INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
REPRESENT = "Represent this sentence for searching relevant passages: "
REPRESENT_ZH = "为这个句子生成表示以用于检索相关文章："
FAMILIES = (
    Family("bge-m3", "cls", source="BAAI/bge-m3"),
    *(Family(f"bge-{size}-zh", "cls", REPRESENT_ZH, source=f"BAAI/bge-{size}-zh-v1.5")
      for size in ("small", "base", "large")),
    *(Family(f"bge-{size}-en", "cls", REPRESENT, source=f"BAAI/bge-{size}-en-v1.5")
      for size in ("small", "base", "large")),
    Family("mxbai-embed-large", "cls", REPRESENT, source="mixedbread-ai/mxbai-embed-large-v1"),
    Family("snowflake-arctic-embed-m-v2", "cls", "query: ", source="Snowflake/snowflake-arctic-embed-m-v2.0"),
    Family("snowflake-arctic-embed-l-v2", "cls", "query: ", source="Snowflake/snowflake-arctic-embed-l-v2.0"),
    Family("snowflake-arctic-embed", "cls", REPRESENT, source="Snowflake/snowflake-arctic-embed-m-v1.5"),
    Family("e5-mistral", "last", f"{INSTRUCTION} ", source="intfloat/e5-mistral-7b-instruct", ends=True),
    Family("e5-large-instruct", "mean", f"{INSTRUCTION} ", source="intfloat/multilingual-e5-large-instruct"),
    Family("e5", "mean", "query: ", "passage: ", source="intfloat/e5-base-v2"),
    Family("gte-qwen2", "last", f"{INSTRUCTION} ", source="Alibaba-NLP/gte-Qwen2-1.5B-instruct",
           ends=True, both_ways=True),
    Family("gte-modernbert", "cls", source="Alibaba-NLP/gte-modernbert-base"),
    Family("gte-multilingual", "cls", source="Alibaba-NLP/gte-multilingual-base"),
    Family("gte-base-en", "cls", source="Alibaba-NLP/gte-base-en-v1.5"),
    Family("gte-large-en", "cls", source="Alibaba-NLP/gte-large-en-v1.5"),
    Family("gte", "mean", source="thenlper/gte-base; arXiv 2308.03281"),
    Family("granite-embedding", "cls", source="ibm-granite/granite-embedding-english-r2"),
    Family("modernbert-embed", "mean", "search_query: ", "search_document: ", "nomic-ai/modernbert-embed-base"),
    Family("nomic-embed", "mean", "search_query: ", "search_document: ", "nomic-ai/nomic-embed-text-v1.5"),
    Family("embeddinggemma", "mean", "task: search result | query: ", "title: none | text: ",
           "google/embeddinggemma-300m"),
    Family("qwen3-embedding", "last", INSTRUCTION, source="Qwen/Qwen3-Embedding-0.6B"),
    Family("", "mean", source="the pooling of most sentence-transformers models"),
)  # fmt: skip
"""Texts are padded on the right for all: last-token pooling takes the last real token, and a decoder's positions start
at the first, so that models whose cards pad on the left get the same vectors."""


def family(name: str) -> Family:
    """The first row that matches a model's name, such as multilingual-e5-base; the last row matches all."""
    words = f"-{re.sub(r'[^a-z0-9]+', '-', name.lower())}-"
    return next(row for row in FAMILIES if not row.match or f"-{row.match}-" in words)


def doc_text(title: str, text: str) -> str:
    """A document as models and BM25 read it: title and body."""
    return f"{title} {text}".strip()
