"""`hone compare`: the tuned models of two runs against each other, on every test set that both measured."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hone import local, tables
from hone.core.metrics import MEASURES
from hone.core.statistics import Comparison, compare, holm
from hone.errors import UserError
from hone.report.findings import interval, p_cell, points
from hone.stage import Manifest, TableReader, scratch_folder
from hone.store import Store, open_store

PERMUTATIONS, RESAMPLES, SEED = 100_000, 10_000, 17


@dataclass(frozen=True)
class Versus:
    """One measure on one test set: `base` is the first run's tuned model, `tuned` the second's."""

    set: str
    measure: str
    queries: int
    found: Comparison
    p_holm: float


def show(one: str, other: str, store_uri: str) -> None:
    """Prints how the second run's model compares with the first's, and which settings differ. Raises UserError."""
    store, console = open_store(store_uri), Console(highlight=False)
    runs = {name: local.results(store, name) for name in (one, other)}
    table = Table(title=escape(f"{other} against {one}"), title_justify="left", title_style="bold")
    table.add_column("set")
    table.add_column("measure")
    for heading in (one, other, "points", "95% CI", "p", "p (Holm)"):
        table.add_column(escape(heading), justify="right")
    for row in versus(store, *(_evaluate(name, done) for name, done in runs.items())):
        found = row.found
        means = f"{found.base:.3f}", f"{found.tuned:.3f}", points(found.delta), interval(found.ci95)
        table.add_row(f"{row.set} ({row.queries:,})", row.measure, *means, p_cell(found.p_value), p_cell(row.p_holm))
    console.print(table)
    for stage in (name for name in runs[one] if name in runs[other]):
        before, after = runs[one][stage].config, runs[other][stage].config
        for line in local.differences("", before, after):
            console.print(f"{stage}: {escape(line)}", soft_wrap=True)


def versus(store: Store, one: Manifest, other: Manifest) -> list[Versus]:
    """Every measure of every set, paired over the queries that both runs measured. Raises UserError without any."""
    values = [tuned_values(store, manifest) for manifest in (one, other)]
    pairs: list[tuple[str, str, np.ndarray, np.ndarray]] = []
    for name in sorted({name for name, _ in values[0]} & {name for name, _ in values[1]}):
        for measure in MEASURES:
            first, second = (found[name, measure] for found in values)
            shared = sorted(first.keys() & second.keys())
            if shared:
                before, after = (np.array([found[query] for query in shared]) for found in (first, second))
                pairs.append((name, measure, before, after))
    if not pairs:
        raise UserError("the two runs measured no query in common; evaluate both on the same test set")
    found = [
        compare(first, second, permutations=PERMUTATIONS, resamples=RESAMPLES, seed=SEED)
        for _, _, first, second in pairs
    ]
    adjusted = holm([comparison.p_value for comparison in found])
    rows = zip(pairs, found, adjusted, strict=True)
    return [Versus(name, measure, len(first), result, p) for (name, measure, first, _), result, p in rows]


def tuned_values(store: Store, evaluate: Manifest) -> dict[tuple[str, str], dict[str, float]]:
    """Set and measure to query to the value of the tuned model."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with scratch_folder() as scratch:
        output = evaluate.outputs["measures"]
        for batch in TableReader(tables.MEASURES, output, evaluate.prefix, store, scratch).batches():
            for row in batch.to_pylist():
                if row["system"] == "tuned":
                    found[row["set"], row["measure"]][row["query_id"]] = row["value"]
    return found


def _evaluate(name: str, done: dict[str, Manifest]) -> Manifest:
    if "evaluate" not in done:
        raise UserError(f"run {name!r} has not been evaluated; `hone run` its settings first")
    return done["evaluate"]
