"""ablate: what each part of the recipe is worth: the full recipe, then a task for each variant, and one table of all.

What variants share with the recipe and with one another is found in the store and not run again. Variants with people's
queries need a log beside the settings and are left to `hone ablate`.
"""

from typing import Any

from kfp import dsl

from hone.kubeflow.compile import Hone
from hone.kubeflow.profile import Profile


def build(profile: Profile) -> Any:
    """The pipeline, for one profile."""

    @dsl.pipeline(name="hone-ablate", description="What each part of the recipe is worth.")  # pyright: ignore[reportUntypedFunctionDecorator]
    def ablate(settings: str, store: str, over: str = "all", seeds: int = 3) -> None:
        """What each part of the recipe is worth.

        Args:
            settings: The settings file: its YAML or JSON text, or its address s3://bucket/key.
            store: Where results live, s3://bucket/prefix.
            over: The groups of variants: loss, queries, negatives, teacher, curation, several with commas, or all.
            seeds: How many seeds each variant runs with.
        """
        hone = Hone(profile, settings, store)
        with dsl.ExitHandler(hone.task("notify"), name="run"):
            recipe = hone.task("variant", hone.preflight(), over=over, seeds=seeds)
            with dsl.ParallelFor(
                recipe.outputs["variants"], parallelism=profile.parallel or profile.shards, name="variants"
            ) as name:
                variant = hone.task("variant", variant=name, over=over, seeds=seeds)
            hone.task("ablation", recipe=recipe.outputs["found"], variants=dsl.Collected(variant.outputs["found"]))

    return ablate
