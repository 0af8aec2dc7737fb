"""The build hook: a wheel and an sdist hold the commit that they are built from, for `hone --version`."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "COMMIT"


class Commit(BuildHookInterface):
    """Adds the file COMMIT: from HONE_COMMIT, from the sdist that this is, or from git."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        commit = _commit(Path(self.root))
        if not commit or version == "editable":
            return
        folder = Path(tempfile.mkdtemp(prefix="hone-commit-"))
        (folder / NAME).write_text(f"{commit}\n", "utf-8")
        build_data["force_include"][str(folder / NAME)] = f"hone/{NAME}" if self.target_name == "wheel" else NAME


def _commit(root: Path) -> str:
    if given := os.environ.get("HONE_COMMIT"):
        return given
    if (root / NAME).is_file():
        return (root / NAME).read_text("utf-8").strip()
    if not (root / ".git").exists():
        return ""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    return found.stdout.strip()
