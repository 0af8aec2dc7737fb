"""How fast training goes and what its shortcuts save: for the progress line, TensorBoard and MLflow, for no result."""

import resource
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager

import torch

from hone import launch
from hone.backends.training.gradients import Gradients
from hone.backends.training.memory import GIB
from hone.backends.training.settings import TrainingSettings
from hone.backends.training.state import History
from hone.errors import UserError

Track = Callable[[int, Mapping[str, float]], None]
"""Takes the number of a step and its figures by name."""
EXPERIMENT = "hone"


class Meter:
    """Rates since it was made, of one training."""

    def __init__(self, gradients: Gradients, history: History) -> None:
        self.gradients, self.history = gradients, history
        self.started = time.monotonic()
        self.before = (len(history.steps), history.encoded, history.tokens)

    def figures(self) -> dict[str, float]:
        """Steps, documents and tokens a second (no padding counted); shares of padding in what was encoded, of listed
        places spared because the passage stood in the batch already, and of micro-batches encoded only once; memory."""
        history, gradients = self.history, self.gradients
        seconds = max(1e-9, time.monotonic() - self.started)
        now = (len(history.steps), history.encoded, history.tokens)
        steps, docs, tokens = ((after - before) / seconds for after, before in zip(now, self.before, strict=True))
        return {
            "steps_per_second": steps,
            "docs_per_second": docs,
            "tokens_per_second": tokens,
            "padding_share": 1 - gradients.real / max(1, gradients.padded),
            "duplicates_spared_share": 1 - history.encoded / max(1, history.slots),
            "kept_graphs_share": gradients.kept / max(1, gradients.groups),
            "memory_gb": peak_memory() / GIB,
        }

    def note(self, losses: Mapping[str, float]) -> str:
        """The same in a line, with the terms of the loss."""
        figures = self.figures()
        terms = " ".join(f"{name} {value:.4f}" for name, value in losses.items())
        return (
            f"{terms}; {figures['docs_per_second']:,.0f} docs/s, {figures['tokens_per_second']:,.0f} tokens/s, "
            f"{figures['padding_share']:.0%} padding, {figures['duplicates_spared_share']:.0%} duplicates spared, "
            f"{figures['memory_gb']:.1f} GB"
        )


def peak_memory() -> float:
    """Bytes that this process took at most: of the GPU where there is one, else of main memory."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def untracked(step: int, figures: Mapping[str, float]) -> None:
    """Keeps nothing."""


@contextmanager
def tracked(settings: TrainingSettings, run: str) -> Generator[Track]:
    """Hands figures on to whatever the settings name; `run` is what this training is called there."""
    chosen = [] if launch.is_helper() else [(tensorboard, settings.tensorboard), (mlflow, settings.mlflow)]
    with ExitStack() as opened:
        trackers = [opened.enter_context(tracker(address, run)) for tracker, address in chosen if address]

        def track(step: int, figures: Mapping[str, float]) -> None:
            for one in trackers:
                one(step, figures)

        yield track


@contextmanager
def tensorboard(folder: str, run: str) -> Generator[Track]:
    """Event files in a folder of the run's name below `folder`; a training that goes on adds to them."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(f"{folder}/{run}") as writer:

        def track(step: int, figures: Mapping[str, float]) -> None:
            for name, value in figures.items():
                writer.add_scalar(name, value, step)

        yield track


@contextmanager
def mlflow(address: str, run: str) -> Generator[Track]:
    """A run of the experiment hone on a tracking server. Raises UserError if MLflow is missing or does not answer."""
    try:
        from mlflow import MlflowClient, MlflowException
        from mlflow.entities import Metric
    except ImportError:
        raise UserError("distill.mlflow needs MLflow: pip install mlflow-skinny, or leave the setting empty") from None
    try:
        client = MlflowClient(tracking_uri=address)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
        started = client.create_run(number, run_name=run).info.run_id
    except MlflowException as error:
        raise UserError(f"distill.mlflow: {address} does not work ({str(error).splitlines()[0]})") from error

    def track(step: int, figures: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        client.log_batch(started, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

    try:
        yield track
    except BaseException:
        client.set_terminated(started, "FAILED")
        raise
    client.set_terminated(started)
