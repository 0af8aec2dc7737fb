"""generate: queries to train with, cut from documents, written by a language model or taken from a log."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationInfo, field_validator

from hone import readers, tables
from hone.backends import BACKENDS, load
from hone.core import answers, extractive, styles
from hone.core.answers import Answer, Interrupted
from hone.core.cleaning import Cleaner, Draft, Fault, answered, normalised
from hone.core.families import doc_text
from hone.core.llm import LanguageModel
from hone.core.styles import counts_of
from hone.errors import UserError
from hone.progress import Task, task
from hone.sources import Source
from hone.stage import MOST_BUCKETS, Job, Settings, StageConfig

IMAGE = "train"
READS = ("docs", "judged_queries")
WRITES = ("queries", "dropped_by_generate")

LOG_BUCKET = MOST_BUCKETS
DRAFTS_AT_ONCE = 1_024
TOKEN_COSTS = ("prompt_tokens", "cached_tokens", "new_tokens")
EXAMPLES_KEPT = 3


class Extractive(Settings):
    """Queries cut from the documents, without any model."""

    styles: dict[str, int] = Field(default={"search": 2, "span": 1})
    """How many queries of each style are drawn per document: search, span, sentence, title."""

    @field_validator("styles")
    @classmethod
    def _known(cls, value: dict[str, int]) -> dict[str, int]:
        return counts_of(extractive.STYLES, value)


class Config(StageConfig):
    """Settings of generate."""

    sharded = True

    sources: tuple[str, ...] = ("extractive",)
    """Where queries come from, any of: extractive (cut from documents), log (a file of real queries), or a language
    model: transformers or vllm (in this process) or openai (any OpenAI-compatible server)."""
    query_log: Annotated[Source, Field(validate_default=True)] = ""
    """Real queries without judgements: .txt with one per line, or .jsonl, .csv or .parquet with a field."""
    query_field: str = "text"
    """The field of the query log that holds the query."""
    extractive: Extractive = Extractive()
    """Settings of the source extractive."""
    llm: Annotated[LanguageModel, Field(validate_default=True)] = LanguageModel()
    """Settings of the language model."""
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
        known = ("extractive", "log", *BACKENDS["generator"])
        if not value or not set(value) <= set(known) or len(set(value)) < len(value):
            raise ValueError(f"name each source once, of {', '.join(known)}")
        return value

    @field_validator("query_log")
    @classmethod
    def _log_as_source(cls, value: str, info: ValidationInfo) -> str:
        if ("log" in info.data.get("sources", ())) != bool(value):
            raise ValueError("a query log needs both the file here and log among generate.sources")
        return value

    @field_validator("llm")
    @classmethod
    def _model_as_source(cls, value: LanguageModel, info: ValidationInfo) -> LanguageModel:
        backends = set(info.data.get("sources", ())) & set(BACKENDS["generator"])
        if backends - {"openai"} and not value.model:
            raise UserError("generate.llm.model is empty: name the folder of the language model that writes queries")
        if "openai" in backends and not (value.endpoint.url and value.endpoint.model):
            raise UserError("generate.llm.endpoint needs the url of the server and the name of its model")
        return value


@dataclass(frozen=True)
class Doc:
    """A document that is asked about."""

    doc_id: str
    title: str
    text: str

    @property
    def whole(self) -> str:
        return doc_text(self.title, self.text)


Ask = Callable[[list[Doc], Task], Iterator[Draft]]


def run(config: Config, job: Job) -> None:
    """Drafts queries bucket by bucket, judges every draft, and writes what is kept and what is dropped."""
    asks = [_ask(source, config, job) for source in config.sources if source != "log"]
    tests = _test_queries(job)
    if "log" in config.sources and job.shard.index == 0:
        _write(config, job, LOG_BUCKET, tests, _log_drafts(config, job))
    if not asks:
        return
    sample = Sample.draw(config, job)
    with task("generate", -(-sample.size * _per_doc(config) // job.shard.count), "drafts") as progress:
        for bucket in job.buckets("docs", by="doc_id"):
            docs = list(sample.chosen(bucket.rows))
            drafts = (draft for ask in asks for draft in ask(docs, progress))
            _write(config, job, bucket.number, tests, drafts)


@dataclass(frozen=True)
class Sample:
    """Which documents are asked about: not held out, and among the `size` smallest hashes of seed and id."""

    seed: int
    size: int
    limit: int
    shared_titles: Set[int]

    @classmethod
    def draw(cls, config: Config, job: Job) -> "Sample":
        """One pass over the corpus that keeps 8 bytes per document: every shard draws the same sample."""
        hashes: list[np.ndarray] = []
        titles: list[np.ndarray] = []
        for batch in job.table("docs").batches(["doc_id", "title", "held_out"]):
            ids, names, held_out = (column.to_pylist() for column in batch.columns)
            free = [doc_id for doc_id, held in zip(ids, held_out, strict=True) if not held]
            hashes.append(np.array([_hash(config.seed, doc_id) for doc_id in free], dtype=np.uint64))
            titles.append(np.array([_hash("title", name) for name in names if name], dtype=np.uint64))
        order = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
        size = min(config.max_docs, len(order))
        return cls(config.seed, size, int(order[size - 1]) if size else -1, _repeated(titles))

    def chosen(self, rows: pa.Table) -> Iterator[Doc]:
        """The sampled documents among rows of docs. A title that several documents share tells none of them apart and
        is left out."""
        columns = (rows[name].to_pylist() for name in ("doc_id", "title", "text", "held_out"))
        for doc_id, title, text, held_out in zip(*columns, strict=True):
            if not held_out and _hash(self.seed, doc_id) <= self.limit:
                yield Doc(doc_id, "" if _hash("title", title) in self.shared_titles else title, text)


def _ask(source: str, config: Config, job: Job) -> Ask:
    if source == "extractive":
        return partial(_extracts, config)
    return ModelAsks(source, config, job).drafts


def _extracts(config: Config, docs: list[Doc], progress: Task) -> Iterator[Draft]:
    wanted = _numbered(config.extractive.styles)
    for doc in docs:
        for style, number in wanted:
            text = extractive.draw(style, doc.title, doc.text, seed=config.seed, doc_id=doc.doc_id, number=number)
            if text is not None:
                yield Draft("extractive", style, doc.doc_id, text, doc.whole)
        progress.advance(len(wanted))


class ModelAsks:
    """A language model as a source of drafts. An answer is paid for once: it is kept by prompt, model and decoding."""

    def __init__(self, source: str, config: Config, job: Job) -> None:
        self.source, self.config, self.job = source, config, job
        self.generator, model = _generator(source, config.llm, job)
        decoding = config.llm.model_dump_json(include={"temperature", "max_new_tokens", "precision"})
        self.answers = job.memo("answers", f"{source} {model} {decoding} {config.seed}", answers.TYPE)

    def drafts(self, docs: list[Doc], progress: Task) -> Iterator[Draft]:
        """One draft per document, style and number."""
        asked = [(doc, style, number) for doc in docs for style, number in _numbered(self.config.llm.styles)]
        seed = self.config.seed
        prompts = [
            self.generator.prompt(styles.request(style, doc.whole, seed, doc.doc_id, number))
            for doc, style, number in asked
        ]
        keys = [f"{number}\0{prompt}" for (_, _, number), prompt in zip(asked, prompts, strict=True)]
        found = self._answers(keys, prompts, progress)
        for (doc, style, _), answer in zip(asked, found, strict=True):
            limit = styles.STYLES[style].max_words
            yield Draft(self.source, style, doc.doc_id, answered(answer.text), doc.whole, limit, by_model=True)

    def _answers(self, keys: list[str], prompts: list[str], progress: Task) -> Iterator[Answer]:
        """The answer of every prompt; what is finished when the model fails is kept. Raises what it failed with."""

        def work(positions: list[int]) -> pa.Array:
            seeds = [_hash(self.config.seed, keys[position]) for position in positions]
            try:
                found = self.generator.generate([prompts[position] for position in positions], seeds)
            except Interrupted as stop:
                raise Interrupted({positions[at]: answer for at, answer in stop.answers.items()}, stop.cause) from stop
            return self._paid(found)

        try:
            rows = self.answers.compute(keys, work, chunk=self.config.llm.batch, task=progress)
        except Interrupted as stop:
            places, kept = list(stop.answers), list(stop.answers.values())
            self.answers.compute([keys[place] for place in places], lambda at: self._paid([kept[i] for i in at]))
            raise stop.cause from stop
        return (Answer(**row) for row in rows.to_pylist())

    def _paid(self, found: Iterable[Answer]) -> pa.Array:
        rows = [vars(answer) for answer in found]
        sums = {key: sum(row[key] for row in rows) for key in TOKEN_COSTS}
        self.job.cost.update({key: count for key, count in sums.items() if count})
        return pa.array(rows, answers.TYPE)


def _generator(source: str, llm: LanguageModel, job: Job) -> tuple[Any, str]:
    """A backend, and what identifies its model."""
    backend = load("generator", source)
    if backend.local:
        return backend(job.source(llm.model), llm), job.digest(llm.model)
    tokenizer = job.source(llm.endpoint.tokenizer) if llm.endpoint.tokenizer else None
    return backend(tokenizer, llm), llm.endpoint.model_dump_json(include={"model", "revision", "extra_body"})


def _write(config: Config, job: Job, number: int, tests: Set[str], drafts: Iterable[Draft]) -> None:
    """Judges the drafts of one bucket and writes its rows. Duplicates are looked for within the bucket."""
    cleaner = Cleaner(tests, config.min_words, config.max_words, config.llm.max_copied_words)
    waiting = iter(drafts)
    with job.writer("queries", number) as queries, job.writer("dropped_by_generate", number) as dropped:
        while block := list(islice(waiting, DRAFTS_AT_ONCE)):
            judged = [(draft, cleaner.judge(draft)) for draft in block]
            for draft, fault in judged:
                _note(job, draft, fault)
            kept = [_query(draft) for draft, fault in judged if fault is None]
            queries.write(tables.QUERIES.build(kept))
            lost = [_drop(draft, fault) for draft, fault in judged if fault is not None]
            dropped.write(tables.DROPPED_BY_GENERATE.build(lost))
            job.cost["queries"] += len(kept)


def _query(draft: Draft) -> dict[str, object]:
    return {
        "query_id": _query_id(draft),
        "text": draft.text,
        "doc_id": draft.doc_id,
        "source": draft.source,
        "style": draft.style,
    }


def _drop(draft: Draft, fault: Fault) -> dict[str, object]:
    return {"id": _query_id(draft), "stage": "generate", "reason": fault.reason, "detail": fault.detail}


def _note(job: Job, draft: Draft, fault: Fault | None) -> None:
    """Counts a draft in the facts: kept or dropped, by source, style and reason, with a few of the dropped."""
    outcome = job.facts.setdefault("kept" if fault is None else "dropped", {}).setdefault(draft.source, {})
    if fault is None:
        outcome[draft.style] = outcome.get(draft.style, 0) + 1
        return
    reason = outcome.setdefault(draft.style, {}).setdefault(fault.reason, {"count": 0, "examples": []})
    reason["count"] += 1
    if len(reason["examples"]) < EXAMPLES_KEPT:
        reason["examples"].append(fault.detail)


def _query_id(draft: Draft) -> str:
    return f"{_hash(draft.source, draft.style, draft.doc_id, draft.text):016x}"


def _test_queries(job: Job) -> Set[str]:
    rows = job.table("judged_queries").read(["text", "split"]).to_pylist()
    return {normalised(row["text"]) for row in rows if row["split"] == "test"}


def _log_drafts(config: Config, job: Job) -> Iterator[Draft]:
    for text in read_log(job.source(config.query_log), config.query_field):
        yield Draft("log", "log", "", " ".join(text.split()))


def read_log(path: Path, field: str) -> Iterator[str]:
    """The queries of a log, in order; empty ones are skipped. Raises UserError naming file and line."""
    if path.suffix == ".txt":
        yield from (line for _, line in readers.lines(path) if line.strip())
        return
    if path.suffix not in readers.TABLE_SUFFIXES:
        raise UserError(f"the query log {path} is none of .txt, {', '.join(readers.TABLE_SUFFIXES)}; save it as one")
    for where, row in readers.rows(path):
        text = row.get(field)
        if not isinstance(text, str):
            raise UserError(f"{where}: no text in the field {field!r}; set generate.query_field")
        if text.strip():
            yield text


def _numbered(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(style, number) for style, count in counts.items() for number in range(count)]


def _per_doc(config: Config) -> int:
    written = len(set(config.sources) & set(BACKENDS["generator"])) * len(_numbered(config.llm.styles))
    return written + len(_numbered(config.extractive.styles)) * ("extractive" in config.sources)


def _repeated(titles: list[np.ndarray]) -> Set[int]:
    values, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *titles]), return_counts=True)
    return set(values[counts > 1].tolist())


def _hash(*parts: object) -> int:
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
