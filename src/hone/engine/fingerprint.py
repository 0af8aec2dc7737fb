"""A digest of the code that a stage runs, so that changed code never serves results of the old.

It covers the stage's module and every module of the packages below that it imports, also inside functions, and those
that a plug board names as "module:Class". Plumbing (stores, progress, the command line) changes no result and is left
out.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

COVERED = (
    "hone.stages.", "hone.core.", "hone.backends", "hone.report", "hone.inputs.readers", "hone.evaluation.",
)  # fmt: skip


@cache
def code_digest(module: str) -> str:
    """sha256 (hex, 16 digits) over the sources of `module` and all it reaches."""
    digest = hashlib.sha256()
    for name in sorted(_reachable(module)):
        digest.update(name.encode() + b"\0" + _source(name))
    return digest.hexdigest()[:16]


def _reachable(module: str) -> set[str]:
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in seen and name.startswith(COVERED) and _path(name) is not None:
            seen.add(name)
            queue.extend(_mentions(_source(name)))
    return seen


def _mentions(source: bytes) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            names.add(node.value.partition(":")[0])
    return names


def _source(name: str) -> bytes:
    path = _path(name)
    return path.read_bytes() if path else b""


@cache
def _path(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != "hone" or not all(part.isidentifier() for part in parts):
        return None
    base = Path(__file__).parents[1].joinpath(*parts[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
