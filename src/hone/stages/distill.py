"""distill: listwise training of the student on the curated lists."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field

from hone.backends import distributed, encoders, search, training
from hone.backends.encoders.families import Student, doc_text
from hone.backends.training import schedule
from hone.backends.training.settings import OneTraining, TrainingSettings
from hone.config import ModelSource, StageConfig
from hone.context import Job
from hone.core.hashing import hashed
from hone.core.interpolation import Point, allowed, choose, record, sweep
from hone.errors import UserError
from hone.evaluation.metrics import PRIMARY, effectiveness
from hone.evaluation.test_collections import (
    GuardSet,
    Judged,
    Tested,
    distinct,
    elsewhere_tested,
    read_collection,
    themselves,
)
from hone.inputs.model_folder import copy_declared
from hone.inputs.references import declared_licence, model_name
from hone.log import log
from hone.progress import Task, task
from hone.report.card import unmeasured_card
from hone.results import registry
from hone.results.registry import Start
from hone.spent import growing

IMAGE = "train"
READS = ("docs", "lists")
WRITES = ("model", "start")
GUARD_DEPTH = 10
OF_DOMAINS = ("docs", "judged_queries", "qrels", "lists")


class Training(OneTraining):
    """One training and what it takes of the lists."""

    list_size: int = Field(20, ge=1)
    """Documents taken from each list, best first."""
    max_doc_tokens: int = Field(0, ge=0)
    """Train with documents cut to this many tokens; 0 cuts them where the student does."""
    alphas: Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)] = (1.0,)
    """Shares of the way from the base to the trained weights; the best on the dev lists by `choose_by` is kept. With
    `guards` the base is tried too, and where this is left alone the quarters of the way."""


def _nothing_if_false(value: object) -> object:
    return None if value is False else value


class Config(StageConfig, Training, TrainingSettings):
    """Settings of distill."""

    together: ClassVar[bool] = True
    without_training: ClassVar[tuple[str, ...]] = ("lists",)

    def reading(self, reads: tuple[str, ...]) -> tuple[str, ...]:
        """Trained for several domains: what is read of each of them, which a run of its own has made."""
        return tuple(f"{name}/{table}" for name in sorted(self.domains) for table in OF_DOMAINS) or reads

    adopt: ModelSource = ""
    """A model that is taken as it is, instead of training one: what evaluate and gate then judge. A folder or s3://."""
    student: Student
    """The retriever that is specialised."""
    start: Start = Start()
    """The published model that training starts from; `student.start: published` fills it in."""
    guards: tuple[GuardSet, ...] = ()
    """Collections of other domains: a share of the way that loses more than `guard_loss` on one of them is not kept."""
    guard_loss: Annotated[float, Field(ge=0)] = 0.01
    """nDCG@10 that a guard set may lose against the base."""
    first: Annotated[
        Training | None,
        BeforeValidator(_nothing_if_false, json_schema_input_type=Training | Literal[False] | None),
    ] = None
    """A training before this one, with settings of its own: layers first, say, and then a head over what they give.
    false leaves out what a preset has."""
    max_lists: Annotated[int, Field(ge=0)] = 0
    """Most lists that are trained on, drawn by seed; 0 takes all. `hone saturate` finds out with it what more would
    bring."""

    def filled_in(self, before: StageConfig) -> Self:
        start = cast(Config, before).start
        return self.model_copy(update={"start": start}) if self.starts_from_published else self

    @property
    def starts_from_published(self) -> bool:
        """Whether the store says what training starts from."""
        return self.student.start == "published" and not self.adopt and not self.start.version


