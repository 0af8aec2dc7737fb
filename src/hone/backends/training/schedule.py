"""How many steps a training takes, and the learning rate of each. Source: arXiv 2502.19712 and its scripts."""

from collections.abc import Sequence
from dataclasses import dataclass

from hone.backends.training.settings import OneTraining


@dataclass(frozen=True)
class Course:
    """The most lists of a step, the steps of an epoch and of the whole training, and of the warm-up."""

    batch: int
    epoch: int
    steps: int
    warmup: int

    def rate_factor(self, step: int) -> float:
        """The share of the peak learning rate at a step (0-based)."""
        return rate_factor(step, self.warmup, self.steps)


def course(lists: int | Sequence[int], settings: OneTraining) -> Course:
    """What these settings come to with this many lists, or so many of each domain."""
    each = [lists] if isinstance(lists, int) else lists
    steps_of = [steps_per_epoch(own, settings.batch_size, settings.min_steps_per_epoch) for own in each]
    epoch = sum(steps_of)
    longest = settings.max_epochs * epoch
    steps = min(longest, settings.max_steps or longest)
    half_an_epoch = 0 if settings.minutes else epoch // 2
    largest = max(
        min(own, settings.batch_size) if settings.docs_per_step else -(-own // steps)
        for own, steps in zip(each, steps_of, strict=True)
    )
    return Course(largest, epoch, steps, warmup_steps(half_an_epoch, settings.warmup_steps, steps))


def steps_per_epoch(lists: int, wanted: int, min_steps: int) -> int:
    """Steps that see every list once: of `wanted` lists, but at least `min_steps` while there are as many lists.

    The steps share the lists evenly: one of a few left over would count as much as any other, and be mostly noise.
    """
    return min(lists, max(-(-lists // wanted), min_steps))


def warmup_steps(half_an_epoch: int, least: int, total: int) -> int:
    """max(least, half an epoch), but never more than half of all steps."""
    return min(max(least, half_an_epoch), max(1, total // 2))


def rate_factor(step: int, warmup: int, total: int, floor: float = 0.1) -> float:
    """The share of the peak learning rate at a step (0-based): linear warm-up, then linear decay to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    return max(floor, 1.0 - (1.0 - floor) * (step - warmup) / max(1, total - warmup))
