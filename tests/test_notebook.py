"""The notebook in docs/: its cells run one after another, as in a kernel, on a small corpus with a tiny student."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import chain

NOTEBOOK = Path(__file__).parents[1] / "docs/first-run.ipynb"
KERNEL = """
import ast, sys
cells, names = __import__("json").load(sys.stdin), {"__name__": "__main__"}
for cell in cells:
    tree = ast.parse(cell)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        if value is not None:
            print(getattr(value, "_repr_html_", value.__repr__)())
"""


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(tmp_path: Path) -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)
    given, *others = ["".join(cell["source"]) for cell in cells]
    assert "CORPUS" in given
    home = chain.home(tmp_path)
    small = {key: value for key, value in chain.SETTINGS.items() if key not in ("student", "prepare")}
    changes = [f"{stage}={yaml.safe_dump(values, default_flow_style=True).strip()}" for stage, values in small.items()]
    first = (
        f"CORPUS, STUDENT, STORE = {str(home / 'corpus')!r}, {str(home / 'student')!r}, 'store'\nCHANGES = {changes!r}"
    )
    ran = subprocess.run(
        [sys.executable, "-c", KERNEL],
        input=json.dumps([first, *others]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "minutes" in ran.stdout
    assert "'measure': 'nDCG@10'" in ran.stdout
    assert "(1, 16)" in ran.stdout
    assert "base_model: student" in ran.stdout
    assert "distill: train" in ran.stderr
