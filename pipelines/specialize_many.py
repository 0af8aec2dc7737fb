"""specialize_many: the pipeline specialize for many domains at once, each in a sub-DAG of its own, and one summary.

A domain that fails ends its own sub-DAG and no other: Argo goes on with all items of a loop, also with those that wait
for their turn (executeDAGTask, dag.go:645-720 in 4.0.5). The run itself is then called failed.
"""

import runpy
from pathlib import Path
from typing import Any

from kfp import dsl

from hone.kubeflow.compile import Hone
from hone.kubeflow.profile import Profile

CHAIN = runpy.run_path(str(Path(__file__).with_name("specialize.py")))["chain"]


def build(profile: Profile) -> Any:
    """The pipeline, for one profile."""

    @dsl.pipeline(name="domain", description="Specialises a dense retriever to one corpus of several.")  # pyright: ignore[reportUntypedFunctionDecorator]
    def domain(settings: str, store: str) -> None:
        CHAIN(Hone(profile, settings, store))

    @dsl.pipeline(name="hone-specialize-many", description="Specialises a dense retriever to each of many corpora.")  # pyright: ignore[reportUntypedFunctionDecorator]
    def specialize_many(domains: list[str], store: str) -> None:
        """Specialises a dense retriever to each of many corpora.

        Args:
            domains: The settings files, one for each domain: their addresses s3://bucket/key.
            store: Where results live, s3://bucket/prefix.
        """
        every: Any = domains
        ending = Hone(profile, "", store).task("notify", domains=domains)
        with (
            dsl.ExitHandler(ending, name="run"),
            dsl.ParallelFor(every, parallelism=profile.domains or None, name="domains") as one,
        ):
            settings: Any = one
            domain(settings=settings, store=store)

    return specialize_many
