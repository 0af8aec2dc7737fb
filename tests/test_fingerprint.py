"""Which edit recomputes which stages."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hone import settings
from hone.engine import fingerprint
from hone.stages import STAGES

AFTER_LOSS = ("distill",)
ENCODING = ("mine", "score", "distill", "evaluate", "publish", "encode")
EDITS: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("backends/training/losses.py", "import torch", "import torch  # a comment", ()),
    ("stages/mine.py", '"""mine: finds', '"""mine: really finds', ()),
    ("report/style.py", "CSS", "CSS = CSS2", ("report",)),
    ("report/page.py", "import Mapping", "import Mapping, Set", ("report",)),
    ("backends/teachers/rerank_endpoint.py", "import math", "import math, os", ()),
    ("backends/search/faiss_index.py", "import importlib", "import importlib, os", ()),
    ("backends/generators/openai_api.py", "import json", "import json, os", ()),
    ("backends/training/meters.py", "import time", "import time, os", ()),
    ("backends/__init__.py", "import importlib", "import importlib, os", ()),
    ("progress.py", "import sys", "import sys, os", ()),
    ("storage/s3.py", "import os", "import os, re", ()),
    ("commands/run.py", "import typer", "import typer, os", ()),
    ("backends/training/losses.py", "import torch", "import torch, os", AFTER_LOSS),
    ("backends/teachers/fusion.py", "import numpy as np", "import numpy as np, os", ("score", "evaluate")),
    ("backends/encoders/encoder.py", "import torch", "import torch, os", ENCODING),
    ("core/curation.py", "import numpy as np", "import numpy as np, os", ("curate",)),
    ("evaluation/rankings.py", "import numpy as np", "import numpy as np, os", ("distill", "evaluate", "report")),
    ("stages/gate.py", "from typing", "import os\nfrom typing", ("gate",)),
]
"""A file, what is edited in it, and the stages that run again for it with the preset cpu."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the package, from which digests are taken."""
    root = tmp_path_factory.mktemp("source") / "hone"
    shutil.copytree("src/hone", root, ignore=shutil.ignore_patterns("__pycache__", "data"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fingerprint, "ROOT", root)
        _forget()
        yield root
    _forget()


@pytest.fixture(scope="module")
def before(source: Path) -> dict[str, str]:
    """The digests of the code as it is."""
    return _digests()


@pytest.mark.parametrize(("file", "old", "new", "stages"), EDITS, ids=[f"{row[0]}: {row[2][-18:]}" for row in EDITS])
def test_an_edit_recomputes_just_the_stages_that_it_shapes(
    source: Path, before: dict[str, str], file: str, old: str, new: str, stages: tuple[str, ...]
) -> None:
    text = (source / file).read_text("utf-8")
    assert old in text
    (source / file).write_text(text.replace(old, new, 1), "utf-8")
    try:
        _forget()
        after = _digests()
    finally:
        (source / file).write_text(text, "utf-8")
        _forget()
    assert tuple(name for name in STAGES if before[name] != after[name]) == stages


def test_a_chosen_backend_counts_and_no_other_does() -> None:
    reranked = fingerprint.modules("hone.stages.score", [("teacher", "endpoint")])
    assert "hone.backends.teachers.rerank_endpoint" in reranked
    assert "hone.backends.teachers.pair_models" not in reranked


def test_layout_and_comments_say_nothing_in_the_digest_and_code_does(tmp_path: Path) -> None:
    def said(text: str) -> list[str]:
        lines: list[str] = []
        fingerprint._say(fingerprint.ast.parse(text), lines)
        return lines

    plain = said("def f(x: int) -> int:\n    return x + 1\n")
    assert plain == said('def f(\n    x: int,\n) -> int:\n    """Adds one."""\n    return x + 1  # more\n')
    assert plain != said("def f(x: int) -> int:\n    return x + 2\n")


def test_every_stage_covers_its_own_module() -> None:
    for name in STAGES:
        assert f"hone.stages.{name}" in fingerprint.modules(f"hone.stages.{name}")


def _digests() -> dict[str, str]:
    data: dict[str, Any] = {
        "name": "edited",
        "preset": "cpu",
        "student": {"model": "/model"},
        "prepare": {"corpus": "/corpus"},
    }
    checked = settings.check(data, "settings", Path("/"))
    return {name: fingerprint.code_digest(name, checked.stages[name]) for name in STAGES}


def _forget() -> None:
    for kept in (fingerprint._read, fingerprint._door, fingerprint._file):
        kept.cache_clear()
