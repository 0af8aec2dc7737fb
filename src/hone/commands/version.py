"""What `hone --version` prints: the version, and the commit that this Hone is of."""

import subprocess
from importlib import resources
from pathlib import Path

import hone
from hone import __version__


def shown_version() -> str:
    """Such as `hone 0.2.0 (commit 1f0c2a7)`."""
    commit = _commit()
    return f"hone {__version__}" + (f" (commit {commit[:12]})" if commit else "")


def _commit() -> str:
    """What the build left in the wheel, or what git says of a checkout; empty if neither says anything."""
    built = resources.files(hone) / "COMMIT"
    if built.is_file():
        return built.read_text("utf-8").strip()
    checkout = Path(str(hone.__file__)).parents[2]
    if not (checkout / ".git").exists():
        return ""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return answer.stdout.strip()
