"""The documentation as a site: built strictly, every link checked, the catalogue of errors read from the code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_the_site_is_built_without_a_warning_and_has_a_page_of_errors(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-f", ROOT / "mkdocs.yml", "-d", tmp_path]
    made = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert made.returncode == 0, made.stderr + made.stdout
    assert "Hone specialises a dense retriever" in (tmp_path / "index.html").read_text("utf-8")
    errors = (tmp_path / "errors.html").read_text("utf-8")
    assert "holds vectors of another model, which must not be mixed" in errors
    assert "<td>give another --out</td>" in errors
    assert errors.count("<tr>") > 200
