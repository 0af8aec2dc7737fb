"""The presets are settings that every user's settings can be laid over."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from hone import settings

PRESETS = sorted(
    file.name.removesuffix(".yaml") for file in resources.files("hone.presets").iterdir() if file.name.endswith(".yaml")
)
MINIMAL: dict[str, Any] = {
    "name": "small",
    "student": {"model": "/models/student"},
    "prepare": {"corpus": "/data/corpus"},
    "generate": {"llm": {"model": "/models/writer"}},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_whole(preset: str) -> None:
    assert settings.check({**MINIMAL, "preset": preset}, "settings.yaml", Path("/"))


def test_the_half_hour_is_the_preset_of_minutes_but_for_what_it_says_itself() -> None:
    minutes, half_hour = (settings.load_preset(name, "settings.yaml") for name in ("cpu", "cpu-long"))
    assert "preset" not in half_hour
    assert half_hour["teacher"] == minutes["teacher"]
    assert half_hour["curate"] == minutes["curate"]
    assert half_hour["distill"]["loss"] == minutes["distill"]["loss"]
    assert (minutes["distill"]["train"], half_hour["distill"]["train"]) == ("head", "layers")
    assert half_hour["distill"]["minutes"] > 0
