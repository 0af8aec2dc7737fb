"""Ablations and saturation: the recipe with one thing changed, or with fewer queries, on the same test queries.

Every variant is a whole run of its own in the store. What it shares with another is found there and not run again, so
that a study that was cut off goes on where it was.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from hone import settings, tables
from hone.core.text import flat
from hone.engine import runner
from hone.errors import UserError
from hone.evaluation.metrics import PRIMARY
from hone.evaluation.saturation import GRID, fit, resampled
from hone.evaluation.statistics import compare
from hone.evaluation.summary import SIDES, Draws
from hone.report.ablation import Ablation, Curve, Row, Saturation
from hone.results.manifest import Manifest
from hone.results.table_io import TableReader
from hone.scratch import scratch_folder
from hone.settings import RunSettings
from hone.stages import distill, evaluate, generate, score
from hone.storage.base import Store

DRAWS = Draws(permutations=100_000, resamples=10_000, seed=17)
FULL = "full recipe"
HALVINGS = 4
MAKING = ("generate", "mine", "score", "curate", "distill")
"""The stages whose work grows with the number of queries."""
Overlay = Mapping[str, Any]


@dataclass(frozen=True)
class Variant:
    """The recipe with one thing changed: what is laid over the settings."""

    group: str
    name: str
    overlay: Overlay = field(default_factory=dict[str, Any])


INFONCE = {"kl_weight": 0, "infonce_weight": 1, "margin_mse_weight": 0}
SAME_LISTS = {"outscored": "relabel"}
WHOLE_SCORES = {"early_exit": False}


def fusion(**changed: Any) -> Overlay:
    """A fusion mixed as given and not as dev queries choose, whether or not it is better than the student."""
    teacher = {"kind": "fusion", "mixes": [], "force": True, **changed}
    return {"teacher": teacher, "score": WHOLE_SCORES}


VARIANTS = (
    Variant("loss", "listwise alone", {"distill": {"loss": {"kl_weight": 1, "infonce_weight": 0}}}),
    Variant("loss", "InfoNCE alone", {"distill": {"loss": INFONCE}}),
    Variant("loss", "listwise + 0.1 InfoNCE", {"distill": {"loss": {"kl_weight": 1, "infonce_weight": 0.1}}}),
    Variant("negatives", "InfoNCE, mined negatives", {"distill": {"loss": INFONCE}}),
    Variant("negatives", "InfoNCE, negatives of the batch only", {"distill": {"loss": INFONCE, "list_size": 1}}),
    Variant("negatives", "mined by the student alone", {"mine": {"fuse_bm25": False, "retrievers": []}}),
    Variant("negatives", "mined by the student and BM25", {"mine": {"fuse_bm25": True}}),
    Variant("negatives", "lists with poor documents too", {"curate": {"pick": "stratified"}}),
    Variant("teacher", "the student as its own teacher", fusion(encoders=[], lexical_weight=0, feedback_docs=0)),
    Variant("teacher", "BM25 as the teacher", fusion(encoders=[], lexical_weight=1, feedback_docs=0)),
    Variant("teacher", "BM25 and the student, fused", fusion(encoders=[], lexical_weight=0.3)),
    Variant("curation", "with the consistency filter", {"mine": {"consistency_rank": 20}}),
    Variant("curation", "without the consistency filter", {"mine": {"consistency_rank": 0}}),
    Variant("curation", "with the teacher filter", {"curate": {"outscored": "drop"}}),
    Variant("curation", "without the teacher filter", {"curate": SAME_LISTS, "score": WHOLE_SCORES}),
    Variant("curation", "source document in the list", {"curate": {"mask_source": False}}),
    Variant("curation", "weak queries dropped", {"curate": {"weak_percentile": 25}}),
)  # fmt: skip
"""What an ablation can leave out or exchange: a row each. Those of queries depend on the settings; see `of_queries`."""
GROUPS = ("loss", "queries", "negatives", "teacher", "curation")


@dataclass(frozen=True)
class Study:
    """A settings file as a mapping, where it lies, and the store of its runs."""

    data: dict[str, Any]
    file: str
    base: Path
    store: Store

    def seeds(self, count: int) -> range:
        """So many seeds, from that of the settings on."""
        first = int(self.data.get("seed", 17))
        return range(first, first + count)

    def checked(self, overlay: Overlay, seed: int, name: str = "") -> RunSettings:
        """The settings of one variant and seed. Raises UserError."""
        changed = settings.overlay(settings.overlay(self.data, dict(overlay)), {"seed": seed})
        return settings.check({**changed, "name": f"{self.data['name']}{name}-{seed}"}, self.file, self.base)


@dataclass(frozen=True)
class Outcome:
    """What one variant came to with one seed."""

    done: dict[str, Manifest]
    values: dict[str, float]
    """query_id to nDCG@10, searched as users search."""
    base: dict[str, float]

    @property
    def lists(self) -> int:
        there = int(self.done["curate"].facts["lists"].get("train", 0))
        return min(there, self.done["distill"].config.get("max_lists") or there)


Tell = Callable[[str], None]


def load(path: Path, store: Store) -> Study:
    """Raises UserError."""
    settings.load(path)
    return Study(settings.read_yaml(path), str(path), path.resolve().parent, store)


def ablate(study: Study, over: Sequence[str], seeds: Sequence[int], hours: float, out: Path, tell: Tell) -> Ablation:
    """Runs the full recipe and every variant of these groups, seed by seed, until the budget is spent.

    Raises UserError if the full recipe itself cannot be run.
    """
    started = time.monotonic()
    wanted = [Variant("", FULL), *of_groups(study, over, seeds[0], out, tell)]
    outcomes: dict[str, dict[int, Outcome]] = {variant.name: {} for variant in wanted}
    notes: dict[str, str] = {}
    for seed in seeds:
        for variant in wanted:
            if variant.name in notes:
                continue
            if outcomes[FULL].keys() & {seeds[0]} and time.monotonic() - started > 3600 * hours:
                notes.setdefault(variant.name, "not run: the budget was spent")
                continue
            tell(f"{variant.name}, seed {seed}")
            try:
                outcomes[variant.name][seed] = _outcome(study, variant, seed)
            except UserError as refusal:
                if variant.name == FULL:
                    raise
                notes[variant.name] = f"refused: {refusal}"
    return table(study, wanted, outcomes, notes, seeds)


def of_groups(
    study: Study, over: Sequence[str], seed: int, out: Path | None = None, tell: Tell = lambda line: None
) -> list[Variant]:
    """The variants of these groups, in the order of the groups; without a folder `out` for their log, those with
    people's queries are left out. Raises UserError on a group that is not known."""
    unknown = [group for group in over if group not in (*GROUPS, "all")]
    if unknown:
        raise UserError(f"--over {unknown[0]}: no such group; choose from {', '.join(GROUPS)} or all")
    chosen = GROUPS if "all" in over else [group for group in GROUPS if group in over]
    variants: list[Variant] = []
    for group in chosen:
        variants += of_queries(study, seed, out, tell) if group == "queries" else ()
        variants += of_encoders(study, seed) if group == "teacher" else ()
        variants += [in_both_trainings(study, variant, seed) for variant in VARIANTS if variant.group == group]
    return variants


