"""The bill of materials of the images, and what an audit of it tells."""

import json
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

IMAGES = Path(__file__).parents[1] / "images"
sys.path.insert(0, str(IMAGES))

import audit  # noqa: E402

CLEAN = {"name": "numpy", "version": "2.0", "vulns": []}
FLAWED = {"name": "pip", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2", "3"], "aliases": []}]}
HOPELESS = {"name": "ray", "version": "1", "vulns": [{"id": "X-2", "fix_versions": [], "aliases": []}]}
UNKNOWN = {"name": "own", "skip_reason": "not found"}


def test_every_pin_of_an_image_is_in_its_bill_of_materials(tmp_path: Path) -> None:
    audit.bill(IMAGES / "cpu.txt", tmp_path / "cpu.cdx.json")
    bill = json.loads((tmp_path / "cpu.cdx.json").read_text("utf-8"))
    held = {f"{component['name']}=={component['version']}" for component in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert held == set((IMAGES / "cpu.txt").read_text("utf-8").split())
    assert all(component["purl"].startswith("pkg:pypi/") for component in bill["components"])


def test_what_can_be_fixed_is_listed_apart_from_what_cannot() -> None:
    found = audit.findings([CLEAN, FLAWED, HOPELESS, UNKNOWN])
    assert found == audit.Findings(3, 1, ["ray 1 X-2: no fix yet"], ["pip 1 X-1: 2, 3"])


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ([CLEAN], 0, "1 packages audited, 0 unknown to the source, 0 known vulnerabilities"),
        ([CLEAN, FLAWED], 1, "pip 1 X-1: 2, 3"),
        ([CLEAN, HOPELESS], 0, "ray 1 X-2: no fix yet"),
        ([UNKNOWN], 0, "NOT AUDITED: no source of advisories answers here"),
        ([], 0, "NOT AUDITED: no source of advisories answers here"),
    ],
)
def test_an_audit_fails_on_what_can_be_fixed_and_says_if_there_was_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: list[dict[str, object]],
    code: int,
    said: str,
) -> None:
    (tmp_path / "one.txt").write_text("numpy==2.0\n")
    monkeypatch.setattr(audit, "IMAGES", tmp_path)
    monkeypatch.setattr(audit, "bill", lambda pins, out: None)
    monkeypatch.setattr(audit, "audited", lambda pins: answer)
    assert audit.main(tmp_path / "out") == code
    assert said in capsys.readouterr().out
