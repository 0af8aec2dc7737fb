"""The images: the recipe is clean, and what is pinned holds all that the package asks for."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from image_pins import IMAGES, ROOT, pins

pytestmark = pytest.mark.slow

EXTRAS = dict(
    re.findall(r"\[(\w+)\]=([\w,-]*)", (IMAGES / "images.sh").read_text("utf-8").split("declare -A extras=")[1])
)


def test_the_recipe_is_clean() -> None:
    tool = Path(sys.executable).parent / "hadolint"
    ran = subprocess.run([tool, "--format", "json", IMAGES / "Dockerfile"], capture_output=True, text=True)
    assert json.loads(ran.stdout) == []


def test_there_is_an_image_for_every_list_of_pins() -> None:
    assert EXTRAS.keys() == {path.stem for path in IMAGES.glob("*.txt")} - {"tools"}


@pytest.mark.parametrize("name", EXTRAS)
def test_the_pins_of_an_image_hold_what_the_package_asks_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in filter(None, EXTRAS[name].split(",")):
        wanted += project["optional-dependencies"][extra]
    pinned = pins(name)
    for text in wanted:
        asked = Requirement(text)
        package = canonicalize_name(asked.name)
        assert package in pinned, f"{name}.txt lacks {package}: run `make pins`"
        assert pinned[package] in asked.specifier, f"{name}.txt has {package} {pinned[package]}: run `make pins`"


@pytest.mark.parametrize("name", [*EXTRAS, "tools"])
def test_pins_agree_with_each_other(name: str) -> None:
    """What is installed here of an image's packages asks for nothing that the image's pins do not hold."""
    from importlib import metadata

    pinned = pins(name)
    for package, version in pinned.items():
        try:
            found = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        if Version(found.version).public != version.public:
            continue
        for text in found.requires or ():
            asked = Requirement(text)
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(asked.name)
                if needed in pinned or asked.marker is None:
                    assert needed in pinned, f"{name}: {package} asks for {needed}, which is not pinned"
                    assert pinned[needed] in asked.specifier, f"{name}: {package} asks for {text}"


def test_no_image_holds_what_is_left_out_of_all() -> None:
    lines = (IMAGES / "left-out").read_text("utf-8").splitlines()
    names = {Requirement(line).name for line in lines if not line.startswith("#")}
    assert names == {"cuda-python"}
    assert "--overrides /pins/left-out" in (IMAGES / "Dockerfile").read_text("utf-8")
    assert "!images/left-out" in (IMAGES.parent / ".dockerignore").read_text("utf-8").splitlines(), "a build sees it"
    for name in EXTRAS:
        assert names.isdisjoint(pins(name)), name


def test_only_images_with_torch_hold_cuda() -> None:
    for name in EXTRAS:
        cuda = [package for package in pins(name) if package.startswith("nvidia-")]
        assert bool(cuda) == ("torch" in pins(name)), name


def test_the_recipe_leaves_nothing_to_the_root_user_and_no_entrypoint() -> None:
    last = (IMAGES / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    assert re.search(r"^USER 1001:1001$", last, re.MULTILINE)
    assert "ENTRYPOINT" not in last
    assert "RUN" not in last


IMPORTED = """
import importlib.abc, json, re, sys
from importlib.metadata import packages_distributions

pinned, owners = set(json.loads(sys.argv[1])), packages_distributions()

class OnlyWhatIsPinned(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        found = {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners.get(name.partition(".")[0], ())}
        if found and not found & pinned:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, OnlyWhatIsPinned())
import hone.kubeflow.launcher
from hone import stages
from hone.commands import cli
for name in stages.STAGES:
    stages.stage(name)
"""


def test_what_the_smallest_image_holds_is_enough_to_launch_any_task() -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    held = json.dumps([*pins("cpu"), own])
    ran = subprocess.run([sys.executable, "-c", IMPORTED, held], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-600:]
