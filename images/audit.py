"""What the images hold, as CycloneDX, and what is known to be wrong with it.

    python images/audit.py FOLDER

Writes FOLDER/NAME.cdx.json for each list of pins, and asks pip-audit about each. Exit code 1 if anything has a known
vulnerability that a newer version fixes; the others are listed. Where no source of advisories answers, it says so.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

IMAGES = Path(__file__).parent
TOOLS = Path(sys.executable).parent


class Findings(NamedTuple):
    """Of one list of pins: packages that were looked up, those that could not be, and `package version id: fix`."""

    audited: int
    unknown: int
    open: list[str]
    fixable: list[str]


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    lists = sorted(IMAGES.glob("*.txt"), key=lambda path: (path.stat().st_size, path))
    for pins in lists:
        bill(pins, folder / f"{pins.stem}.cdx.json")
    fixable = 0
    for pins in lists:
        found = findings(audited(pins))
        if not found.audited:
            print(f"NOT AUDITED: no source of advisories answers here about any package of {pins.name}")
            break
        fixable += len(found.fixable)
        print(f"{pins.name}: {summary(found)}", *found.fixable, *found.open, sep="\n    ", flush=True)
    return 1 if fixable else 0


def bill(pins: Path, out: Path) -> None:
    """Writes the bill of materials of a list of pins."""
    command = [TOOLS / "cyclonedx-py", "requirements", pins, "--output-reproducible", "-o", out]
    subprocess.run(command, check=True, capture_output=True)


def audited(pins: Path) -> list[dict[str, Any]]:
    """What pip-audit says about each package; nothing where it gets no answer."""
    command = [TOOLS / "pip-audit", "-r", pins, "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    answer = subprocess.run(command, capture_output=True, text=True).stdout
    return json.loads(answer)["dependencies"] if answer.startswith("{") else []


def findings(packages: list[dict[str, Any]]) -> Findings:
    known = [package for package in packages if "skip_reason" not in package]
    flaws = [(package, flaw) for package in known for flaw in package["vulns"]]
    lines = [
        (f"{package['name']} {package['version']} {flaw['id']}: {', '.join(flaw['fix_versions']) or 'no fix yet'}",
         bool(flaw["fix_versions"])) for package, flaw in flaws
    ]  # fmt: skip
    return Findings(
        len(known),
        len(packages) - len(known),
        [line for line, fixed in lines if not fixed],
        [line for line, fixed in lines if fixed],
    )


def summary(found: Findings) -> str:
    flaws = len(found.open) + len(found.fixable)
    return f"{found.audited} packages audited, {found.unknown} unknown to the source, {flaws} known vulnerabilities"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
