"""What a training is made of between two steps: all that a checkpoint must hold to go on as if nothing had happened."""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from hone.backends.training.settings import TrainingSettings


@dataclass
class History:
    """What training did, step by step and at every look at the dev lists."""

    steps: list[dict[str, float]] = field(default_factory=list)
    looks: list[dict[str, float]] = field(default_factory=list)
    slots: int = 0
    encoded: int = 0
    tokens: int = 0


class Best:
    """The weights of the best look so far, and how many looks since were no better."""

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.kept = [weight.detach().clone() for weight in weights]
        self.validation_loss, self.step, self.misses = math.inf, 0, 0

    def offer(self, weights: Sequence[Tensor], validation_loss: float, step: int) -> None:
        """Keeps these weights if they are less bad; without dev lists (nan) the latest are best."""
        if math.isnan(validation_loss) or validation_loss < self.validation_loss:
            self.validation_loss, self.step, self.misses = validation_loss, step, 0
            self.kept = [weight.detach().clone() for weight in weights]
        else:
            self.misses += 1


class State:
    """Weights, optimiser, running average, best weights, history, the number of steps taken, and of those that fit into
    the minutes there are (0 while that is not known)."""

    def __init__(self, weights: Sequence[Tensor], settings: TrainingSettings) -> None:
        self.weights, self.decay = weights, settings.average
        self.optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.averaged = [weight.detach().clone() for weight in weights] if self.decay else []
        self.pull, self.base = settings.pull, [weight.detach().clone() for weight in weights] if settings.pull else []
        self.best = Best(weights)
        self.history = History()
        self.step = self.planned = 0

    @torch.no_grad()
    def average(self) -> None:
        """Moves the running average towards the weights."""
        for mean, weight in zip(self.averaged, self.weights, strict=bool(self.averaged)):
            mean.lerp_(weight, 1.0 - self.decay)

    @torch.no_grad()
    def pull_back(self, rate_factor: float) -> None:
        """Moves the weights towards those of before training."""
        for weight, base in zip(self.weights, self.base, strict=bool(self.base)):
            weight.lerp_(base, self.pull * rate_factor)

    @contextmanager
    def judged(self) -> Generator[None]:
        """Puts the weights in place that are judged and kept: the running average, if there is one."""
        exchange(self.weights, self.averaged)
        yield
        exchange(self.weights, self.averaged)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; random state included."""
        groups = {"weight": self.weights, "averaged": self.averaged, "best": self.best.kept}
        named = {f"{name}/{at}": tensor for name, group in groups.items() for at, tensor in enumerate(group)}
        for at, values in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser/{at}/{key}": torch.as_tensor(value) for key, value in values.items()}
        return {**named, "random": torch.get_rng_state()}

    def record(self) -> dict[str, Any]:
        """The rest, as JSON can hold it."""
        best = {"badness": self.best.validation_loss, "step": self.best.step, "misses": self.best.misses}
        return {"step": self.step, "planned": self.planned, "best": best, "history": asdict(self.history)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Takes over what `tensors` and `record` gave."""
        for name, group in (("weight", self.weights), ("averaged", self.averaged), ("best", self.best.kept)):
            for at, tensor in enumerate(group):
                tensor.copy_(tensors[f"{name}/{at}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name in (name for name in tensors if name.startswith("optimiser/")):
            _, at, key = name.split("/")
            moments.setdefault(int(at), {})[key] = tensors[name]
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        torch.set_rng_state(tensors["random"])
        self.step, self.planned, self.history = record["step"], record["planned"], History(**record["history"])
        for name, value in record["best"].items():
            setattr(self.best, name, value)


@torch.no_grad()
def exchange(weights: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Swaps the values of two lists of tensors; none in the second leaves the first as it is."""
    for weight, other in zip(weights, others, strict=bool(others)):
        held = weight.clone()
        weight.copy_(other)
        other.copy_(held)


@torch.no_grad()
def interpolate(weights: Sequence[Tensor], base: Sequence[Tensor], trained: Sequence[Tensor], alpha: float) -> None:
    """Puts base + alpha (trained - base) into `weights`, tensor by tensor."""
    for weight, start, end in zip(weights, base, trained, strict=True):
        weight.copy_(torch.lerp(start, end, alpha))
