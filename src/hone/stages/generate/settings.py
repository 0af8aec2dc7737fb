"""Settings of generate beside those of the language model: the other sources, and what makes a query unusable."""

from typing import Annotated

from pydantic import Field, field_validator

from hone.config import Settings
from hone.core import extractive
from hone.inputs.references import Source
from hone.stages.generate.styles import counts_of

PEOPLE = ("log", "human")
"""Sources whose queries people asked."""


class Extractive(Settings):
    """Queries cut from the documents, without any model."""

    styles: dict[str, float] = Field(default={"search": 2, "span": 1})
    """How many queries of each style are drawn per document: search, span, sentence, title; 0.5 draws one from every
    second document."""

    @field_validator("styles")
    @classmethod
    def _known(cls, value: dict[str, float]) -> dict[str, float]:
        return dict(counts_of(extractive.STYLES, value))


class Log(Settings):
    """A query log beside its file and field."""

    time_field: str = ""
    """The field that says when a query was asked, in a form that sorts as text, such as 2026-05-01; empty takes the
    order of the file, newest last."""
    min_count: int = Field(default=1, ge=1)
    """Queries asked fewer times are dropped."""
    holdout: float = Field(default=0.0, ge=0, lt=1)
    """Queries first asked in this last share of the log are dropped, so that you can measure with them."""


class Human(Settings):
    """Queries of people whose document is known, such as clicks; test queries among them are dropped."""

    file: Annotated[Source, Field(validate_default=True)] = ""
    """A .jsonl, .csv or .parquet file with a query and a document's id in each row."""
    text_field: str = "text"
    """The field that holds the query."""
    doc_field: str = "doc_id"
    """The field that holds the document's id."""


class Cleaning(Settings):
    """What makes a query unusable. Near duplicates among all queries are dropped by mine (mine.near_duplicate)."""

    near_test_query: float = Field(default=0.8, ge=0, le=1)
    """Any query, whoever asked it, is dropped if it shares this much of its letter sequences (Jaccard) with a test
    query; 0 drops none but the test queries themselves."""
    wrong_language: bool = True
    """Drop a language model's query that is certainly not in llm.language, or in the language of its document."""
    blocked_words: Source = ""
    """A text file of words or phrases, one per line; queries with any of them are dropped. None come with Hone."""
    personal_data: bool = False
    """Drop queries with an e-mail address, a telephone or card number, or an IBAN."""
