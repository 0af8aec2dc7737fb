"""A language model as a source of drafts."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from hone.backends import load
from hone.backends.encoders.families import doc_text
from hone.backends.generators import answers
from hone.backends.generators.answers import Answer
from hone.context import Job
from hone.core import forms
from hone.core.borrowed import Seen
from hone.core.hashing import hashed
from hone.core.query_text import comparable
from hone.progress import Task
from hone.stages.generate.cleaning import Cleaner, Draft, answered
from hone.stages.generate.first_answers import FirstAnswers
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import Request
from hone.stages.generate.requests import Prompts
from hone.stages.generate.sample import Doc
from hone.stages.generate.settings import Config

KEPT_EVERY = 30.0
"""Seconds of a model's work after which its answers are kept, or earlier if the next ones are likely to come later: a
kill loses these, and what is under way."""

Asked = tuple[Doc, int, Request]
"""A document, the number that tells equal requests apart, and what is asked about it."""


class ModelAsks:
    """A language model as a source of drafts. An answer is paid for once: it is kept by prompt, model and decoding."""

    def __init__(self, source: str, config: Config, job: Job, share: float, cleaner: Cleaner) -> None:
        """Refuses what cannot work before any weights are read: a UserError. `cleaner` looks at the first answers as
        they come."""
        self.source, self.config, self.job = source, config, job
        self.first = FirstAnswers(source, cleaner, config.clean.most_dropped)
        self.new_tokens, self.seconds = 0, 0.0
        left_out = examples_left_out(config.llm, job, cleaner.tests)
        self.prompts = Prompts(config.llm, config.seed, share, frozenset(left_out))
        self.generator = open_generator(source, self.prompts, job.source)
        served = config.llm.endpoint.model_dump_json(include={"model", "revision", "extra_body"})
        model = job.digest(config.llm.model) if self.generator.local else served
        sampling = {"temperature", "max_new_tokens", "precision"}
        decoding = json.dumps({**config.llm.model_dump(include=sampling), **self.generator.resolved})
        self.answers = job.cache("answers", f"{source} {model} {decoding} {config.seed} {answers.TYPE}", answers.TYPE)
        if left_out:
            job.facts["examples_left_out"] = left_out

    def drafts(self, docs: list[Doc], progress: Task) -> Iterator[Draft]:
        """One draft per document, style and number."""
        asked = [(doc, *request) for doc in docs for request in self.prompts.requests(doc.doc_id, doc.whole)]
        for start in range(0, len(asked), self.config.llm.batch):
            yield from self._block(asked[start : start + self.config.llm.batch], progress)

    def _block(self, asked: list[Asked], progress: Task) -> Iterator[Draft]:
        texts = [self.generator.prompt(request) for _, _, request in asked]
        keys = [f"{number}\0{text}" for (_, number, _), text in zip(asked, texts, strict=True)]
        missing = frozenset(self.answers.missing(keys))
        known = [at for at in range(len(keys)) if at not in missing]
        absent = {keys[at] for at in missing}
        progress.skip(len(known))
        if not self.first.settled:
            paid = [at for at in known if keys[at] not in absent]
            self._see(asked, paid, self.answers.values([keys[at] for at in paid]).to_pylist(), progress)
        if missing:
            self._ask(asked, keys, texts, missing, progress)
        for (doc, _, request), row in zip(asked, self.answers.values(keys).to_pylist(), strict=True):
            answer = Answer(**row)
            self._note(request.style.name, answer)
            yield self._draft(doc, request, answer)

    def _ask(self, asked: list[Asked], keys: list[str], prompts: list[str], missing: Set[int], progress: Task) -> None:
        """Has the missing answers written. What is finished is kept every half minute, and whatever ends the run."""
        seeds = [hashed(self.config.seed, key) for key in keys]
        waiting: dict[int, Answer] = {}
        kept = came = time.monotonic()
        try:
            for part in self.generator.generate(prompts, seeds, missing):
                new = {at: answer for at, answer in part.items() if at in missing}
                waiting |= new
                before, came = came, time.monotonic()
                self.seconds += came - before
                self.new_tokens += sum(answer.new_tokens or 0 for answer in new.values())
                progress.advance(len(new), self._pace())
                self._see(asked, list(new), [vars(answer) for answer in new.values()], progress)
                if came - kept + (came - before) >= KEPT_EVERY:
                    kept = self._keep(keys, waiting, kept)
                    waiting = {}
        finally:
            self._keep(keys, waiting, kept)

    def _keep(self, keys: list[str], answered: dict[int, Answer], since: float) -> float:
        """Keeps answers, each with its share of the time since the last ones were kept; the time now."""
        now = time.monotonic()
        if answered:
            share = (now - since) / len(answered)
            timed = [replace(a, seconds=share, gpu_seconds=share * self.generator.gpus) for a in answered.values()]
            self.answers.add([keys[at] for at in answered], self._paid(timed))
        return now

    def _see(self, asked: list[Asked], places: list[int], rows: list[dict[str, Any]], progress: Task) -> None:
        """Has the first answers looked at, as they come."""
        for at, row in zip(places, rows, strict=True):
            if self.first.settled:
                return
            self.first.see(self._draft(asked[at][0], asked[at][2], Answer(**row)), progress)

    def _pace(self) -> str:
        """How fast the model writes."""
        return f"{self.new_tokens / max(self.seconds, 1e-9):,.0f} new tokens/s"

    def _draft(self, doc: Doc, request: Request, answer: Answer) -> Draft:
        """The query of an answer, put right where that is safe; a claim that turned out a question is one."""
        name, text, cut = request.style.name, answered(answer.text, request.style.name), answer.cut
        if forms.asks(text, self.prompts.rows[name].form):
            name = self.prompts.question_style or name
        row = self.prompts.rows[name]
        if row.form == "keywords":
            text, cut = forms.keywords(text, row.max_words, cut=cut)
        seen = shown_by(replace(request, doc=""))
        return Draft(self.source, name, doc.doc_id, text, doc.whole, row.max_words, True, cut, form=row.form, seen=seen)

    def _paid(self, paid: list[Answer]) -> pa.Array:
        """Adds answers to what this run cost; what a server does not report counts as nothing."""
        rows = [vars(answer) for answer in paid]
        spent: dict[str, Any] = {key: sum(row[key] or 0 for row in rows) for key in (*answers.TOKENS, "gpu_seconds")}
        spent["model_seconds"] = sum(answer.seconds for answer in paid)
        self.job.cost.update({key: count for key, count in spent.items() if count})
        return pa.array(rows, answers.TYPE)

    def _note(self, style: str, answer: Answer) -> None:
        """Adds to the facts what a style's answers cost, whichever run paid for them."""
        facts = self.job.facts.setdefault("answers", {}).setdefault(self.source, {}).setdefault(style, Counter())
        facts["answers"] += 1
        facts.update({key: getattr(answer, key) or 0 for key in answers.TOKENS})
        facts["without_cached_tokens"] += answer.cached_tokens is None
        facts.update(microseconds=round(1e6 * answer.seconds), gpu_microseconds=round(1e6 * answer.gpu_seconds))


