"""The order of the rooms: what may import what, and where."""

import ast
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCES = sorted(Path("src/hone").rglob("*.py"))


def test_every_room_imports_only_from_the_rooms_below_it() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_picture_of_the_rooms_is_drawn_from_the_contract() -> None:
    before = Path("docs/architecture.svg").read_text("utf-8")
    rooms = runpy.run_path("docs/draw_architecture.py")
    assert before == rooms["drawing"](rooms["layers"]())
    assert {room for row in rooms["layers"]() for room in row} == set(rooms["PHRASES"])


def test_no_module_of_ours_is_imported_inside_a_function_or_for_types_alone() -> None:
    late = [
        f"{path}:{node.lineno}"
        for path in SOURCES
        for block in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(block, (ast.FunctionDef, ast.If))
        for node in ast.walk(block)
        if any(name.partition(".")[0] == "hone" for name in _imported(node))
    ]
    assert late == []


def test_no_two_modules_import_each_other_however_far_around() -> None:
    graph = {name: set(_reached(name, path)) for name, path in _modules().items()}
    while leaves := [name for name, needs in graph.items() if not needs]:
        for name in leaves:
            del graph[name]
        for needs in graph.values():
            needs.difference_update(leaves)
    assert graph == {}


def _modules() -> dict[str, Path]:
    names = {path: ".".join(path.relative_to("src").with_suffix("").parts) for path in SOURCES}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def _reached(name: str, path: Path) -> Iterator[str]:
    known = _modules()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        for found in _imported(node):
            while found and found not in known:
                found = found.rpartition(".")[0]
            if found and found not in (name, "hone"):
                yield found


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
