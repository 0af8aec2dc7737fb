"""evaluate: judges a model that is in the store already, without training: evaluate, gate and nothing else.

For another gate policy, other judgements or a model of another run on the same corpus. The prefixes are those that
`hone stage`, a task's output `prefix` or runs/NAME.json in the store give.
"""

from typing import Any

from kfp import dsl

from hone.kubeflow.compile import Hone
from hone.kubeflow.profile import Profile


def build(profile: Profile) -> Any:
    """The pipeline, for one profile."""

    @dsl.pipeline(name="hone-evaluate", description="Judges a model that is in the store, without training.")  # pyright: ignore[reportUntypedFunctionDecorator]
    def evaluate(
        settings: str, store: str, prepare: str, generate: str, mine: str, score: str, curate: str, distill: str
    ) -> None:
        """Judges a model that is in the store, without training.

        Args:
            settings: The settings file: its YAML or JSON text, or its address s3://bucket/key.
            store: Where results live, s3://bucket/prefix.
            prepare: Prefix of the corpus and its judgements.
            generate: Prefix of the queries; the report counts them.
            mine: Prefix of their candidates; the report counts what was dropped.
            score: Prefix of the teacher's scores; likewise.
            curate: Prefix of the lists; the gate looks for test queries among them.
            distill: Prefix of the model that is judged.
        """
        hone = Hone(profile, settings, store)
        with dsl.ExitHandler(hone.task("notify"), name="run"):
            ready = hone.preflight()
            judged = hone.task(
                "evaluate",
                ready,
                prepare=prepare,
                generate=generate,
                mine=mine,
                score=score,
                curate=curate,
                distill=distill,
            )
            hone.task("gate", judged, prepare=prepare, curate=curate, distill=distill)

    return evaluate
