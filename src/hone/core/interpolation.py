"""How far to go from the base to the trained weights, so that the student gains at home and keeps what it knew.

Source of the idea: Wortsman et al., arXiv 2109.01903. What is tried is judged on the dev lists, and on guard sets:
collections of other domains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

END = (1.0,)
QUARTERS = (0.25, 0.5, 0.75, 1.0)
ROUNDING = 1e-9
"""Two figures in float64 that differ by the limit on paper may differ by this much more."""


@dataclass(frozen=True)
class Point:
    """What came out at one share of the way."""

    alpha: float
    validation_loss: float = math.nan
    """The less, the better on the dev lists; nan without any."""
    dev: Mapping[str, float] = field(default_factory=dict[str, float])
    """Figures of the dev lists."""
    guards: Mapping[str, float] = field(default_factory=dict[str, float])
    """Guard set to nDCG@10."""


def sweep(alphas: Sequence[float], guarded: bool) -> tuple[float, ...]:
    """The shares that are tried. With guard sets the base is among them, which the others are held against, and where
    nothing but the end is named the quarters of the way."""
    if not guarded:
        return tuple(alphas)
    return tuple(sorted({0.0, *(QUARTERS if tuple(alphas) == END else alphas)}))


def allowed(curve: Sequence[Point], most: float, base: Mapping[str, float] | None = None) -> list[Point]:
    """The points that lose at most `most` nDCG@10 on every guard set against the base, which comes first; where an
    earlier training left it already, `base` has what it came to."""
    least = {name: value - most - ROUNDING for first in curve[:1] for name, value in (base or first.guards).items()}
    return [point for point in curve if all(value >= least[name] for name, value in point.guards.items())]


def choose(curve: Sequence[Point], most: float, base: Mapping[str, float] | None = None) -> Point:
    """Of the allowed points the best on the dev lists, the nearest to the base if several are; without dev lists the
    last."""
    points = allowed(curve, most, base)
    if math.isnan(points[-1].validation_loss):
        return points[-1]
    return min(points, key=lambda point: (point.validation_loss, point.alpha))


def record(curve: Sequence[Point], most: float, base: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """The curve as training.json keeps it."""
    fine = allowed(curve, most, base)
    guarded = [{"guards": dict(point.guards), "allowed": point in fine} if point.guards else {} for point in curve]
    return [{"alpha": point.alpha, **point.dev, **more} for point, more in zip(curve, guarded, strict=True)]