def run(config: Config, job: Job) -> None:
    """Trains the student and saves it with `training.json`, the record of its curves."""
    job.write_json("start", config.start.model_dump() if config.start.version else {})
    if config.adopt:
        copy_declared(job.source(config.adopt), job.new_folder("model"))
        job.facts["adopted"] = True
        return
    if config.starts_from_published:
        log.warning("training starts from the base: nothing that was trained on other lists is published yet")
    with distributed.joined():
        guards = [themselves(read_collection(guard, "guard", job)) for guard in distinct(config.guards)]
        encoder = encoders.Encoder(_started_from(config, job), config.student, token_budget=config.token_budget)
        first = (
            {"first": _train(first_alone(config, config.first), job, encoder, guards, "first")} if config.first else {}
        )
        last = _train(config, job, encoder, guards, "last")
        folder = job.new_folder("model")
        encoder.save(folder)
    job.facts.update(last["summary"], **{name: before["summary"] for name, before in first.items()})
    (folder / "training.json").write_text(json.dumps(_finite({**last, **first}), indent=1), "utf-8")
    _write_card(config, job, encoder, folder)


def first_alone(config: Config, first: Training) -> Config:
    """The settings of the training before, as if it were the only one."""
    of_its_own = {name: getattr(first, name) for name in Training.model_fields}
    return config.model_copy(update={**of_its_own, "first": None})


def _train(config: Config, job: Job, encoder: Any, guards: list[Judged], name: str) -> dict[str, Any]:
    """One training, after which the student is in `encoder`. Returns its record."""
    memory = training.memory_limit(config.memory_gb, encoder.device)
    embedder, examples = read_examples(job, encoder, config, training.states_limit(memory, encoder.device))
    shown_dev = training.first_of_each(examples.dev, config.dev_lists)
    dev = training.loop.dev_batches(shown_dev, encoder.device, config.docs_per_step, config.domains)
    checkpoints = training.Checkpoints(
        job.store, f"{job.plan.prefix}/checkpoints/{name}", job.scratch, config.checkpoint_every
    )
    base = [weight.detach().clone() for weight in embedder.weights]
    if not config.loss.student_tau:
        with _Shown("distill: fit temperature", "texts") as shown:
            loss = training.loop.calibrated(embedder, examples.train, config, shown.start)
        config = config.model_copy(update={"loss": loss})
    anchors = training.anchor_vectors(embedder, config.loss, config.token_budget)
    with (
        _Shown(f"distill: train {config.train}", "steps") as shown,
        training.tracked(config, job.plan.fingerprint) as track,
    ):
        gradients = training.Gradients(embedder, config.loss, config.token_budget, memory, anchors, shown.say)
        state = training.loop.train(gradients, examples.train, dev, config, shown.start, checkpoints, track)
    base = embedder.merge() if config.train == "lora" else base
    known = {name: figures["base"] for name, figures in job.facts.get("guards", {}).items()}
    kept, curve = choose_alpha(config, job, embedder, base, dev, guards, known)
    known = known or (dict(curve[0].guards) if curve else {})
    summary = _summary(config, state, examples, kept.alpha) | _told(config, bool(dev), curve, known)
    if config.domains:
        job.facts["domains"] = _by_domain(config, examples, state.step)
    padding = round(1 - gradients.real / max(1, gradients.padded), 4)
    job.facts.update(kept_graphs=round(gradients.kept / max(1, gradients.groups), 4), padding=padding)
    if guards:
        job.facts["guards"] = {name: {"base": known[name], "kept": kept.guards[name]} for name in kept.guards}
    for name, count in (("steps", state.step), ("docs", state.history.encoded), ("tokens", state.history.tokens)):
        job.cost[name] = job.cost.get(name, 0) + count
    job.afterwards.append(checkpoints.clear)
    alphas = record(curve, config.guard_loss, known)
    several = {"domains": job.facts["domains"]} if len(config.domains) > 1 else {}
    return {"summary": summary, "steps": state.history.steps, "looks": state.history.looks, "alphas": alphas, **several}


