"""An ablation as tasks: the full recipe, a task for each variant, and one that puts them into a table."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from hone import settings
from hone.config import Settings
from hone.engine import ablation
from hone.engine.ablation import FULL, Study, Variant
from hone.errors import UserError
from hone.kubeflow import settings_text
from hone.report.ablation import ablation_markdown, ablation_page, finding
from hone.results.manifest import lineage, load_manifest
from hone.storage.base import Store


class OneVariant(Settings):
    """Runs the recipe with one thing changed, up to evaluate, with each seed; what it shares with another is found in
    the store."""

    variant: str = FULL
    """The variant, as the task of the full recipe lists them; by default that recipe itself."""
    over: str = "all"
    """The groups of variants: loss, queries, negatives, teacher, curation, several with commas, or all."""
    seeds: int = Field(3, ge=1)
    """How many seeds, from the settings' own on."""


class AllVariants(Settings):
    """Compares every variant with the full recipe, query by query, and shows table and plot."""

    recipe: str = "{}"
    """What the task of the full recipe found."""
    variants: list[str] = Field(default=[])
    """What the tasks of the variants found."""


@dataclass(frozen=True)
class Ran:
    """What a task found, as it hands it on: each seed with the prefix of its evaluate result."""

    variant: Variant
    seeds: dict[str, str]
    note: str = ""
    """Why a seed or all of them are missing."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Ran":
        content = json.loads(text)
        return Ran(Variant(**content["variant"]), content["seeds"], content["note"])


def study_of(text: str, store: Store) -> Study:
    """The study of a settings file as it travels to tasks. Raises UserError."""
    fetched = settings_text.fetch(text)
    settings_text.check(fetched)
    return Study(settings.parse_yaml(fetched, "settings"), "settings", Path("/"), store)


def run_variant(study: Study, given: Mapping[str, Any]) -> tuple[Ran, list[str]]:
    """One variant with every seed, and the names of all others of its groups. A variant that is refused is noted.

    Raises UserError if the full recipe itself is refused.
    """
    seeds = study.seeds(int(given["seeds"]))
    groups = [name.strip() for name in str(given["over"]).split(",")]
    others = {variant.name: variant for variant in ablation.of_groups(study, groups, seeds.start)}
    variant = Variant("", FULL) if given["variant"] == FULL else others.get(str(given["variant"]))
    if variant is None:
        raise UserError(
            f"variant: there is no variant {given['variant']!r} in {given['over']}: compile the pipeline again"
        )
    prefixes: dict[str, str] = {}
    for seed in seeds:
        try:
            prefixes[str(seed)] = ablation.run_variant(study, variant, seed)["evaluate"].prefix
        except UserError as refusal:
            if variant.name == FULL:
                raise
            print(f"variant: refused: {refusal}", flush=True)
            return Ran(variant, prefixes, f"refused: {refusal}"), list(others)
    return Ran(variant, prefixes), list(others)


def summarise(study: Study, recipe: str, variants: list[str]) -> tuple[str, str, str]:
    """The finding, and the table with its plot as HTML and as Markdown. Raises UserError."""
    ran = [Ran.from_json(text) for text in (recipe, *variants)]
    outcomes = {
        one.variant.name: {int(seed): _outcome(study, prefix) for seed, prefix in one.seeds.items()} for one in ran
    }
    notes = {one.variant.name: one.note for one in ran if one.note}
    seeds = sorted(outcomes[FULL])
    made = ablation.table(study, [one.variant for one in ran], outcomes, notes, seeds)
    return finding(made), ablation_page(made), ablation_markdown(made)


def _outcome(study: Study, prefix: str) -> ablation.Outcome:
    manifest = load_manifest(study.store, f"{prefix}/manifest.json")
    if manifest is None:
        raise UserError(f"ablation: there is no finished evaluate at {prefix!r} in {study.store.uri}")
    return ablation.outcome_of(study, lineage(study.store, {"evaluate": manifest}))