@lru_cache(64)
def shown_by(request: Request) -> Seen:
    """What a prompt shows beside its document."""
    styles = request.styles or (request.style,)
    examples = tuple(example for style in styles for example in style.examples)
    return Seen(request.prompt(""), examples, tuple(style.name for style in styles))


def examples_left_out(llm: LanguageModel, job: Job, tests: Set[str]) -> list[str]:
    """Examples that no model may see, since they are test queries or stand in documents judged for one."""
    asked = (llm.known_styles[name] for name, count in llm.styles.items() if count)
    waiting = {example: f" {comparable(example)} " for row in asked for example in row.examples}
    copied = {example for example, plain in waiting.items() if plain.strip() in tests}
    for batch in job.table("docs").batches(["title", "text", "held_out"]):
        for title, text, held_out in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if held_out:
                plain = f" {comparable(doc_text(title, text))} "
                copied |= {example for example, words in waiting.items() if words in plain}
    return sorted(copied)


def open_generator(source: str, prompts: Prompts, fetch: Callable[[str], Path]) -> Any:
    """A backend before any weights are read; `fetch` gives the local path of a reference. Raises UserError."""
    backend, llm = load("generator", source), prompts.llm
    if backend.local:
        return backend(fetch(llm.model), llm, prompts.probes())
    return backend(fetch(llm.endpoint.tokenizer) if llm.endpoint.tokenizer else None, llm)