def _write_card(config: Config, job: Job, encoder: Any, folder: Path) -> None:
    """The card of a model that nothing has measured yet; evaluate and publish know more."""
    prompts = {"query": encoder.query_prefix, "document": encoder.doc_prefix}
    licence, sizes = declared_licence(job.source(config.student.model)), (encoder.dimension, encoder.doc_limit())
    (folder / "README.md").write_text(
        unmeasured_card(model_name(config.student.model), licence, sizes, prompts), "utf-8"
    )
    job.facts["prompts"] = prompts


def _started_from(config: Config, job: Job) -> Path:
    """The folder of the model that training starts from. Raises UserError."""
    if not config.start.version:
        return job.source(config.student.model)
    return registry.fetch(job.store, config.start.domain, config.start.version, job.scratch)


@dataclass(frozen=True)
class Examples:
    """The lists of both splits. Texts are numbers: every listed document once, then the queries."""

    train: list[Any]
    dev: list[Any]
    left_out: dict[str, int]
    """Domain to the lists that show what the student is tested on in another."""


def read_examples(job: Job, encoder: Any, config: Config, states: float) -> tuple[Any, Examples]:
    """The embedder over all texts of the lists, with `states` bytes for what it keeps, and the lists. Raises UserError
    on unknown documents or no lists."""
    wanted = {
        domain: {doc_id for (ids,) in _lists(job, domain, "doc_ids") for doc_id in ids[: config.list_size]}
        for domain in _domains(config)
    }
    if config.train == "head":
        places, vectors = _encoded(job, encoder, wanted)
        examples = _examples(job, places, config)
        texts = [text for domain in wanted for (text,) in _lists(job, domain, "text")]
        queries = encoders.encode_queries(job, encoder, "distill: encode queries", texts)
        return training.HeadOnly(encoder, np.concatenate([*vectors, queries])), examples
    places = {domain: dict[str, int]() for domain in wanted}
    tokenizer = encoders.DocTokenizer(job, encoder, config.max_doc_tokens)
    with growing("docs"):
        tokens = encoders.Tokens(job.scratch, _tokenised(job, tokenizer, wanted, places))
    examples = _examples(job, places, config)
    return training.make_embedder(encoder, tokens, config, states, job.scratch), examples


Places = dict[str, dict[str, int]]
"""Domain to doc_id to the number of the text."""


def _domains(config: Config) -> list[str]:
    """What is trained for: the domain of this run, which is called nothing, or several."""
    return sorted(config.domains) or [""]


def _examples(job: Job, places: Places, config: Config) -> Examples:
    by_split: dict[str, list[Any]] = {"train": [], "dev": []}
    left_out: dict[str, int] = {}
    query = sum(map(len, places.values()))
    tested_elsewhere = elsewhere_tested(job, config.domains.keys())
    for domain, place in places.items():
        tested = tested_elsewhere.get(domain, Tested())
        chosen, before = _sample(job, config, domain), len(by_split["train"])
        for row in _lists(job, domain, "query_id", "text", "doc_id", "split", "doc_ids", "scores", "likely"):
            query_id, text, source, split, doc_ids, _, _ = row
            shown = tested.shown(text, (source, *doc_ids))
            left_out[domain] = left_out.get(domain, 0) + shown
            if not shown and (split == "dev" or chosen is None or query_id in chosen):
                by_split[split].append(_example(row, query, place, config.list_size, domain))
            query += 1
        if len(by_split["train"]) == before:
            of = f" of {domain}" if domain else ""
            raise UserError(
                f"no training lists{of} are left; see the reasons in dropped_by_curate and loosen mine or curate"
            )
    return Examples(**by_split, left_out=left_out)


