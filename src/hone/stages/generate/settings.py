"""The settings of generate: its sources, and what makes a query unusable."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from hone.backends import BACKENDS
from hone.config import Backend, Resource, Seed, Settings, Source, StageConfig
from hone.core import extractive
from hone.errors import UserError
from hone.evaluation.test_collections import GuardSet, JudgedSet
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.styles import Counts, counts_of
from hone.tables import PEOPLE

MADE = ("extractive",)
"""Sources that cut queries out of the documents."""


class Extractive(Settings):
    """Queries cut from the documents, without any model."""

    styles: Counts = Field(default={"search": 2, "span": 1})
    """How many queries of each style are drawn per document: search, span, sentence, title; 0.5 draws one from every
    second document."""

    @field_validator("styles")
    @classmethod
    def _known(cls, value: Counts) -> Counts:
        return counts_of(extractive.STYLES, value)


class Log(Settings):
    """A query log beside its file and field."""

    time_field: str = ""
    """The field that says when a query was asked: seconds since 1970 (or milliseconds and smaller), ISO 8601, the times
    of web servers, or a date with its time; UTC where no zone is given. Empty takes the order of the file, newest last.
    """
    time_format: str = ""
    """Its form as Python's strptime has it, such as '%d/%m/%Y %H:%M', where dates could have the day or the month
    first; empty recognises it."""
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
    most_dropped: Annotated[float, Resource()] = Field(default=0.8, ge=0, le=1)
    """The run stops if more than this share of a language model's first 200 answers is dropped; 1 never stops it."""


class Config(StageConfig):
    """Settings of generate."""

    sharded = True

    sources: Annotated[tuple[str, ...], Backend("generator")] = ("extractive",)
    """Where queries come from, any of: extractive (cut from documents), log (a file of real queries), human (real
    queries with their documents), or a language model: transformers or vllm (in this process) or openai (any
    OpenAI-compatible server)."""
    mix: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    """Relative weight of each source among the drafts, such as {log: 1, vllm: 2}; empty takes all that each source
    has."""
    query_log: Annotated[Source, Field(validate_default=True)] = ""
    """Real queries without judgements: text with one per line (.txt, .log), or a table with a field (JSON, CSV, TSV,
    Parquet, Arrow), packed or not."""
    query_field: str = "text"
    """The field of the query log that holds the query."""
    log: Log = Log()
    """Settings of the source log."""
    human: Annotated[Human, Field(validate_default=True)] = Human()
    """Settings of the source human."""
    extractive: Extractive = Extractive()
    """Settings of the source extractive."""
    llm: Annotated[LanguageModel, Field(validate_default=True)] = LanguageModel()
    """Settings of the language model."""
    tests: tuple[JudgedSet, ...] = ()
    """Test sets beside the corpus's own, whose queries are dropped too; those of evaluate.tests, unless set here."""
    guards: tuple[GuardSet, ...] = ()
    """Sets that choose how far training goes, whose queries are dropped too; those of distill.guards, unless set here.
    """
    clean: Cleaning = Cleaning()
    """What makes a query unusable."""
    max_docs: int = Field(default=100_000, ge=1)
    """At most so many documents are asked about, a sample by seed; held-out ones never are."""
    min_words: int = Field(default=2, ge=1)
    """Shorter queries are dropped."""
    max_words: int = Field(default=64, ge=1, validate_default=True)
    """Longer queries are dropped, whatever their source; a language model's styles have lower limits of their own."""
    seed: Seed = 17
    """Draws the sample of documents, the extracts, the examples in prompts and the answers."""

    @field_validator("max_words")
    @classmethod
    def _some_length_is_left(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("min_words", 0):
            raise ValueError("no query is left: min_words is more")
        return value

    @field_validator("sources")
    @classmethod
    def _known_sources(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = (*MADE, *PEOPLE, *BACKENDS["generator"])
        if not value or not set(value) <= set(known) or len(set(value)) < len(value):
            raise ValueError(f"name each source once, of {', '.join(known)}")
        return value

    @field_validator("mix")
    @classmethod
    def _weights_of_sources(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if value and set(value) != set(info.data.get("sources", ())):
            raise ValueError("give every one of generate.sources, and nothing else, a weight")
        return value

    @field_validator("query_log")
    @classmethod
    def _log_as_source(cls, value: str, info: ValidationInfo) -> str:
        if ("log" in info.data.get("sources", ())) != bool(value):
            raise ValueError("a query log needs both the file here and log among generate.sources")
        return value

    @field_validator("human")
    @classmethod
    def _human_as_source(cls, value: Human, info: ValidationInfo) -> Human:
        if ("human" in info.data.get("sources", ())) != bool(value.file):
            raise ValueError("human queries need both human.file and human among generate.sources")
        return value

    @field_validator("llm")
    @classmethod
    def _model_as_source(cls, value: LanguageModel, info: ValidationInfo) -> LanguageModel:
        backends = set(info.data.get("sources", ())) & set(BACKENDS["generator"])
        if backends - {"openai"} and not value.model:
            raise UserError("generate.llm.model is empty: name the folder of the language model that writes queries")
        if "openai" in backends and not (value.endpoint.url and value.endpoint.model):
            raise UserError("generate.llm.endpoint needs the url of the server and the name of its model")
        if backends and not any(value.styles.values()):
            raise UserError("generate.llm.styles asks for nothing: give at least one style a number above 0")
        return value

    @property
    def per_doc(self) -> dict[str, float]:
        """Drafts that each source makes of a document, on average."""
        return {source: sum(self.styles(source).values()) for source in self.sources if source not in PEOPLE}

    def styles(self, source: str) -> dict[str, float]:
        """Drafts of each style that a source which is no person makes of a document, on average."""
        return self.extractive.styles if source in MADE else self.llm.styles
