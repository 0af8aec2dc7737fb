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


def test_the_longer_preset_is_the_short_one_with_layers_trained_before_the_head() -> None:
    short, long = (settings.load_preset(name, "settings.yaml") for name in ("cpu", "cpu-long"))
    assert "preset" not in long
    assert long["teacher"] == short["teacher"]
    assert {**long["curate"], "list_size": 0} == {**short["curate"], "list_size": 0}
    assert {name: value for name, value in long["distill"].items() if name != "first"} == short["distill"]
    assert long["distill"]["first"]["train"] == "layers"


def test_test_sets_and_guards_are_declared_once_and_reach_every_stage_that_must_know_them() -> None:
    sets = {
        "tests": [{"name": "more", "folder": "/data/more"}],
        "guards": [{"name": "general", "folder": "/data/general"}],
    }
    configs = settings.check({**MINIMAL, "preset": "cpu", **sets}, "settings.yaml", Path("/")).stages
    knowing = {name: {key for key in sets if [one.name for one in getattr(configs[name], key, ())]} for name in configs}
    assert {name for name, known in knowing.items() if known == set(sets)} == {"prepare", "generate", "gate"}
    assert (knowing["evaluate"], knowing["distill"]) == ({"tests"}, {"guards"})