def _example(row: tuple[Any, ...], query: int, place: Mapping[str, int], size: int, domain: str) -> Any:
    """One list as the numbers of its texts. Raises UserError on an unknown document."""
    _, _, source, _, doc_ids, scores, left_out = row
    missing = [doc_id for doc_id in doc_ids[:size] if doc_id not in place]
    if missing:
        raise UserError(f"lists name documents that are not in docs, such as {missing[0]!r}; curate again")
    passages = np.array([place[doc_id] for doc_id in doc_ids[:size]], dtype=np.int64)
    likely = tuple(place[doc_id] for doc_id in (source, *left_out) if doc_id in place)
    return training.Example(query, passages, np.array(scores[:size], dtype=np.float32), likely, domain)


def _sample(job: Job, config: Config, domain: str) -> Set[str] | None:
    """The queries of a domain that are trained on, or None for all."""
    if not config.max_lists:
        return None
    train = (query_id for query_id, split in _lists(job, domain, "query_id", "split") if split == "train")
    return set(sorted(train, key=lambda query_id: hashed(config.seed, query_id))[: config.max_lists])


@growing("docs")
def _encoded(job: Job, encoder: Any, wanted: Mapping[str, Set[str]]) -> tuple[Places, list[np.ndarray]]:
    """Numbers and vectors [n, d], of each domain, of the wanted documents; what other stages have encoded already is
    not done again."""
    places, vectors, taken = Places(), list[np.ndarray](), 0
    for domain, chosen in wanted.items():
        ids, encoded = encoders.encode_by(job, encoder, "distill: encode docs", job.table(_of(domain, "docs")))
        rows = [row for row, doc_id in enumerate(ids) if doc_id in chosen]
        places[domain] = {ids[row]: number for number, row in enumerate(rows, taken)}
        vectors.append(np.asarray(encoded[rows]))
        taken += len(rows)
    return places, vectors


def choose_alpha(
    config: Config, job: Job, embedder: Any, base: list[Any], dev: list[Any], guards: list[Judged],
    known: Mapping[str, float],
) -> tuple[Point, list[Point]]:  # fmt: skip
    """Leaves base + alpha (trained - base) in the student for the alpha that is best on the dev lists of those that the
    guard sets allow (the last one without dev lists); returns it and what each came to, the base first if guarded.
    `known` is what the guard sets came to before an earlier training, where there was one."""
    trained = [weight.detach().clone() for weight in embedder.weights]

    def place(alpha: float) -> None:
        training.interpolate(embedder.weights, base, trained, alpha)

    alphas = sweep(config.alphas, bool(guards))
    if not guards and (len(alphas) == 1 or not dev):
        place(alphas[-1])
        return Point(alphas[-1]), []
    curve: list[Point] = []
    for alpha in alphas:
        place(alpha)
        figures = training.dev_figures(embedder, dev, config.loss, config.token_budget)
        on_guards = {name: _ndcg(job, embedder.encoder, guard, alpha) for guard in guards for name in guard.roles}
        curve.append(Point(alpha, training.validation_loss(figures, config), figures, on_guards))
    best = choose(curve, config.guard_loss, known)
    place(best.alpha)
    return best, curve


def _ndcg(job: Job, encoder: Any, guard: Judged, alpha: float) -> float:
    """Mean nDCG@10 of the student as it is now on a guard set, over all of its documents."""
    answers = search.dense(
        job, encoder, guard, GUARD_DEPTH, f"distill: encode {{}} ({', '.join(guard.roles)} at {alpha:g})"
    )
    return float(effectiveness([answer.doc_ids for answer in answers], guard.judgements)[PRIMARY].mean())


def _of(domain: str, table: str) -> str:
    """The name under which a table of a domain is read."""
    return f"{domain}/{table}" if domain else table


