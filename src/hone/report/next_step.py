"""What to do after a verdict of hold: how many queries to judge for which gain to be seen."""

import math
from collections.abc import Mapping
from typing import Any

from hone.evaluation.metrics import PRIMARY

GAINS = (0.02, 0.01)
"""Gains in nDCG@10 that one may want to see."""
USUAL_EFFECT = 0.05
USUAL_QUERIES = 100
"""What is assumed where nothing was measured: a hundred queries show a gain of five points."""


def queries_for(gain: float, main: Mapping[str, Any]) -> int:
    """Queries that would show so much gain four times out of five, if they differ as those measured so far.

    What can be detected shrinks with the root of the number of queries. `main` is a set of metrics.json, or empty.
    """
    effect, queries = main.get("minimal_detectable_effect"), main.get("queries", 0)
    if not effect or not queries:
        effect, queries = USUAL_EFFECT, USUAL_QUERIES
    return _rounded(queries * (effect / gain) ** 2)


def next_step(metrics: Mapping[str, Any], verdict: str, run_name: str) -> str:
    """What a person does next to turn a hold into a verdict; empty where judging more would not help."""
    if verdict != "hold":
        return ""
    main = metrics["sets"].get(metrics["split"], {}) if metrics["queries"] else {}
    needed = [(gain, queries_for(gain, main)) for gain in GAINS]
    wanted = ", ".join(f"about {count:,} queries to see a gain of {_points(gain)}" for gain, count in needed)
    how = f"judge results with `hone serve {run_name}`; the next `hone run` uses them"
    if not metrics["queries"] or metrics["synthetic"]:
        return f"There are no human judgements. Next: {how}. It takes {wanted}."
    gained, p = metrics["delta"][PRIMARY], metrics["p_value"]
    if gained <= 0 or p <= 0.05:
        return ""
    more = queries_for(gained, main) - metrics["queries"]
    if more <= 0:
        return ""
    if gained < min(GAINS) and metrics["queries"] < queries_for(min(GAINS), main):
        few = f"The gain may be chance. It takes {wanted}; there are {metrics['queries']:,}."
        return f"{few} To add some, extend the corpus's qrels, or {how}."
    return (
        f"The gain may be chance. About {_rounded(more):,} more judged queries would show whether {100 * gained:.1f} "
        f"points are real: add them to the corpus's qrels, or {how}."
    )


def _points(gain: float) -> str:
    return f"{100 * gain:g} point" + ("" if gain == 0.01 else "s")


def _rounded(count: float) -> int:
    """Two digits are enough for an estimate."""
    if count < 10:
        return max(1, math.ceil(count))
    step = 10 ** (math.floor(math.log10(count)) - 1)
    return math.ceil(count / step) * step
