"""The wheel and the sdist as people install them: with the base dependencies alone, on each version of Python that
pyproject.toml names and this machine has."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.specifiers import SpecifierSet

import chain
from hone import __version__
from hone.commands.cli import VERBS, app

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
VERSIONS = [named.rpartition(" ")[2] for named in PROJECT["classifiers"] if named.startswith("Programming Language")]
UV = Path(sys.executable).with_name("uv")
TRAIN = "which the extra train brings: pip install 'hone-retrieval[train]'"
PIPELINE = "which the extra pipeline brings: pip install 'hone-retrieval[pipeline]'"
DONE = ""
"""Works without any extra."""
ASKED: dict[str, tuple[str, str]] = {
    "init": ("init corpus --student student --out other.yaml", DONE),
    "run": ("run tiny.yaml", TRAIN),
    "plan": ("plan tiny.yaml", TRAIN),
    "stage": ("stage prepare --config tiny.yaml --store other", DONE),
    "search": ("search tiny query", "there is no run called 'tiny'"),
    "serve": ("serve tiny", "there is no run called 'tiny'"),
    "compare": ("compare tiny tiny", "there is no run called 'tiny'"),
    "show": ("show tiny queries", "there is no run called 'tiny'"),
    "encode": ("encode tiny --out vectors", TRAIN),
    "check-endpoint": ("check-endpoint http://127.0.0.1:9 tiny", TRAIN),
    "gate": ("gate tiny", "there is no run called 'tiny'"),
    "ablate": ("ablate tiny.yaml --over loss", TRAIN),
    "saturate": ("saturate tiny.yaml", TRAIN),
    "describe": ("describe", DONE),
    "compile": ("compile specialize --out out.yaml", PIPELINE),
    "register": ("register specialize --profile dev-cpu", PIPELINE),
    "submit": ("submit specialize tiny.yaml --store s3://b --profile dev-cpu", PIPELINE),
    "reconcile": ("reconcile nothing.yaml", "nothing.yaml does not exist"),
    "selftest": ("selftest --host http://127.0.0.1:9", PIPELINE),
    "fetch": ("fetch student=student --into models", DONE),
    "preflight": ("preflight tiny.yaml --store other", DONE),
    "launch": ("launch prepare {}", ""),
    "domains": ("domains --help", DONE),
    "diff-corpus": ("diff-corpus --help", DONE),
    "registry": ("registry list", DONE),
    "store": ("store gc", "hone-store"),
    "repair": ("repair tiny", "there is no run called 'tiny'"),
}
"""A verb to how it is called here, and what its one sentence says where it cannot go on."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "-q", "--python", sys.executable, "-o", folder, ROOT], check=True)
    return folder


def interpreter(version: str) -> Path | None:
    """A Python of this version, if the machine has one: this one, one on the PATH, or one of pyenv's."""
    shims = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = [sys.executable, shutil.which(f"python{version}"), *sorted(shims.glob(f"{version}.*/bin/python"))]
    ask = ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    for path in filter(None, found):
        if subprocess.run([path, *ask], capture_output=True, text=True).stdout.strip() == version:
            return Path(path)
    return None


@pytest.fixture(scope="module", params=VERSIONS)
def hone(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that holds the wheel and its base dependencies."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"there is no Python {request.param} here")
    home = tmp_path_factory.mktemp("venv") / "v"
    wheel = next(built.glob("*.whl"))
    subprocess.run([UV, "venv", "-q", "--python", python, home], check=True)
    subprocess.run([UV, "pip", "install", "-q", "--python", home / "bin" / "python", wheel], check=True)
    return home / "bin" / "hone"


@pytest.fixture(scope="module")
def place(hone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own for each version."""
    home = chain.home(tmp_path_factory.mktemp("home"))
    chain.settings_file(home)
    return home


def said(hone: Path, command: str, place: Path) -> subprocess.CompletedProcess[str]:
    usual = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HONE_STORE")}
    return subprocess.run([hone, *command.split()], cwd=place, capture_output=True, text=True, env=usual)


def test_wheel_and_sdist_are_of_this_version_and_hold_what_they_need(built: Path) -> None:
    wheel = next(built.glob("*.whl"))
    assert wheel.name == f"hone_retrieval-{__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("hone/pipelines/specialize.py", "hone/pipelines/profiles/dev-cpu.yaml", "hone/presets/cpu.yaml",
                   "hone/demo/data/queries.jsonl", "hone/py.typed"):  # fmt: skip
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        below = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "hatch_build.py", "pipelines/specialize.py"} <= below


def test_just_the_versions_of_python_that_are_named_are_admitted() -> None:
    admitted = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(30) if admitted.contains(f"3.{minor}.0")] == [int(v[2:]) for v in VERSIONS]


def test_the_version_names_the_commit_that_was_built(hone: Path, place: Path) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert said(hone, "--version", place).stdout == f"hone {__version__} (commit {commit[:12]})\n"


def test_every_verb_is_tried_here() -> None:
    assert set(ASKED) == set(VERBS)


@pytest.mark.parametrize("verb", ASKED)
def test_without_extras_a_command_works_or_names_the_extra_in_one_sentence(verb: str, hone: Path, place: Path) -> None:
    command, sentence = ASKED[verb]
    done = said(hone, command, place)
    assert "Traceback" not in done.stderr
    if sentence:
        assert done.returncode == 2
        assert done.stderr.startswith("hone: ")
        assert sentence in done.stderr
        assert len(done.stderr.splitlines()) == 1
    elif verb != "launch":
        assert done.returncode == 0, done.stderr
    assert not (place / "hone-store").exists()


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, with those below it."""
    below = getattr(command, "commands", {})
    for name, inner in below.items():
        yield from leaves(inner, (*path, name))
    if not below:
        yield path


def test_every_command_has_short_help_and_the_usual_options(place: Path, hone: Path) -> None:
    group: Any = typer.main.get_command(app)
    for verb in VERBS:
        for path in leaves(group.get_command(None, verb), (verb,)):
            command = group.get_command(None, verb)
            for name in path[1:]:
                command = command.commands[name]
            assert {"-q", "-v", "--log-file"} <= {option for found in command.params for option in found.opts}
    assert "Usage: hone run" in said(hone, "run -h", place).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_complete(shell: str, hone: Path, place: Path) -> None:
    usual = {**os.environ, "_HONE_COMPLETE": f"source_{shell}"}
    found = subprocess.run([hone], cwd=place, capture_output=True, text=True, env=usual)
    assert "_HONE_COMPLETE" in found.stdout