def in_both_trainings(study: Study, variant: Variant, seed: int) -> Variant:
    """What the variant sets of training, set of `distill.first` as well where the recipe has one."""
    trained = variant.overlay.get("distill")
    if not trained or not cast(distill.Config, study.checked({}, seed).stages["distill"]).first:
        return variant
    return replace(variant, overlay=settings.overlay(dict(variant.overlay), {"distill": {"first": trained}}))


def of_queries(study: Study, seed: int, out: Path | None, tell: Tell) -> list[Variant]:
    """Each style alone, and people's queries beside as many synthetic ones, where dev has queries."""
    config = cast(generate.Config, study.checked({}, seed).stages["generate"])
    variants = [Variant("queries", f"style {name} alone", overlay) for name, overlay in _styles(config)]
    log = _human_queries(study, seed, out) if out else None
    if log is None:
        return variants
    people = {"generate": {"sources": ["log"], "query_log": str(log), "mix": {}}}
    tell("how many lists people's queries make")
    runs = [study.checked({}, seed), study.checked(people, seed, "-people")]
    curated = [runner.run(checked, study.store, last="curate")["curate"] for checked in runs]
    counts = [int(manifest.facts["lists"].get("train", 0)) for manifest in curated]
    same = {"distill": {"max_lists": min(counts)}}
    return [
        *variants,
        Variant("queries", f"people's queries, {min(counts):,} lists", settings.overlay(people, same)),
        Variant("queries", f"as many synthetic ones, {min(counts):,} lists", same),
    ]


