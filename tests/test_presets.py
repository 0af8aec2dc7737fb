"""The presets are settings that every user's settings can be laid over."""

from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from hone import settings
from hone.stages import distill

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


def test_the_longer_preset_is_the_short_one_with_more_documents_and_more_steps_of_the_layers() -> None:
    short, long = (settings.load_preset(name, "settings.yaml") for name in ("cpu", "cpu-long"))
    assert "preset" not in long
    assert short["distill"]["first"]["train"] == "layers"
    for preset in (short, long):
        preset["generate"]["max_docs"] = 0
        preset["distill"]["first"] |= dict.fromkeys(("max_steps", "max_epochs", "eval_every"), 0)
    assert long == short


def test_the_training_of_layers_can_be_left_out_of_a_preset() -> None:
    given = {**MINIMAL, "preset": "cpu", "distill": {"first": False}}
    trained = settings.check(given, "settings.yaml", Path("/")).stages["distill"]
    assert isinstance(trained, distill.Config)
    assert (trained.first, trained.train) == (None, "head")


def test_test_sets_and_guards_are_declared_once_and_reach_every_stage_that_must_know_them() -> None:
    sets = {
        "tests": [{"name": "more", "folder": "/data/more"}],
        "guards": [{"name": "general", "folder": "/data/general"}],
    }
    configs = settings.check({**MINIMAL, "preset": "cpu", **sets}, "settings.yaml", Path("/")).stages
    knowing = {name: {key for key in sets if [one.name for one in getattr(configs[name], key, ())]} for name in configs}
    assert {name for name, known in knowing.items() if known == set(sets)} == {"prepare", "generate", "gate"}
    assert (knowing["evaluate"], knowing["distill"]) == ({"tests"}, {"guards"})