def _lists(job: Job, domain: str, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Rows of the table lists, some thousand held at a time; columns in the table's order."""
    for batch in job.table(_of(domain, "lists")).batches(list(columns)):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _tokenised(job: Job, tokenizer: Any, wanted: Mapping[str, Set[str]], places: Places) -> Iterator[Any]:
    """Token ids of the wanted documents, whose numbers are noted in `places`, then of the queries of all lists."""
    taken = 0
    for domain, chosen in wanted.items():
        for batch in job.table(_of(domain, "docs")).batches(["doc_id", "title", "text"]):
            every = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            rows = [row for row in every if row[0] in chosen]
            places[domain].update((doc_id, number) for number, (doc_id, _, _) in enumerate(rows, taken))
            taken += len(rows)
            yield tokenizer.ids([doc_text(title, text) for _, title, text in rows])
    for domain in wanted:
        for batch in job.table(_of(domain, "lists")).batches(["text"]):
            yield pa.array(tokenizer.encoder.tokenize_queries(batch["text"].to_pylist()), encoders.IDS)


def _by_domain(config: Config, examples: Examples, steps: int) -> dict[str, dict[str, int]]:
    """What the student saw of each domain."""
    taken = Counter(training.domain_of(step, config.domains, config.seed) for step in range(steps))
    train, dev = training.by_domain(examples.train), training.by_domain(examples.dev)
    return {
        name: {
            "train_lists": len(train[name]),
            "dev_lists": len(dev.get(name, ())),
            "left_out": examples.left_out[name],
            "steps": taken[name],
        }
        for name in sorted(config.domains)
    }


def _summary(config: Config, state: Any, examples: Examples, alpha: float) -> dict[str, Any]:
    size = schedule.course([len(own) for own in training.by_domain(examples.train).values()], config).batch
    summary: dict[str, Any] = {
        "train_lists": len(examples.train),
        "dev_lists": len(training.first_of_each(examples.dev, config.dev_lists)),
        "lists_per_step": size,
        "steps": state.step,
        "best_step": state.best.step,
        "student_tau": config.loss.student_tau,
        "alpha": alpha,
        "encoded_share_of_slots": round(state.history.encoded / max(1, state.history.slots), 4),
    }
    if config.start.version:
        summary["start"] = f"version {config.start.version} of {config.start.domain}"
    if state.planned:
        summary["steps_in_minutes"] = state.planned
    if size < config.batch_size:
        summary["note"] = f"{len(examples.train)} lists: {size} to a step instead of {config.batch_size}"
    if not examples.dev:
        summary["note"] = "no dev lists: trained to the last step without early stopping"
    return summary


def _told(config: Config, dev: bool, curve: list[Point], known: Mapping[str, float]) -> dict[str, str]:
    """What the choice of alpha rests on."""
    names = " and ".join(guard.name for guard in config.guards)
    if not names and len(config.alphas) == 1:
        return {}
    if not names:
        on = f"the dev lists alone, by {config.choose_by}" if dev else "nothing, without dev lists: the last"
    elif len(curve) > 1 and not any(point.alpha for point in allowed(curve, config.guard_loss, known)):
        on = f"{names} alone: all but the base lose more than {config.guard_loss:g} {PRIMARY}, so the base is kept"
    else:
        most = f"at most {config.guard_loss:g} {PRIMARY}"
        on = f"the dev lists, by {config.choose_by}, among those that lose {most} on {names}"
        on = on if dev else f"{names} alone, without dev lists: the last that loses {most} there"
    return {"alpha_chosen_on": on}


class _Shown:
    """Opens the progress bar when the trainer knows how much there is to do."""

    def __init__(self, label: str, unit: str) -> None:
        self.label, self.unit = label, unit
        self._bar: Any = None
        self._task: Task | None = None

    def __enter__(self) -> "_Shown":
        return self

    def start(self, total: int) -> Task:
        self._bar = task(self.label, total, self.unit)
        shown: Task = self._bar.__enter__()
        self._task = shown
        return shown

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._task:
            self._task.say(f"{self.label}: {text}")

    def __exit__(self, *error: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(*error)


def _finite(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def training_record(model: Path) -> dict[str, Any]:
    """The record that `run` left in a model folder."""
    return json.loads((model / "training.json").read_text("utf-8"))