def of_encoders(study: Study, seed: int) -> list[Variant]:
    """The fusion's further encoders alone, where the settings have any; without them is what the other variants are."""
    teacher = cast(score.Config, study.checked({}, seed).stages["score"]).teacher
    if teacher.kind != "fusion" or not teacher.encoders:
        return []
    alone = fusion(lexical_weight=0, encoder_weight=1, feedback_docs=0)
    return [Variant("teacher", "the further encoders alone", alone)]


def _styles(config: generate.Config) -> Iterator[tuple[str, Overlay]]:
    """Every style that the settings ask for, with the settings that ask for it alone."""
    kinds = {"extractive": config.extractive.styles, "llm": config.llm.styles}
    models = {"transformers", "vllm", "openai"} & set(config.sources)
    asked = {"extractive": "extractive" in config.sources, "llm": bool(models)}
    for kind in (kind for kind in kinds if asked[kind]):
        wanted = [name for name, count in kinds[kind].items() if count]
        for name in wanted if len(wanted) > 1 else ():
            alone = {other: kinds[kind][other] if other == name else 0 for other in kinds[kind]}
            yield name, {"generate": {kind: {"styles": alone}}}


def _human_queries(study: Study, seed: int, out: Path) -> Path | None:
    """The texts of the dev queries as a query log, beside the report; None if there are none."""
    prepared = runner.run(study.checked({}, seed), study.store, last="prepare")["prepare"]
    texts = [flat(row["text"]) for row in _rows(study, prepared, tables.JUDGED_QUERIES) if row["split"] == "dev"]
    if not texts:
        return None
    out.mkdir(parents=True, exist_ok=True)
    path = (out / "dev-queries.txt").resolve()
    path.write_text("\n".join(texts) + "\n", "utf-8")
    return path


def _rows(study: Study, manifest: Manifest, table: tables.Table) -> Iterator[dict[str, Any]]:
    """A table that a stage of a study's run wrote."""
    with scratch_folder() as scratch:
        reader = TableReader(table, manifest.outputs[table.name], manifest.prefix, study.store, scratch)
        for batch in reader.batches():
            yield from batch.to_pylist()


def run_variant(study: Study, variant: Variant, seed: int) -> dict[str, Manifest]:
    """The variant's run with this seed, up to evaluate; what it shares with another is found. Raises UserError."""
    checked = study.checked(variant.overlay, seed, f"-{_slug(variant)}" if variant.name != FULL else "")
    return runner.run(checked, study.store, last="evaluate")


def _outcome(study: Study, variant: Variant, seed: int) -> Outcome:
    return outcome_of(study, run_variant(study, variant, seed))


def outcome_of(study: Study, done: dict[str, Manifest]) -> Outcome:
    """What a finished run of a variant came to."""
    manifest = done["evaluate"]
    before, after = SIDES[manifest.config["search_as"]]
    columns: dict[str, dict[str, float]] = {before: {}, after: {}}
    for row in _rows(study, manifest, tables.MEASURES):
        wanted = row["set"] == manifest.facts["split"] and row["measure"] == PRIMARY
        if wanted and row["system"] in columns:
            columns[row["system"]][row["query_id"]] = row["value"]
    return Outcome(done, columns[after], columns[before])


def _slug(variant: Variant) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in f"{variant.group}-{variant.name}".lower())[:80]


def table(
    study: Study, wanted: Sequence[Variant], outcomes: Mapping[str, Mapping[int, Outcome]], notes: Mapping[str, str],
    seeds: Sequence[int],
) -> Ablation:  # fmt: skip
    """Every variant against the full recipe. `found` has what each came to with each seed that ran, `notes` why there
    is nothing, or less."""
    full = outcomes[FULL]
    first = next(iter(full.values()))
    rows: list[Row] = []
    for variant in wanted:
        ran = outcomes[variant.name]
        row = Row(variant.group or "recipe", variant.name, _written(variant.overlay), note=notes.get(variant.name, ""))
        rows.append(_filled(row, ran, full) if ran else row)
    facts = first.done["evaluate"].facts
    way = cast(evaluate.Config, study.checked({}, seeds[0]).stages["evaluate"]).search_as
    ran_seeds = tuple(seed for seed in seeds if seed in full)
    return Ablation(study.data["name"], facts["split"], facts["queries"], way, ran_seeds, tuple(rows))


