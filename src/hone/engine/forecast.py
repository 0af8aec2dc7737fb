"""`hone plan`: what a run will cost, before anything is spent. Reads the corpus and tokenizers; writes nothing."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import cast

from hone.backends import BACKENDS
from hone.backends.encoders.families import BiEncoder, doc_text
from hone.backends.generators.token_counts import ModelFolder, tokens_by_bytes
from hone.backends.training import schedule
from hone.config import SourceMark, StageConfig, marked
from hone.core.forecast import (
    BYTES_PER_ANSWER,
    BYTES_PER_ENTRY,
    BYTES_PER_QUERY,
    DEVICES,
    FORWARD,
    SHRUNK,
    TRAINING,
    Earlier,
    Forecast,
    Work,
    prefilled,
    priced,
)
from hone.core.hashing import drawn
from hone.core.interpolation import sweep
from hone.core.reading import Reading
from hone.core.text import Chunking, flat
from hone.engine import record
from hone.errors import UserError
from hone.evaluation.test_collections import Collection, distinct
from hone.evaluation.test_design import design
from hone.inputs import readers
from hone.inputs.references import local_path
from hone.results.manifest import Manifest
from hone.settings import RunSettings
from hone.stages import curate, distill, evaluate, generate, mine, prepare, score
from hone.stages.generate.from_model import open_generator
from hone.stages.generate.from_people import Asked, known
from hone.stages.generate.prompts import Request
from hone.stages.generate.query_log import QueryLog
from hone.stages.generate.requests import Prompts
from hone.stages.generate.styles import STYLES
from hone.storage.base import Store

SAMPLE = 50
EXAMPLES = [example for style in STYLES.values() for example in style.examples]
SPEED = ("sources", "student", "teacher", "train", "train_layers")
"""Settings that a stage's speed depends on, beside the models that it refers to."""
TIMED = ("prepare", "generate", "mine", "score", "distill", "evaluate")
"""The stages that take long enough to be forecast."""
COMPUTING = 0.7
"""The share of its time below which a run is said to have waited."""
Fetch = Callable[[str], Path]
"""A reference to outside data to its local path."""


@dataclass(frozen=True)
class Sample:
    """Documents (id, text) drawn from a corpus of `docs`, their mean size in bytes, and how its files were read."""

    docs: int
    chosen: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    @classmethod
    def draw(cls, config: prepare.Config, layout: readers.Layout, fields: readers.Fields, seed: int) -> "Sample":
        """One pass over the corpus as it lies there."""
        count = 0
        corpus = _corpus(config, layout, fields)

        def texts() -> Iterator[tuple[float, str, str]]:
            nonlocal count
            for doc_id, text in _texts(config, corpus):
                count += 1
                yield drawn(seed, doc_id), doc_id, text

        chosen = heapq.nsmallest(SAMPLE, texts())
        if not chosen:
            raise UserError(f"{layout.root} holds no documents; there is nothing to forecast")
        return cls(count, tuple((doc_id, text) for _, doc_id, text in chosen), tuple(corpus.said()))

    def mean(self, size: Callable[[str], float]) -> float:
        """The mean of a measure of a document's text."""
        return sum(size(text) for _, text in self.chosen) / len(self.chosen)


def corpus_texts(config: prepare.Config, corpus: Path) -> Iterator[tuple[str, str]]:
    """Every document (id, title and body) of a corpus, cut as prepare cuts it. Raises UserError."""
    fields = readers.Fields(config.id_field, config.title_field, config.text_field)
    yield from _texts(config, _corpus(config, readers.layout(corpus, config.format), fields))


def _corpus(config: prepare.Config, layout: readers.Layout, fields: readers.Fields) -> readers.Corpus:
    chunking = Chunking(config.chunk_words, config.overlap_words, config.max_chars)
    return readers.Corpus(layout, fields, chunking, config.dialect)


def _texts(config: prepare.Config, corpus: readers.Corpus) -> Iterator[tuple[str, str]]:
    for where, row in corpus.documents():
        doc_id, title, text = readers.document(where, row, corpus.fields)
        yield doc_id, doc_text(flat(title), flat(text)[: config.max_chars])


