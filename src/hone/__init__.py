"""Hone specialises a dense retriever to one corpus and proves that it is better there.

`hone.run`, `hone.load`, `hone.plan`, `hone.search` and `hone.evaluate` are those of `hone.api`, imported when used.
"""

import importlib
from typing import Any

__version__ = "0.2.0"
PUBLIC = ("Measured", "Run", "evaluate", "load", "plan", "run", "search")


def __dir__() -> list[str]:
    return [*globals(), *PUBLIC]


def __getattr__(name: str) -> Any:
    if name in PUBLIC:
        return getattr(importlib.import_module("hone.api"), name)
    raise AttributeError(f"module 'hone' has no attribute {name!r}")
