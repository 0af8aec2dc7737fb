"""specialize: from a corpus to a retriever that is better there, with the proof and, if it passes, its publication.

Ordinary Kubeflow code. `hone compile specialize --profile NAME --out FILE.yaml` turns it into what the platform runs;
what a task asks of the cluster stands in profiles/, what it reads and gives back in components/.
"""

from typing import Any

from kfp import dsl

from hone.kubeflow.compile import Hone
from hone.kubeflow.profile import Profile


def build(profile: Profile) -> Any:
    """The pipeline, for one profile."""

    @dsl.pipeline(name="hone-specialize", description="Specialises a dense retriever to one corpus.")  # pyright: ignore[reportUntypedFunctionDecorator]
    def specialize(settings: str, store: str) -> None:
        """Specialises a dense retriever to one corpus.

        Args:
            settings: The settings file: its YAML or JSON text, or its address s3://bucket/key.
            store: Where results live, s3://bucket/prefix.
        """
        hone = Hone(profile, settings, store)
        with dsl.ExitHandler(hone.task("notify"), name="run"):
            chain(hone)

    return specialize


def chain(hone: Hone) -> None:
    """All tasks of one run, from preflight to the vectors of what is published; specialize_many has them for each of
    its domains."""
    ready = hone.preflight()
    prepare = hone.task("prepare", ready)
    generate = hone.shards("generate", prepare)
    mine = hone.task("mine", prepare, generate)
    score = hone.shards("score", prepare, generate, mine)
    curate = hone.task("curate", generate, mine, score)
    distill = hone.task("distill", prepare, curate)
    evaluate = hone.task("evaluate", prepare, generate, mine, score, curate, distill)
    gate = hone.task("gate", prepare, score, curate, distill, evaluate)
    report = hone.task("report", evaluate, gate)
    with dsl.If(gate.outputs["verdict"] == "promote", name="promoted"):
        publish = hone.task("publish", distill, gate, report)
        with dsl.If(publish.outputs["vectors"] == "wanted", name="vectors"):
            hone.task("encode", prepare, distill, publish)
