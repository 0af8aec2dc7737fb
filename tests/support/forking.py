"""Processes for tests, forked from a server that has imported what is heavy.

A process has one such server, which heeds only the list it is started with: so all tests share one list.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

HEAVY = [
    "encoding_together",
    "hone.stages.mine",
    "hone.stages.generate",
    "hone.backends.generators.openai_api",
    "hone.backends.generators.causal_lm",
    "hone.backends.training.loop",
    "datasketch",
    "py3langid",
]


def forks() -> ForkServerContext:
    """Where processes come from that start in a moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    return context
