"""The tuned models of two runs against each other, on every test set that both measured."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from hone import tables
from hone.context import Job, Plan, Shard
from hone.engine import explain, record, runner
from hone.errors import UserError
from hone.evaluation.metrics import MEASURES
from hone.evaluation.rankings import DOCUMENT_FACTS, Ranking, Result
from hone.evaluation.summary import SIDES, Draws, Measured, main_set, summarise
from hone.evaluation.test_collections import OWN, Judged, read_judged
from hone.report.collect import queries_of
from hone.report.findings import Findings
from hone.results.manifest import Manifest
from hone.results.table_io import TableReader, fetch_folder
from hone.stages import evaluate, stage
from hone.storage.base import Store
from hone.tables import Table

DRAWS = Draws(permutations=100_000, resamples=10_000, seed=17)
EXAMPLES = 10
PerQuery = dict[str, float]


@dataclass(frozen=True)
class Run:
    """A finished run: its stages, what it found, and every value of its tuned model."""

    name: str
    stages: dict[str, Manifest]
    job: Job
    findings: Findings
    values: dict[str, dict[str, PerQuery]]
    """Set to measure to query_id to value."""


def compare(store: Store, one: str, other: str, scratch: Path) -> Findings:
    """The second run's tuned model against the first's, paired over the queries both measured. Raises UserError."""
    runs = [load(store, name, scratch / f"{number}") for number, name in enumerate((one, other))]
    judged = own_sets(runs[0])
    sets = list(shared_sets(runs, [texts_of(own) for own in (judged, own_sets(runs[1]))]))
    if not sets:
        raise UserError("the two runs measured no query in common; evaluate both on the same test set")
    shapes = [run.findings.metrics["models"].get("tuned", {}) for run in runs]
    models: dict[str, Any] = {"base": shapes[0], "tuned": shapes[1]} if all(shapes) else {}
    # Their encoding times are left out: they were measured apart, maybe on different machines.
    findings = Findings(
        metrics=summarise([measured for measured, _ in sets], models, DRAWS),
        model=f"{other} against {one}",
        names=(one, other),
        changes=tuple(changes(*runs)),
        sides=tuple(run.findings for run in runs),
    )
    main = main_set([measured for measured, _ in sets])
    measured, ids = next(pair for pair in sets if pair[0].name == main)
    answers = answered(runs, judged.get(main), main, ids)
    return replace(findings, **queries_of(answers, measured.values, EXAMPLES))


def load(store: Store, name: str, scratch: Path) -> Run:
    """Raises UserError if the run has not been evaluated."""
    done = record.results(store, name)
    if "evaluate" not in done:
        raise UserError(f"run {name!r} has not been evaluated; `hone run` its settings first")
    scratch.mkdir(parents=True)
    manifest = done["evaluate"]
    inputs = {table: made for table, made in runner.outputs_of(done).items() if table in evaluate.READS}
    config = stage("evaluate").Config.model_validate(manifest.config)
    job = Job(Plan("evaluate", config, inputs, manifest.sources, manifest.fingerprint), store, scratch, Shard())
    report = fetch_folder(store, manifest, "findings", scratch)
    findings = Findings.from_json((report / "findings.json").read_bytes())
    whole = replace(findings, history=tuple(done.values()), verdict=done["gate"].facts if "gate" in done else {})
    return Run(name, done, job, whole, tuned_values(job, manifest))


def searched(job: Job) -> tuple[str, str]:
    """The systems of a run before and after training, as its settings declare that users search."""
    return SIDES[cast(evaluate.Config, job.plan.config).search_as]


def tuned_values(job: Job, manifest: Manifest) -> dict[str, dict[str, PerQuery]]:
    """Set to measure to query to the value of the tuned model, searched as the run declares."""
    values: dict[str, dict[str, PerQuery]] = defaultdict(lambda: defaultdict(dict))
    for row in _rows(job, manifest, tables.MEASURES):
        if row["system"] == searched(job)[1]:
            values[row["set"]][row["measure"]][row["query_id"]] = row["value"]
    return values


def own_sets(run: Run) -> dict[str, Judged]:
    """The judged queries of a run's own corpus, by set."""
    seed = cast(evaluate.Config, run.job.plan.config).seed
    return {name: judged for judged in read_judged(run.job, (), seed) for name in judged.roles}


def texts_of(sets: Mapping[str, Judged]) -> dict[str, str]:
    """query_id to text."""
    return {query: text for judged in sets.values() for query, text in zip(judged.ids, judged.texts, strict=True)}


def shared_sets(runs: list[Run], asked: Sequence[Mapping[str, str]]) -> Iterator[tuple[Measured, list[str]]]:
    """Every set that both runs measured, over the queries that both did, with the ids of these.

    `asked` are the texts of both runs' own queries: an id that means another query there is not shared.
    """
    one, other = runs
    texts, theirs = asked
    for name in (name for name in one.values if name in other.values):
        both = one.values[name][MEASURES[0]].keys() & other.values[name][MEASURES[0]].keys()
        ids = sorted(query for query in both if name not in OWN or texts.get(query) == theirs.get(query))
        facts = one.findings.metrics["sets"][name]
        values = {
            system: {measure: np.array([run.values[name][measure][query] for query in ids]) for measure in MEASURES}
            for system, run in zip(("base", "tuned"), runs, strict=True)
        }
        if ids:
            shown = [texts[query] if name in OWN else query for query in ids]
            about_docs = {key: facts[key] for key in DOCUMENT_FACTS}
            yield Measured(name, facts["role"], facts["synthetic"], shown, values, facts["judged_by"], about_docs), ids


def answered(runs: list[Run], judged: Judged | None, name: str, ids: list[str]) -> Result:
    """What both tuned models retrieved for these queries of one set, and the first run's teacher."""
    wanted = {query: at for at, query in enumerate(ids)}
    answers: dict[str, dict[int, Ranking]] = {"base": {}, "tuned": {}, "teacher": {}}
    sides = [searched(run.job)[1] for run in runs]
    for run, systems in zip(runs, ({sides[0]: "base", "teacher": "teacher"}, {sides[1]: "tuned"}), strict=True):
        for row in _rows(run.job, run.stages["evaluate"], tables.RUNS):
            if row["set"] == name and row["system"] in systems and row["query_id"] in wanted:
                answers[systems[row["system"]]][wanted[row["query_id"]]] = Ranking(row["doc_ids"], row["scores"])
    texts = texts_of({name: judged}) if judged else {}
    grades = dict(zip(judged.ids, judged.judgements, strict=True)) if judged else {}
    asked = Judged(
        docs=runs[0].job.table("docs"),
        roles={name: "domain"},
        ids=ids,
        texts=[texts.get(query, query) for query in ids],
        sets=[name] * len(ids),
        judgements=[grades.get(query, {}) for query in ids],
    )
    return Result(name, asked, answers, answers.pop("teacher"))


def changes(one: Run, other: Run) -> Iterator[tuple[str, str, str]]:
    """Every setting that differs between two runs, with its value in either."""
    for name in (name for name in one.stages if name in other.stages):
        for key, before, after in explain.differing(name, one.stages[name].config, other.stages[name].config):
            yield key, repr(before), repr(after)


def _rows(job: Job, manifest: Manifest, table: Table) -> Iterator[dict[str, Any]]:
    output = manifest.outputs[table.name]
    for batch in TableReader(table, output, manifest.prefix, job.store, job.scratch).batches():
        yield from batch.to_pylist()
