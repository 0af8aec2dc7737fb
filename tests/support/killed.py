"""A small training in a process that kills itself, to see that the next one goes on where it stopped.

Also what `torchrun` starts in a test: `killed.py STUDENT HOME` trains once in peace, and once more, in which the second
process dies; `killed.py STUDENT HOME again` does the latter to the end.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import twin
from hone.backends.distributed import processes
from hone.backends.training.checkpoints import Checkpoints
from hone.backends.training.embedders import make_embedder
from hone.backends.training.gradients import Gradients
from hone.backends.training.loop import dev_batches, train
from hone.backends.training.settings import TrainingSettings
from hone.progress import Task
from hone.storage.local import LocalStore

SETTINGS = TrainingSettings(
    batch_size=6,
    min_steps_per_epoch=1,
    max_epochs=4,
    eval_every=4,
    patience=100,
    average=0.8,
    learning_rate=1e-3,
    token_budget=60,
    cluster_batches=True,
)
STEPS = 28
STEPS_OF_THREE = 36
EVERY = 3
DIES_AT = 8


class Fatal(Task):
    """Progress that ends the process, as `kill -9` does, when so many steps are done."""

    def __init__(self, total: int, fatal: int) -> None:
        super().__init__("train", total, "steps", sys.stderr)
        self.left = fatal

    def advance(self, count: int = 1, note: str = "") -> None:
        self.left -= bool(note)
        if note and not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


class FatalStore(LocalStore):
    """A store whose process dies when the JSON of a checkpoint would be written: its tensors are there alone."""

    fatal = 0

    def replace(self, key: str, data: bytes) -> None:
        self.fatal -= 1
        if not self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        super().replace(key, data)


def training(
    model: Path,
    home: Path,
    top: int = 0,
    weights: Mapping[str, float] = {},
    *,
    die_at_step: int = 0,
    die_at_save: int = 0,
) -> None:
    """Trains on lists of its own, of as many domains as there are weights, with a checkpoint every third step; saves
    the student in `home`/model."""
    student = twin.encoder(model)
    settings = SETTINGS.model_copy(update={"train_layers": top, "domains": dict(weights)})
    embedder = make_embedder(student, student.tokenize_docs(twin.texts(90)), settings, 1e9, home)
    store = FatalStore(home / "store")
    store.fatal = die_at_save
    names = [*weights] or [""]
    examples = [replace(one, domain=names[at % len(names)]) for at, one in enumerate(twin.lists(50, 40))]
    scratch = home / f"scratch-{processes.rank()}"
    scratch.mkdir(parents=True, exist_ok=True)
    state = train(
        Gradients(embedder, SETTINGS.loss, SETTINGS.token_budget, 1e9),
        examples[:40],
        dev_batches(examples[40:], student.device, weights=weights),
        settings,
        lambda total: Fatal(total, die_at_step),
        Checkpoints(store, "distill/x/checkpoints", scratch, every=EVERY),
    )
    steps = STEPS_OF_THREE if weights else STEPS
    assert state.step == steps
    assert len(state.history.steps) == steps
    assert [step["step"] for step in state.history.steps] == list(range(1, steps + 1))
    if processes.rank() == 0:
        student.save(home / "model")


def together(model: Path, home: Path, again: bool) -> None:
    """As one of several processes."""
    with processes.joined():
        for name in ("whole", "torn")[again:]:
            (home / name).mkdir(exist_ok=True)
            dies = name == "torn" and not again and processes.rank() == 1
            training(model, home / name, die_at_step=DIES_AT if dies else 0)


if __name__ == "__main__":
    together(Path(sys.argv[1]), Path(sys.argv[2]), "again" in sys.argv)
