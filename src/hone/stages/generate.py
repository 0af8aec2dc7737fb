"""generate: queries to train with, cut from documents, written by a language model, or asked by people."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
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
from hone.core import answers, extractive
from hone.core.answers import Answer, Interrupted
from hone.core.cleaning import Cleaner, Draft, Fault, Rules, answered, normalised
from hone.core.families import doc_text
from hone.core.generation import Cleaning, Extractive, Human, Log
from hone.core.llm import LanguageModel
from hone.core.prompts import Prompts
from hone.core.querylog import QueryLog
from hone.core.styles import drawn, numbered
from hone.errors import UserError
from hone.progress import Task, task
from hone.sources import Source
from hone.stage import MOST_BUCKETS, Job, StageConfig

IMAGE = "train"
READS = ("docs", "judged_queries")
WRITES = ("queries", "dropped_by_generate")

PEOPLE_BUCKET = MOST_BUCKETS
DRAFTS_AT_ONCE = 1_024
TOKEN_COSTS = ("prompt_tokens", "cached_tokens", "new_tokens")
EXAMPLES_KEPT = 3
MADE = ("extractive",)
PEOPLE = ("log", "human")


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
        return value

    @property
    def per_doc(self) -> dict[str, float]:
        """Drafts that each source makes of a document, on average."""
        of_model, of_text = sum(self.llm.styles.values()), sum(self.extractive.styles.values())
        return {source: of_text if source in MADE else of_model for source in self.sources if source not in PEOPLE}


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
    tests = _test_queries(job)
    sample = Sample.draw(config, job)
    people = People(config, job)
    shares = shares_of(config, {**people.counts(), **{name: sample.size * n for name, n in config.per_doc.items()}})
    asks = [_ask(source, config, job, shares[source], tests) for source in config.per_doc]
    rules = _rules(config, job)
    if people.sources and job.shard.index == 0:
        thinned = (draft for draft in people.drafts() if drawn(config.seed, draft.text) < shares[draft.source])
        _write(job, PEOPLE_BUCKET, Cleaner(tests, rules), thinned)
    if not asks:
        return
    total = sum(sample.size * count * shares[source] for source, count in config.per_doc.items())
    with task("generate", -(-round(total) // job.shard.count), "drafts") as progress:
        for bucket in job.buckets("docs", by="doc_id"):
            docs = list(sample.chosen(bucket.rows))
            drafts = (draft for ask in asks for draft in ask(docs, progress))
            _write(job, bucket.number, Cleaner(tests, rules), drafts)


def shares_of(config: Config, drafts: Mapping[str, float]) -> dict[str, float]:
    """The share of its drafts that each source gives: all, or with `mix` as many as its weight allows while the source
    that is short for its weight gives all it has."""
    if not config.mix:
        return dict.fromkeys(drafts, 1.0)
    scale = min(count / config.mix[source] for source, count in drafts.items())
    return {source: scale * config.mix[source] / max(count, 1) for source, count in drafts.items()}


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


def _ask(source: str, config: Config, job: Job, share: float, tests: Set[str]) -> Ask:
    if source in MADE:
        return partial(_extracts, config, share)
    return ModelAsks(source, config, job, share, tests).drafts


def _extracts(config: Config, share: float, docs: list[Doc], progress: Task) -> Iterator[Draft]:
    counts = {style: count * share for style, count in config.extractive.styles.items()}
    for doc in docs:
        wanted = numbered(counts, config.seed, doc.doc_id)
        for style, number in wanted:
            text = extractive.draw(style, doc.title, doc.text, seed=config.seed, doc_id=doc.doc_id, number=number)
            if text is not None:
                yield Draft("extractive", style, doc.doc_id, text, doc.whole)
        progress.advance(len(wanted))


class ModelAsks:
    """A language model as a source of drafts. An answer is paid for once: it is kept by prompt, model and decoding."""

    def __init__(self, source: str, config: Config, job: Job, share: float, tests: Set[str]) -> None:
        """Refuses what cannot work before any weights are read: a UserError."""
        self.source, self.config, self.job = source, config, job
        left_out = examples_left_out(config.llm, job, tests)
        self.prompts = Prompts(config.llm, config.seed, share, frozenset(left_out))
        self.generator, model = _generator(source, self.prompts, job)
        decoding = config.llm.model_dump_json(include={"temperature", "max_new_tokens", "precision"})
        self.answers = job.memo("answers", f"{source} {model} {decoding} {config.seed}", answers.TYPE)
        if left_out:
            job.facts["examples_left_out"] = left_out

    def drafts(self, docs: list[Doc], progress: Task) -> Iterator[Draft]:
        """One draft per document, style and number."""
        asked = [(doc, *request) for doc in docs for request in self.prompts.requests(doc.doc_id, doc.whole)]
        texts = [self.generator.prompt(request) for _, _, request in asked]
        keys = [f"{number}\0{text}" for (_, number, _), text in zip(asked, texts, strict=True)]
        found = self._answers(keys, texts, progress)
        for (doc, _, request), answer in zip(asked, found, strict=True):
            style = request.style
            text = answered(answer.text, style.name)
            draft = Draft(self.source, style.name, doc.doc_id, text, doc.whole, style.max_words, True, answer.cut)
            yield draft

    def _answers(self, keys: list[str], prompts: list[str], progress: Task) -> Iterator[Answer]:
        """The answer of every prompt; what is finished when the model fails is kept. Raises what it failed with."""

        def work(positions: list[int]) -> pa.Array:
            seeds = [_hash(self.config.seed, keys[position]) for position in positions]
            started = time.monotonic()
            try:
                found = self.generator.generate([prompts[position] for position in positions], seeds)
            except Interrupted as stop:
                raise Interrupted({positions[at]: answer for at, answer in stop.answers.items()}, stop.cause) from stop
            self._count(time.monotonic() - started)
            return self._paid(found)

        try:
            rows = self.answers.compute(keys, work, chunk=self.config.llm.batch, task=progress)
        except Interrupted as stop:
            places, kept = list(stop.answers), list(stop.answers.values())
            self.answers.compute([keys[place] for place in places], lambda at: self._paid([kept[i] for i in at]))
            raise stop.cause from stop
        return (Answer(**row) for row in rows.to_pylist())

    def _count(self, seconds: float) -> None:
        gpu_seconds = seconds * self.generator.gpus
        spent: dict[str, Any] = {"model_seconds": seconds, **({"gpu_seconds": gpu_seconds} if gpu_seconds else {})}
        self.job.cost.update(spent)

    def _paid(self, found: Iterable[Answer]) -> pa.Array:
        rows = [vars(answer) for answer in found]
        sums = {key: sum(row[key] for row in rows) for key in TOKEN_COSTS}
        self.job.cost.update({key: count for key, count in sums.items() if count})
        return pa.array(rows, answers.TYPE)


def examples_left_out(llm: LanguageModel, job: Job, tests: Set[str]) -> list[str]:
    """Examples that no model may see, since they are test queries or stand in documents judged for one."""
    asked = (llm.known_styles[name] for name, count in llm.styles.items() if count)
    waiting = {example: f" {normalised(example)} " for row in asked for example in row.examples}
    found = {example for example, plain in waiting.items() if plain.strip() in tests}
    for batch in job.table("docs").batches(["title", "text", "held_out"]):
        for title, text, held_out in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if held_out:
                plain = f" {normalised(doc_text(title, text))} "
                found |= {example for example, words in waiting.items() if words in plain}
    return sorted(found)


def _generator(source: str, prompts: Prompts, job: Job) -> tuple[Any, str]:
    """A backend, and what identifies its model."""
    backend, llm = load("generator", source), prompts.llm
    if backend.local:
        return backend(job.source(llm.model), llm, prompts.probes()), job.digest(llm.model)
    tokenizer = job.source(llm.endpoint.tokenizer) if llm.endpoint.tokenizer else None
    return backend(tokenizer, llm), llm.endpoint.model_dump_json(include={"model", "revision", "extra_body"})


def _rules(config: Config, job: Job) -> Rules:
    file = config.clean.blocked_words
    blocked = (normalised(line) for _, line in readers.lines(job.source(file))) if file else ()
    return Rules(
        config.min_words,
        config.max_words,
        config.llm.max_copied_words,
        near_duplicate=config.clean.near_duplicate,
        check_language=config.clean.wrong_language,
        language=config.llm.language,
        blocked=frozenset(filter(None, blocked)),
        personal_data=config.clean.personal_data,
    )


def _write(job: Job, number: int, cleaner: Cleaner, drafts: Iterable[Draft]) -> None:
    """Judges the drafts of one bucket and writes its rows. Duplicates are looked for within the bucket."""
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


class People:
    """Queries that people asked: from a log, and with known documents."""

    def __init__(self, config: Config, job: Job) -> None:
        self.config, self.job = config, job
        self.sources = [source for source in PEOPLE if source in config.sources]
        if "log" in self.sources:
            self.log = QueryLog.read(self._logged())
            job.facts["log"] = {"rows": self.log.rows, "distinct": len(self.log.keys)} if not job.shard.index else {}

    def counts(self) -> dict[str, float]:
        """How many drafts each of these sources has."""
        counts = {"log": lambda: float(len(self.log.keys)), "human": lambda: float(sum(1 for _ in self._known()))}
        return {source: counts[source]() for source in self.sources}

    def drafts(self) -> Iterator[Draft]:
        """All of them; those that their source leaves out carry the reason."""
        if "log" in self.sources:
            for text, _ in self._logged():
                flat = " ".join(text.split())
                fault = self.log.fault(text, self.config.log.min_count, self.config.log.holdout)
                yield Draft("log", "log", "", flat, fault=fault)
        if "human" in self.sources:
            held_out = self._held_out()
            for text, doc_id in self._known():
                reason = "unknown document" if doc_id not in held_out else "held-out document"
                fault = Fault(reason, f"{doc_id}: {text}") if held_out.get(doc_id, True) else None
                yield Draft("human", "human", doc_id, " ".join(text.split()), fault=fault)

    def _logged(self) -> Iterator[tuple[str, str]]:
        path = self.job.source(self.config.query_log)
        return read_log(path, self.config.query_field, self.config.log.time_field)

    def _known(self) -> Iterator[tuple[str, str]]:
        human = self.config.human
        return read_log(self.job.source(human.file), human.text_field, human.doc_field, "generate.human")

    def _held_out(self) -> dict[str, bool]:
        """Of the documents that human queries name, whether they are held out."""
        wanted = {doc_id for _, doc_id in self._known()}
        batches = self.job.table("docs").batches(["doc_id", "held_out"])
        pairs = (pair for batch in batches for pair in zip(*(c.to_pylist() for c in batch.columns), strict=True))
        return {doc_id: held_out for doc_id, held_out in pairs if doc_id in wanted}


def read_log(path: Path, field: str, also: str = "", setting: str = "generate") -> Iterator[tuple[str, str]]:
    """(query, field `also`) of a file, in order; empty queries are skipped. Raises UserError naming file and line."""
    if path.suffix == ".txt" and not also:
        yield from ((line, "") for _, line in readers.lines(path) if line.strip())
        return
    if path.suffix not in readers.TABLE_SUFFIXES:
        kinds = ", ".join(readers.TABLE_SUFFIXES)
        raise UserError(f"the queries in {path} are none of {'' if also else '.txt, '}{kinds}; save them as one")
    for where, row in readers.rows(path):
        text, other = row.get(field), row.get(also) if also else ""
        if not isinstance(text, str) or other is None:
            missing = field if not isinstance(text, str) else also
            raise UserError(f"{where}: no text in the field {missing!r}; set the fields in {setting}")
        if text.strip():
            yield text, str(other)


def _repeated(titles: list[np.ndarray]) -> Set[int]:
    values, counts = np.unique(np.concatenate([np.zeros(0, np.uint64), *titles]), return_counts=True)
    return set(values[counts > 1].tolist())


def _hash(*parts: object) -> int:
    text = "\0".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
