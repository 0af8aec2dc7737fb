"""Model families: how a student pools, what it puts before queries and documents. Facts are rows.

Sources: the model cards of each family, and table 1 of arXiv 2502.19712.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from hone.config import Resource, Settings
from hone.sources import ModelSource

Pooling = Literal["cls", "mean", "last"]


class Student(Settings):
    """The retriever that is specialised."""

    model: ModelSource
    """A sentence-transformers or transformers folder with safetensors weights, or package:NAME."""
    pooling: Literal["auto", "cls", "mean", "last"] = "auto"
    """How token vectors become one; auto takes what the folder declares, else the model family's."""
    query_prefix: str = "auto"
    """Put before every query; auto takes what the folder declares, else the model family's."""
    doc_prefix: str = "auto"
    """Put before every document; auto as above."""
    trust_code: str = ""
    """A model that brings its own code is run only if this is the sha256 of that code, which the refusal tells."""
    max_query_tokens: int = 64
    """Queries are cut to this many tokens."""
    max_doc_tokens: int = 512
    """Documents are cut to this many tokens."""
    packed: Annotated[bool, Resource()] = True
    """On a GPU with bf16, put texts one after another instead of padding them, where the student gives the same vectors
    that way; otherwise they are padded."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes matrix products in bfloat16 (weights stay fp32): about twice as fast where the device has it."""


@dataclass(frozen=True)
class Family:
    """One row: models whose name contains `match` as a whole word."""

    match: str
    pooling: Pooling
    query_prefix: str = ""
    doc_prefix: str = ""


INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
FAMILIES = (
    Family("bge", "cls", "Represent this sentence for searching relevant passages: "),
    Family("snowflake-arctic-embed", "cls", "Represent this sentence for searching relevant passages: "),
    Family("e5-mistral", "last", f"{INSTRUCTION} "),
    Family("e5", "mean", "query: ", "passage: "),
    Family("gte", "cls"),
    Family("modernbert-embed", "mean", "search_query: ", "search_document: "),
    Family("nomic-embed", "mean", "search_query: ", "search_document: "),
    Family("qwen3-embedding", "last", INSTRUCTION),
    Family("", "mean"),
)


def family(name: str) -> Family:
    """The first row that matches a model's name, such as multilingual-e5-base; the last row matches all."""
    words = f"-{re.sub(r'[^a-z0-9]+', '-', name.lower())}-"
    return next(row for row in FAMILIES if not row.match or f"-{row.match}-" in words)


def doc_text(title: str, text: str) -> str:
    """A document as models and BM25 read it: title and body."""
    return f"{title} {text}".strip()