def forecast(settings: RunSettings, store: Store, device: str, per_hour: float, scratch: Path) -> Forecast:
    """The work of every stage of a run, its time on a device by name, and with a price per hour its money.

    Times are by what the last run of this name in the store took, else the last one at all, where its models were the
    same: a fixed part, and parts that grow with the documents, the queries or the steps. Else they are estimates from
    the device's row. What stages keep is known only of a run of this name. Raises UserError on an unknown device, and
    on whatever the run itself would refuse before its first model.
    """
    if device not in DEVICES:
        raise UserError(f"--device {device!r} is not one of {', '.join(DEVICES)}")
    if per_hour < 0:
        raise UserError(f"--price {per_hour:g} is below 0; give the price of one hour")
    before = record.results_if_any(store, settings.name)
    planner = Planner(settings, before, scratch)
    works = planner.works()
    name = settings.name if before else last_run(store)
    known = earlier(before or (record.results(store, name) if name else {}), name, settings)
    rows = tuple(priced(work, DEVICES[device], known, per_hour) for work in works)
    if any(row.source == "estimate" for row in rows):
        planner.notes.append(DEVICES[device].assumed)
    if resting := [row for row in rows if row.stage in known]:
        planner.notes.append(
            f"times that rest on a run are of the machine it ran on, not of one {DEVICES[device].name}"
        )
        clock, used = sum(row.hours for row in resting), sum(row.processor_hours for row in resting)
        if used < COMPUTING * clock:
            planner.notes.append(
                f"that run computed for {100 * used / clock:.0f}% of its time: it waited, or its machine was busy"
            )
    return Forecast(DEVICES[device].name, rows, tuple(planner.notes))


def last_run(store: Store) -> str:
    """The name of the run that was noted last, empty if there is none."""
    newest = max(store.objects("runs"), key=lambda one: one.modified, default=None)
    return PurePosixPath(newest.key).stem if newest else ""


def earlier(before: Mapping[str, Manifest], name: str, settings: RunSettings) -> dict[str, Earlier]:
    """What each stage of an earlier run took, by what that grows with, if it used the same models."""
    same = [stage for stage in TIMED if stage in before and _same_models(before[stage], settings.stages[stage])]
    found = {stage: Earlier(before[stage].spent, sizes(before, stage), f"last run of {name}") for stage in same}
    if "generate" in found and (answers := before["generate"].facts.get("answers")):
        # What was answered before the last run is in the content cache, and its seconds are kept with it.
        styles = [style for of_source in answers.values() for style in of_source.values()]
        seconds = sum(style["microseconds"] for style in styles) / 1e6
        count = {"answers": sum(style["answers"] for style in styles)}
        found["generate"] = replace(found["generate"], spent={"answers": (seconds, 0.0)}, sizes=count)
    return {stage: one for stage, one in found.items() if any(clock for clock, _ in one.spent.values())}


def sizes(before: Mapping[str, Manifest], stage: str) -> dict[str, float]:
    """How much of what its time grows with a stage of an earlier run had. Documents are those that were read, and
    queries those that were to be drafted: what a run of another name keeps of them is not known before it."""
    read = before["prepare"].outputs
    docs = float(read["docs"].rows + read["dropped_by_prepare"].rows)
    targets = before["generate"].facts["target"] if "generate" in before else {}
    drafts = float(sum(count for styles in targets.values() for count in styles.values()))
    found = {"docs": docs, "queries": drafts, "drafts": drafts, "steps": before[stage].cost.get("steps", 0.0)}
    if stage == "score":
        found["pairs"] = drafts * before[stage].config["depth"]
    if stage == "evaluate":
        found["docs"] += before[stage].cost["docs"] - read["docs"].rows
    return found


def _same_models(then: Manifest, now: StageConfig) -> bool:
    """Whether a stage ran with the models, and the settings that its speed depends on, that it has now."""
    config = now.model_dump(mode="json")
    alike = all(then.config.get(key) == config.get(key) for key in SPEED)
    return alike and (then.stage == "prepare" or set(then.sources) == set(marked(now, SourceMark)))


