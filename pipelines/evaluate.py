"""evaluate: judges any model without training: prepare, distill (which takes the model as it is), evaluate, gate.

For a model from elsewhere, another team's, or an earlier run's under today's judgements and policy. It is compared with
the settings' student on the settings' corpus, as a tuned model would be.
"""

from typing import Any

from kfp import dsl

from hone.kubeflow.compile import Hone
from hone.kubeflow.profile import Profile


def build(profile: Profile) -> Any:
    """The pipeline, for one profile."""

    @dsl.pipeline(name="hone-evaluate", description="Judges any model, without training.")  # pyright: ignore[reportUntypedFunctionDecorator]
    def evaluate(settings: str, store: str, model: str) -> None:
        """Judges any model, without training.

        Args:
            settings: The settings file: its YAML or JSON text, or its address s3://bucket/key.
            store: Where results live, s3://bucket/prefix.
            model: The model that is judged, a sentence-transformers folder: s3://bucket/prefix, or a path on the
                volume of models.
        """
        hone = Hone(profile, settings, store)
        with dsl.ExitHandler(hone.task("notify"), name="run"):
            prepare = hone.task("prepare", hone.preflight())
            adopted = hone.task("distill", prepare, adopt=model)
            judged = hone.task("evaluate", prepare, adopted)
            verdict = hone.task("gate", prepare, adopted, judged)
            hone.task("report", judged, verdict)

    return evaluate
