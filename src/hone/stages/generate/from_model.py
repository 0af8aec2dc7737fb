"""A language model as a source of drafts."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Set
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from hone.backends import load
from hone.backends.encoders.families import doc_text
from hone.backends.generators import answers
from hone.backends.generators.answers import Answer, Interrupted
from hone.context import Job
from hone.core import forms
from hone.core.borrowed import Seen
from hone.core.hashing import hashed
from hone.core.query_text import comparable
from hone.progress import Task
from hone.stages.generate.cleaning import Draft, answered
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import Request
from hone.stages.generate.requests import Prompts
from hone.stages.generate.sample import Doc
from hone.stages.generate.settings import Config


class ModelAsks:
    """A language model as a source of drafts. An answer is paid for once: it is kept by prompt, model and decoding."""

    def __init__(self, source: str, config: Config, job: Job, share: float, tests: Set[str]) -> None:
        """Refuses what cannot work before any weights are read: a UserError."""
        self.source, self.config, self.job = source, config, job
        left_out = examples_left_out(config.llm, job, tests)
        self.prompts = Prompts(config.llm, config.seed, share, frozenset(left_out))
        self.generator = open_generator(source, self.prompts, job.source)
        served = config.llm.endpoint.model_dump_json(include={"model", "revision", "extra_body"})
        model = job.digest(config.llm.model) if self.generator.local else served
        decoding = config.llm.model_dump_json(include={"temperature", "max_new_tokens", "precision"})
        self.answers = job.memo("answers", f"{source} {model} {decoding} {config.seed} {answers.TYPE}", answers.TYPE)
        if left_out:
            job.facts["examples_left_out"] = left_out

    def drafts(self, docs: list[Doc], progress: Task) -> Iterator[Draft]:
        """One draft per document, style and number."""
        asked = [(doc, *request) for doc in docs for request in self.prompts.requests(doc.doc_id, doc.whole)]
        texts = [self.generator.prompt(request) for _, _, request in asked]
        keys = [f"{number}\0{text}" for (_, number, _), text in zip(asked, texts, strict=True)]
        found = self._answers(keys, texts, progress)
        for (doc, _, request), answer in zip(asked, found, strict=True):
            self._note(request.style.name, answer)
            yield self._draft(doc, request, answer)

    def _draft(self, doc: Doc, request: Request, answer: Answer) -> Draft:
        """The query of an answer, put right where that is safe."""
        style, form = request.style, self.prompts.rows[request.style.name].form
        text, cut = answered(answer.text, style.name), answer.cut
        if form == "keywords":
            text, cut = forms.keywords(text, style.max_words, cut=cut)
        seen = shown_by(replace(request, doc=""))
        return Draft(
            self.source, style.name, doc.doc_id, text, doc.whole, style.max_words, True, cut, form=form, seen=seen
        )

    def _answers(self, keys: list[str], prompts: list[str], progress: Task) -> Iterator[Answer]:
        """The answer of every prompt; what is finished when the model fails is kept. Raises what it failed with."""

        def work(positions: list[int]) -> pa.Array:
            seeds = [hashed(self.config.seed, keys[position]) for position in positions]
            started = time.monotonic()
            try:
                found = self.generator.generate([prompts[position] for position in positions], seeds)
            except Interrupted as stop:
                finished = self._timed(stop.answers.values(), time.monotonic() - started)
                places = (positions[at] for at in stop.answers)
                raise Interrupted(dict(zip(places, finished, strict=True)), stop.cause) from stop
            return self._paid(self._timed(found, time.monotonic() - started))

        try:
            rows = self.answers.compute(keys, work, chunk=self.config.llm.batch, task=progress)
        except Interrupted as stop:
            places, kept = list(stop.answers), list(stop.answers.values())
            self.answers.compute([keys[place] for place in places], lambda at: self._paid([kept[i] for i in at]))
            raise stop.cause from stop
        return (Answer(**row) for row in rows.to_pylist())

    def _timed(self, found: Collection[Answer], seconds: float) -> list[Answer]:
        """Answers of one batch, each with its share of the batch's time."""
        share = seconds / max(1, len(found))
        return [replace(answer, seconds=share, gpu_seconds=share * self.generator.gpus) for answer in found]

    def _paid(self, found: list[Answer]) -> pa.Array:
        """Adds answers to what this run cost; what a server does not tell counts as nothing."""
        rows = [vars(answer) for answer in found]
        spent: dict[str, Any] = {key: sum(row[key] or 0 for row in rows) for key in (*answers.TOKENS, "gpu_seconds")}
        spent["model_seconds"] = sum(answer.seconds for answer in found)
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
    found = {example for example, plain in waiting.items() if plain.strip() in tests}
    for batch in job.table("docs").batches(["title", "text", "held_out"]):
        for title, text, held_out in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if held_out:
                plain = f" {comparable(doc_text(title, text))} "
                found |= {example for example, words in waiting.items() if words in plain}
    return sorted(found)


def open_generator(source: str, prompts: Prompts, fetch: Callable[[str], Path]) -> Any:
    """A backend before any weights are read; `fetch` gives the local path of a reference. Raises UserError."""
    backend, llm = load("generator", source), prompts.llm
    if backend.local:
        return backend(fetch(llm.model), llm, prompts.probes())
    return backend(fetch(llm.endpoint.tokenizer) if llm.endpoint.tokenizer else None, llm)
