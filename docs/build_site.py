"""What the documentation's site adds to the files in docs/: pages of the rest of the repository, and the catalogue of
errors, which is read from the code."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "index.md": "README.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md",
    "helm.md": "helm/hone/README.md",
}  # fmt: skip
"""Pages of the site that are files elsewhere."""
KINDS = {"UserError": "2", "TransientError": "75"}
LINK = re.compile(r"\]\((?!https?:|#)([^)]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the generated pages."""
    pages = {name: _from_root(path) for name, path in OUTSIDE.items()} | {"errors.md": catalogue()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside docs/ lead to the pages made of them."""
    for name, path in OUTSIDE.items():
        markdown = markdown.replace(f"](../{path})", f"]({name})")
    return markdown


def _from_root(name: str) -> str:
    """A file from elsewhere, with its links as they are inside docs/."""
    return LINK.sub(lambda found: f"]({found[1].removeprefix('docs/')})", (ROOT / name).read_text("utf-8"))


def catalogue() -> str:
    """The page of all sentences with which Hone ends a command."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for path in sorted((ROOT / "src/hone").rglob("*.py")):
        room = path.relative_to(ROOT / "src/hone").parts[0].removesuffix(".py")
        for kind, sentence in sentences(ast.parse(path.read_text("utf-8"))):
            says, _, remedy = sentence.rpartition("; ")
            found[room].append((says or remedy, remedy if says else "", KINDS[kind]))
    lines = [
        "# Errors",
        "",
        "Every sentence with which a command ends on a mistake in what it was given (exit code 2) or on an outside "
        "fault that lasted through every retry (exit code 75: run it again, finished work is kept), read from the "
        "code. `…` stands for what differs: a file, a row, a setting.",
    ]
    for room, rows in sorted(found.items()):
        lines += ["", f"## {room}", "", "| what is said | what to do | exit |", "|---|---|---|"]
        lines += [f"| {_cell(says)} | {_cell(remedy)} | {code} |" for says, remedy, code in sorted(set(rows))]
    return "\n".join(lines) + "\n"


def sentences(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each kind of error that is raised, with its sentence; one that is put together elsewhere is left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
            text = _text(node.args[0])
            if text.strip("… .;:"):
                yield node.func.id, text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def _cell(text: str) -> str:
    """Text in a cell of a table, as it is."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    return re.sub(r"([|<>*_\[\]`])", r"\\\1", plain)