def _filled(row: Row, ran: Mapping[int, Outcome], full: Mapping[int, Outcome]) -> Row:
    """The row with its figures, over the seeds that it and the full recipe ran."""
    seeds = [seed for seed in ran if seed in full]
    queries = sorted(next(iter(full.values())).values)
    own, recipe, base = (
        np.array([[values[query] for query in queries] for values in every])
        for every in (
            [ran[seed].values for seed in seeds],
            [full[seed].values for seed in seeds],
            [ran[seed].base for seed in seeds],
        )
    )
    drawn: dict[str, int] = {"permutations": DRAWS.permutations, "resamples": DRAWS.resamples, "seed": DRAWS.seed}
    shared = {manifest.prefix for seed in seeds for manifest in full[seed].done.values()}
    costs = [
        sum(one.seconds for one in ran[seed].done.values() if row.name == FULL or one.prefix not in shared)
        for seed in seeds
    ]
    return replace(
        row,
        lists=ran[seeds[0]].lists,
        base=float(base.mean()),
        tuned=float(own.mean()),
        gains=tuple(float(gain) for gain in (own - base).mean(axis=1)),
        against=None if row.name == FULL else compare(recipe.mean(axis=0), own.mean(axis=0), **drawn),
        seconds=sum(costs) / len(costs),
    )


def _written(overlay: Overlay, path: str = "") -> str:
    """`distill.loss.kl_weight: 0, ...` of an overlay."""
    parts: list[str] = []
    for key, value in overlay.items():
        place = f"{path}{key}"
        parts.append(_written(cast(Overlay, value), f"{place}.") if isinstance(value, dict) else f"{place}: {value}")
    return ", ".join(parts)


def saturate(study: Study, seeds: Sequence[int], price: float, hours: float, tell: Tell) -> Saturation:
    """The gain with a half, a quarter, ... of the queries and of the documents, fitted. Raises UserError."""
    started = time.monotonic()
    full = {}
    for seed in seeds:
        tell(f"{FULL}, seed {seed}")
        full[seed] = _outcome(study, Variant("", FULL), seed)
    first = full[seeds[0]]
    docs = first.done["prepare"].facts["docs"] - first.done["prepare"].facts["held_out"]
    asked = min(docs, cast(generate.Config, study.checked({}, seeds[0]).stages["generate"]).max_docs)
    axes: dict[str, tuple[int, Callable[[int], Overlay]]] = {
        "queries": (first.lists, lambda count: {"distill": {"max_lists": count}}),
        "documents": (asked, lambda count: {"generate": {"max_docs": count}}),
    }
    curves: list[Curve] = []
    for axis, (most, overlay) in axes.items():
        points: dict[int, dict[int, Outcome]] = {most: full}
        for half in range(1, HALVINGS + 1):
            count = most >> half
            if count < 1 or time.monotonic() - started > 3600 * hours:
                break
            for seed in seeds:
                tell(f"{count:,} {axis}, seed {seed}")
                variant = Variant("saturate", f"{axis} {count}", overlay(count))
                points.setdefault(count, {})[seed] = _outcome(study, variant, seed)
        if len(points) > 2:
            curves.append(_fitted(axis, points, most, first, price))
    if not curves:
        raise UserError("the budget was spent before three points of a curve were there; give a larger --budget")
    facts = first.done["evaluate"].facts
    way = cast(evaluate.Config, study.checked({}, seeds[0]).stages["evaluate"]).search_as
    return Saturation(study.data["name"], facts["split"], facts["queries"], way, tuple(seeds), tuple(curves))


def _fitted(axis: str, points: Mapping[int, Mapping[int, Outcome]], most: int, first: Outcome, price: float) -> Curve:
    counts = np.array(sorted(points), dtype=np.float64)
    queries = sorted(first.values)
    gains = np.array(
        [
            np.mean([[one.values[q] - one.base[q] for q in queries] for one in points[int(count)].values()], axis=0)
            for count in counts
        ]
    )
    at = most * np.linspace(0, 2, GRID)
    fitted = fit(counts, gains.mean(axis=1)[None], at)[0]
    drawn = fit(counts, resampled(gains, DRAWS.seed), at)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    more = np.quantile(drawn[:, -1] - drawn[:, GRID // 2], [0.025, 0.975])
    seconds = sum(first.done[name].seconds for name in MAKING)
    lines = [tuple(zip(at.tolist(), values.tolist(), strict=True))[1:] for values in (fitted, low, high)]
    measured = tuple(zip(counts.tolist(), gains.mean(axis=1).tolist(), strict=True))
    twice = (float(more[0]), float(more[1]))
    return Curve(axis, measured, lines[0], lines[1], lines[2], most, twice, seconds, price * seconds / 3600)
