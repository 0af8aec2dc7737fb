"""generate: queries to train with, cut from documents, written by a language model, or asked by people.

The sources are the modules `from_*`: each makes drafts, and every draft is judged and becomes a row.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from hone.backends import BACKENDS
from hone.config import StageConfig
from hone.context import MOST_BUCKETS, Job
from hone.core.near_duplicates import NearDuplicates
from hone.errors import UserError
from hone.evaluation.test_collections import GuardSet, JudgedSet, test_queries
from hone.inputs.references import Source, declared_licence
from hone.progress import Task, task
from hone.stages.generate.cleaning import Cleaner, Draft
from hone.stages.generate.from_documents import MADE, extracts
from hone.stages.generate.from_model import ModelAsks
from hone.stages.generate.from_people import People
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.outcomes import rules_of, write
from hone.stages.generate.sample import Doc, Sample
from hone.stages.generate.settings import PEOPLE, Cleaning, Extractive, Human, Log
from hone.stages.generate.styles import drawn

IMAGE = "train"
READS = ("docs", "judged_queries")
WRITES = ("queries", "dropped_by_generate")

PEOPLE_BUCKET = MOST_BUCKETS


class Config(StageConfig):
    """Settings of generate."""

    sharded = True

    sources: tuple[str, ...] = ("extractive",)
    """Where queries come from, any of: extractive (cut from documents), log (a file of real queries), human (real
    queries with their documents), or a language model: transformers or vllm (in this process) or openai (any
    OpenAI-compatible server)."""
    mix: dict[str, float] = Field(default={})
    """Relative weight of each source among the drafts, such as {log: 1, vllm: 2}; empty takes all that each source
    has."""
    query_log: Annotated[Source, Field(validate_default=True)] = ""
    """Real queries without judgements: .txt with one per line, or .jsonl, .csv or .parquet with a field."""
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
    min_words: int = 2
    """Shorter queries are dropped."""
    max_words: int = 64
    """Longer queries are dropped, whatever their source; a language model's styles have lower limits of their own."""
    seed: int = 17
    """Draws the sample of documents, the extracts, the examples in prompts and the answers."""

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
        if value and (set(value) != set(info.data.get("sources", ())) or min(value.values()) <= 0):
            raise ValueError("give every one of generate.sources, and nothing else, a weight above 0")
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
        of_model, of_text = sum(self.llm.styles.values()), sum(self.extractive.styles.values())
        return {source: of_text if source in MADE else of_model for source in self.sources if source not in PEOPLE}


Ask = Callable[[list[Doc], Task], Iterator[Draft]]
"""A source: documents to drafts, told as progress."""


def run(config: Config, job: Job) -> None:
    """Drafts queries bucket by bucket, judges every draft, and writes what is kept and what is dropped."""
    tests, rules = test_queries(job, (*config.tests, *config.guards)), rules_of(config, job)
    near_tests = NearDuplicates.of(sorted(tests), config.clean.near_test_query)
    sample = Sample.draw(job, config.seed, config.max_docs)
    people = People(config, job)
    asked = people.counts()
    shares = shares_of(config.mix, {**asked, **{name: sample.size * n for name, n in config.per_doc.items()}})
    if job.shard.index == 0:
        job.facts["target"] = targets(config, shares, asked, sample.size)
        if config.llm.model and (licence := declared_licence(job.source(config.llm.model))):
            job.facts["licence"] = licence
    asks = [_ask(source, config, job, shares[source], tests) for source in config.per_doc]
    if people.sources and job.shard.index == 0:
        thinned = (draft for draft in people.drafts() if drawn(config.seed, draft.text) < shares[draft.source])
        write(job, PEOPLE_BUCKET, Cleaner(tests, rules, near_tests), thinned)
    if not asks:
        return
    total = sum(sample.size * count * shares[source] for source, count in config.per_doc.items())
    with task("generate", -(-round(total) // job.shard.count), "drafts") as progress:
        for bucket in job.buckets("docs", by="doc_id"):
            docs = list(sample.chosen(bucket.rows))
            drafts = (draft for ask in asks for draft in ask(docs, progress))
            write(job, bucket.number, Cleaner(tests, rules, near_tests), drafts)


def shares_of(mix: Mapping[str, float], drafts: Mapping[str, float]) -> dict[str, float]:
    """The share of its drafts that each source gives: all, or with a `mix` as many as its weight allows while the
    source that is short for its weight gives all it has."""
    if not mix:
        return dict.fromkeys(drafts, 1.0)
    scale = min(count / mix[source] for source, count in drafts.items())
    return {source: scale * mix[source] / max(count, 1) for source, count in drafts.items()}


def targets(
    config: Config, shares: Mapping[str, float], people: Mapping[str, float], docs: int
) -> dict[str, dict[str, int]]:
    """How many queries of each source and style the settings want of so many documents; of people, all they asked."""
    per_doc = {source: config.extractive.styles if source in MADE else config.llm.styles for source in config.per_doc}
    wanted = {source: {style: count * docs for style, count in styles.items()} for source, styles in per_doc.items()}
    wanted |= {source: {source: count} for source, count in people.items()}
    return {
        source: {style: round(count * shares[source]) for style, count in styles.items() if count}
        for source, styles in wanted.items()
    }


def _ask(source: str, config: Config, job: Job, share: float, tests: Set[str]) -> Ask:
    if source in MADE:
        return partial(extracts, config, share)
    return ModelAsks(source, config, job, share, tests).drafts
