"""A digest of the code that shapes a stage's result: changed code never serves old results, other code costs nothing.

Covered are the stage's modules and the modules of ROOMS that they import, of the backends only those that the settings
choose. Of a module its syntax tree counts, without comments, docstrings and layout. Plumbing (stores, progress, the
command line, and the report for every stage but the one that draws it) changes no result and is left out.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

from hone.backends import BACKENDS
from hone.config import StageConfig, chosen_backends

ROOMS = ("hone.stages.", "hone.core.", "hone.backends.", "hone.report.", "hone.inputs.readers", "hone.evaluation.")
PLUMBING = frozenset({"hone.backends", "hone.backends.training.meters"})
"""In ROOMS, but without a part in any result: the table of backends (a chosen row counts alone), and what watches."""
FOUND = frozenset({"hone.report.collect", "hone.report.findings"})
"""What the report says, as opposed to how it is drawn: the drawing counts in the stage report alone."""
ROOT = Path(__file__).parents[1]
UNLIKE = frozenset({"type_comment", "type_params", "kind", "ctx"})
"""Fields of syntax trees that say nothing, or that some versions of Python have and others not."""


def code_digest(stage: str, config: StageConfig) -> str:
    """sha256 (hex, 16 digits) over the code of a stage with these settings."""
    digest = hashlib.sha256()
    for name in sorted(modules(f"hone.stages.{stage}", chosen_backends(config))):
        digest.update(f"{name}\0{_read(name).digest}\0".encode())
    return digest.hexdigest()[:16]


def modules(module: str, chosen: Iterable[tuple[str, str]] = ()) -> set[str]:
    """`module` and all of ROOMS that it reaches, with the backends `chosen` as (kind, name)."""
    rows = (BACKENDS[kind][name].partition(":")[0] for kind, name in chosen if name in BACKENDS[kind])
    seen: set[str] = set()
    queue = [module, *rows]
    draws = module == "hone.stages.report"
    while queue:
        name = queue.pop()
        if name.startswith("hone.report.") and not draws and name not in FOUND:
            continue
        if name not in seen and name not in PLUMBING and f"{name}.".startswith(ROOMS):
            seen.add(name)
            queue.extend(_read(name).imported)
    return seen


class _Module(NamedTuple):
    """The modules of ours that one imports, and the digest of its syntax tree."""

    imported: tuple[str, ...]
    digest: str


@cache
def _read(name: str) -> _Module:
    file = _file(name)
    assert file is not None, f"{name} is imported and has no file"
    tree = ast.parse(file.read_text("utf-8"))
    lines: list[str] = []
    _say(tree, lines)
    return _Module(_imported(tree), hashlib.sha256("\n".join(lines).encode()).hexdigest())


def _imported(tree: ast.Module) -> tuple[str, ...]:
    """The modules that a module imports, also by the doors of backends."""
    names: set[str] = set()
    doors: dict[str, str] = {}
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names if alias.name.startswith("hone."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hone":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if _file(inner) is None:
                    names.add(node.module)
                elif _door(inner):
                    doors[alias.asname or alias.name] = inner
                else:
                    names.add(inner)
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in doors:
            door = doors[node.value.id]
            names.add(_door(door)[node.attr])
    return tuple(sorted(names))


@cache
def _door(package: str) -> dict[str, str]:
    """Name to the module that it comes from, of a package whose names are opened at first use; else empty."""
    file = _file(package)
    stub = file.with_suffix(".pyi") if file else None
    if stub is None or not stub.is_file():
        return {}
    sources: dict[str, str] = {}
    for node in ast.walk(ast.parse(stub.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                sources[alias.name] = f"{package}.{node.module or alias.name}"
    return sources


def _say(node: object, lines: list[str]) -> None:
    """Adds a syntax tree as lines that are the same in every version of Python, docstrings left out."""
    if isinstance(node, ast.AST):
        lines.append(type(node).__name__)
        for field in node._fields:
            value = getattr(node, field, None)
            if value is not None and value != [] and field not in UNLIKE:
                lines.append(f"{field}=")
                _say(value, lines)
    elif isinstance(node, list):
        for item in cast(list[object], node):
            if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
                _say(item, lines)
        lines.append(".")
    else:
        lines.append(repr(node))


@cache
def _file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
