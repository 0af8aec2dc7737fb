"""A digest of the code that shapes a stage's result: changed code never serves old results, other code costs nothing.

Covered are the stage's modules and the modules of ROOMS that they import, of the backends only those that the settings
choose. Of a module its syntax tree counts, without comments, docstrings and layout. Plumbing (stores, progress, the
command line, and the report for every stage but the one that draws it) changes no result and is left out.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

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
        digest.update(f"{name}\0{_tree_digest(name)}\0".encode())
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
            queue.extend(_imported(name))
    return seen


@cache
def _imported(name: str) -> tuple[str, ...]:
    """The modules that a module imports, also by the doors of backends."""
    tree = _tree(name)
    found: set[str] = set()
    doors: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if alias.name.startswith("hone."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hone":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if _file(inner) is None:
                    found.add(node.module)
                elif _door(inner):
                    doors[alias.asname or alias.name] = inner
                else:
                    found.add(inner)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in doors:
            door = doors[node.value.id]
            found.add(_door(door)[node.attr])
    return tuple(sorted(found))


@cache
def _door(package: str) -> dict[str, str]:
    """Name to the module that it comes from, of a package whose names are opened at first use; else empty."""
    file = _file(package)
    stub = file.with_suffix(".pyi") if file else None
    if stub is None or not stub.is_file():
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(ast.parse(stub.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.name] = f"{package}.{node.module or alias.name}"
    return found


@cache
def _tree_digest(name: str) -> str:
    return hashlib.sha256("\n".join(_said(_tree(name))).encode()).hexdigest()


def _said(node: object) -> Iterator[str]:
    """A syntax tree as lines that are the same in every version of Python, docstrings left out."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for field, value in ast.iter_fields(node):
            if field not in UNLIKE and value not in (None, []):
                yield f"{field}="
                yield from _said(value)
    elif isinstance(node, list):
        for item in node:
            if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)):
                yield from _said(item)
        yield "."
    else:
        yield repr(node)


def _tree(name: str) -> ast.Module:
    file = _file(name)
    assert file is not None, f"{name} is imported and has no file"
    return ast.parse(file.read_text("utf-8"))


@cache
def _file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split(".")[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
