"""What each image pins."""

from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "images"


def pins(name: str) -> dict[str, Version]:
    lines = (IMAGES / f"{name}.txt").read_text("utf-8").split()
    pairs = [line.split("==") for line in lines]
    found = {canonicalize_name(package): Version(version) for package, version in pairs}
    assert len(found) == len(lines), f"{name}.txt pins a package twice"
    return found