class Planner:
    """The work of every stage, from settings, a sample and, if there is one, what an earlier run was like."""

    def __init__(self, settings: RunSettings, before: Mapping[str, Manifest], scratch: Path) -> None:
        self.before, self.scratch, self.stages = before, scratch, settings.stages
        self.notes: list[str] = []
        config = cast(prepare.Config, self.stages["prepare"])
        self.generate = cast(generate.Config, self.stages["generate"])
        self.student = cast(mine.Config, self.stages["mine"]).student
        self.corpus = readers.layout(self.fetch(config.corpus), config.format)
        fields = readers.Fields(config.id_field, config.title_field, config.text_field)
        self.sample = Sample.draw(config, self.corpus, fields, self.generate.seed)
        self.notes += [f"{name}: {value}" for name, value in self.corpus.facts().items()]
        self.notes += self.sample.notes
        self.notes += readers.judged(self.corpus)
        self.notes.append(f"tokens are counted on {len(self.sample.chosen)} of {self.sample.docs:,} documents")
        self.base = ModelFolder(self.fetch(self.student.model))
        self.doc_tokens = self.tokens_of_a_doc(self.sample)
        if told := self.reading().told:
            self.notes.append(told)
        self.docs = self.sample.docs * self.kept("prepare", "docs")
        self.drafts = self._drafts()
        drafts = sum(self.drafts.values())
        self.sizes = {"docs": float(self.sample.docs), "queries": drafts, "drafts": drafts}
        self.queries = drafts * self.kept("generate", "queries")
        self.mined = self.queries * self.kept("mine", "candidates")
        self.lists = self.mined * self.kept("score", "teacher_scores") * self.kept("curate", "lists")
        self.query_tokens = sum(map(self.base.tokens, EXAMPLES)) / len(EXAMPLES)

    def fetch(self, reference: str) -> Path:
        """The local path of outside data. Raises UserError."""
        return local_path(reference, self.scratch)

    def elsewhere(self, sets: Sequence[Collection]) -> tuple[float, float]:
        """How many documents other collections have, and their tokens, counted on a sample of each."""
        docs, tokens = 0.0, 0.0
        for one in distinct(sets):
            plain = prepare.Config.model_validate({"corpus": one.folder})
            layout = readers.layout(self.fetch(one.folder))
            sample = Sample.draw(plain, layout, readers.usual_fields(layout), self.generate.seed)
            docs, tokens = docs + sample.docs, tokens + sample.docs * self.tokens_of_a_doc(sample)
        return docs, tokens

    def tokens_of_a_doc(self, sample: Sample) -> float:
        """Mean tokens of a document as the student reads it."""
        return sample.mean(lambda text: min(self.base.tokens(text), self.student.max_doc_tokens))

    def reading(self) -> Reading:
        """How much the student reads of the sample."""
        limit = self.student.max_doc_tokens
        lengths = [self.base.tokens(text) for _, text in self.sample.chosen]
        return Reading.of(((min(length, limit), length) for length in lengths), limit)

    def kept(self, stage: str, table: str) -> float:
        """The share that a stage of the earlier run kept; all, as a bound, without one."""
        manifest = self.before.get(stage)
        if manifest is None:
            self.notes.append(f"bound: {stage} drops nothing")
            return 1.0
        rows, lost = (manifest.outputs[name].rows for name in (table, f"dropped_by_{stage}"))
        return rows / max(1, rows + lost)

    def works(self) -> list[Work]:
        """The stages that take time, in the order of the flow."""
        return [self.preparing(), self.writing(), self.mining(), self.scoring(), self.training(), self.measuring()]

    def preparing(self) -> Work:
        """prepare: every document is read once."""
        size = self.sample.docs * self.sample.mean(len) / SHRUNK
        return Work("prepare", {"docs": float(self.sample.docs)}, bytes=size, sizes=self.sizes)

    def writing(self) -> Work:
        """generate: every source's drafts, and what a language model reads and writes for them."""
        models = [source for source in self.drafts if source in BACKENDS["generator"]]
        amounts = {"queries": self.queries, "answers": sum(self.drafts[source] for source in models)}
        forward = decode = 0.0
        for source in models:
            each = answer_cost(source, self.generate, self.sample, self.fetch) | self._answered(source)
            tokens = {name: count * self.drafts[source] for name, count in each.items()}
            amounts = {name: amounts.get(name, 0.0) + tokens.get(name, 0.0) for name in {**amounts, **tokens}}
            if source != "openai":
                weights = ModelFolder(self.fetch(self.generate.llm.model)).weights
                forward += FORWARD * weights * (tokens["prompt_tokens"] - tokens["cached_tokens"])
                decode += FORWARD * weights * tokens["new_tokens"]
        if any(not self._answered(source) for source in models):
            self.notes.append("new tokens of an answer are taken to be those of the examples of its style")
        if "openai" in models:
            self.notes.append("the time and the price of what a server writes (openai) are its own and not counted")
        size = BYTES_PER_QUERY * sum(self.drafts.values()) + BYTES_PER_ANSWER * amounts["answers"]
        return Work("generate", amounts, forward, decode, size, {**self.sizes, "answers": amounts["answers"]})

    def _answered(self, source: str) -> dict[str, float]:
        """New tokens of an answer as the same model wrote them in the earlier run; empty without one."""
        done = self.before.get("generate")
        if done is None or done.config.get("llm") != self.generate.llm.model_dump(mode="json"):
            return {}
        spent = [*done.facts.get("answers", {}).get(source, {}).values()]
        answers = sum(style["answers"] for style in spent)
        return {"new_tokens": sum(style["new_tokens"] for style in spent) / answers} if answers else {}

    def encoding(self, encoder: BiEncoder) -> tuple[float, float]:
        """Tokens and operations of one model that encodes the corpus once, and every query."""
        folder = ModelFolder(self.fetch(encoder.model))
        of_a_doc = self.sample.mean(lambda text: min(folder.tokens(text), encoder.max_doc_tokens))
        tokens = self.docs * of_a_doc + self.queries * self.query_tokens
        return tokens, FORWARD * folder.weights * tokens

    def mining(self) -> Work:
        """mine: the corpus is encoded by the student and every further retriever."""
        config = cast(mine.Config, self.stages["mine"])
        every = [self.encoding(one) for one in (config.student, *config.retrievers)]
        tokens, forward = sum(one for one, _ in every), sum(cost for _, cost in every)
        size = self.docs * self.base.dimension * 4 + BYTES_PER_ENTRY * config.top_k * self.mined
        amounts = {"queries": self.queries, "docs": self.docs, "tokens": tokens}
        return Work("mine", amounts, forward, 0, size, self.sizes)

    def scoring(self) -> Work:
        """score: every query with its candidates, fewer where an earlier run stopped early."""
        config = cast(score.Config, self.stages["score"])
        depth = min(float(config.depth), self.docs)
        done, mined = self.before.get("score"), self.before.get("mine")
        if done and mined and mined.outputs["candidates"].rows:
            depth = done.cost["pairs"] / mined.outputs["candidates"].rows
        elif config.early_exit:
            self.notes.append("bound: no query leaves scoring early")
        pairs = self.mined * depth
        weights, tokens = 0.0, 0.0
        found = _apart((self.student, *cast(mine.Config, self.stages["mine"]).retrievers))
        every = _apart(one for member in (config.teacher, *config.teacher.members) for one in member.encoders)
        further = [self.encoding(one) for vectors, one in every.items() if vectors not in found]
        for member in (config.teacher, *config.teacher.members):
            if member.model:
                folder = ModelFolder(self.fetch(member.model))
                pair = min(member.max_tokens, self.sample.mean(folder.tokens) + self.query_tokens)
                weights, tokens = weights + folder.weights * pair, tokens + pair
        size = BYTES_PER_ENTRY * pairs + (12 * pairs if weights else 0)
        grows = {**self.sizes, "pairs": self.sizes["drafts"] * config.depth}
        amounts = {"pairs": pairs, "tokens": pairs * tokens + sum(one for one, _ in further)}
        forward = FORWARD * weights * pairs + sum(cost for _, cost in further)
        return Work("score", amounts, forward, 0, size, grows)

    def training(self) -> Work:
        """distill: the steps of each training at most, each document of a batch encoded once."""
        config = cast(distill.Config, self.stages["distill"])
        train = max(1, round(self.lists * (1 - cast(curate.Config, self.stages["curate"]).dev_share)))
        head = config.train == "head"
        steps, tokens, forward = self._steps(config, train)
        if config.first:
            before = self._steps(config.first, train)
            steps, tokens, forward = steps + before[0], tokens + before[1], forward + before[2]
        self.notes.append("bound: training does not stop early")
        guards = self.elsewhere(config.guards)[1] * (1 if head else len(sweep(config.alphas, True)))
        amounts = {"steps": steps, "lists": self.lists, "tokens": tokens + guards}
        forward = self.base.weights * (forward + FORWARD * guards)
        size = self.base.bytes + self.lists * config.list_size * BYTES_PER_ENTRY
        return Work("distill", amounts, forward, 0, size, {**self.sizes, "steps": steps})

    def _steps(self, config: distill.Training, train: int) -> tuple[float, float, float]:
        """Steps of one training, their tokens, and tokens times what each costs as often as a forward pass."""
        course = schedule.course(train, config)
        docs = config.docs_per_step or course.batch * config.list_size
        texts = min(self.docs, docs) * self.doc_tokens + course.batch * self.query_tokens
        head = config.train == "head"
        if head:
            texts = train * self.query_tokens / course.steps
        done, alike = self.before.get("distill"), ("train", "batch_size", "list_size", "docs_per_step", "first")
        if done and done.cost.get("steps") and all(done.config.get(key) == getattr(config, key, None) for key in alike):
            texts = done.cost.get("tokens", 0.0) / done.cost["steps"]
        elif not head and not config.docs_per_step:
            self.notes.append("bound: few documents of a training batch repeat")
        if config.minutes:
            self.notes.append(f"bound: distill takes fewer steps where they come to {config.minutes:g} minutes")
        tokens = course.steps * texts
        return float(course.steps), tokens, (FORWARD if head else TRAINING) * tokens

    def measuring(self) -> Work:
        """evaluate: the corpus is encoded again by the tuned student, unless its head alone is another (distill does it
        between two trainings, and here it is counted); other test sets by both students."""
        training = cast(distill.Config, self.stages["distill"])
        head = training.train == "head" and not training.first
        docs, others = self.elsewhere(cast(evaluate.Config, self.stages["evaluate"]).tests)
        tokens = others if head else self.docs * self.doc_tokens + 2 * others
        size, amounts = self.docs * self.base.dimension * 4, {"docs": self.docs, "tokens": tokens}
        forward = FORWARD * self.base.weights * tokens
        return Work("evaluate", amounts, forward, 0, size, {**self.sizes, "docs": self.sizes["docs"] + docs})

    def _drafts(self) -> dict[str, float]:
        """Drafts of each source."""
        config, asked = self.generate, min(float(self.generate.max_docs), self.docs - self._held_out())
        counts = {source: asked * per_doc for source, per_doc in config.per_doc.items()}
        if "log" in config.sources:
            asked = Asked(self.fetch(config.query_log), config.query_field, config.log.time_field)
            counts["log"] = float(len(QueryLog.read(asked, config.log).keys))
            self.notes.append(f"query log {asked.file.name}: {'; '.join(asked.facts.values())}")
        if "human" in config.sources:
            counts["human"] = float(sum(1 for _ in known(self.fetch(config.human.file), config.human)))
        shares = generate.shares_of(config.mix, counts)
        return {source: count * shares[source] for source, count in counts.items()}

    def _held_out(self) -> int:
        """Documents that no query is made from, as prepare chooses them."""
        config = cast(prepare.Config, self.stages["prepare"])
        files = self.corpus.qrels.get(config.test_split, ())
        if files:
            judged = {doc_id for file in files for _, _, doc_id, relevance in readers.qrels(file) if relevance > 0}
            held_out = config.exclude_judged and design(self.sample.docs, len(judged)) == "documents"
            return len(judged) if held_out else 0
        return 0 if self.corpus.qrels else min(config.synthetic_docs, self.sample.docs // 10)


def _apart(every: Iterable[BiEncoder]) -> dict[tuple[str, int], BiEncoder]:
    """Encoders that make vectors of their own; what is made once of a corpus is kept."""
    return {(one.model, one.max_doc_tokens): one for one in every}


def answer_cost(source: str, config: generate.Config, sample: Sample, fetch: Fetch) -> dict[str, float]:
    """Mean tokens of one draft of a language model, by the prompts that the stage itself would send about the sample.

    Beginnings that prompts share are cached as vLLM does it, those before the document once for the whole corpus;
    transformers computes all anew, and what a server caches is its own affair.
    """
    llm = config.llm
    prompts = Prompts(llm, config.seed)
    generator = open_generator(source, prompts, fetch)
    folder = llm.model if generator.local else llm.endpoint.tokenizer
    tokens = ModelFolder(fetch(folder)).tokens if folder else tokens_by_bytes
    requests = [request for doc in sample.chosen for _, request in prompts.requests(*doc)]
    whole = sum(tokens(generator.prompt(request)) for request in requests)
    cached = 0
    if source == "vllm":
        full, bare = (
            generator.chat.tokens([generator.prompt(request) for request in some])
            for some in (requests, [replace(request, doc="") for request in requests])
        )
        cached = whole - prefilled(full, bare)
    new = sum(_answer_tokens(request, tokens, llm.max_new_tokens) for request in requests)
    sums = {"prompt_tokens": whole, "cached_tokens": cached, "new_tokens": new}
    return {name: count / max(1, len(requests)) for name, count in sums.items()}


def _answer_tokens(request: Request, tokens: Callable[[str], int], most: int) -> float:
    """Tokens of an answer and its end, by the examples of its style, else of all."""
    examples = request.style.examples or EXAMPLES
    return min(most, 1 + sum(map(tokens, examples)) / len(examples))
