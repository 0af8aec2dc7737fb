"""Publishers as processes, on a folder and on an S3 server: one of a race wins, and a killed one breaks nothing."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fake_s3 import s3_with
from hone.commands.cli import app
from hone.results import registry
from hone.storage.addresses import open_store

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
RACERS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_with("models") as address:
        yield address


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, server: str, tmp_path: Path, aws: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return str(tmp_path / "store")
    aws.setenv("AWS_ENDPOINT_URL", server)
    aws.setenv("AWS_ACCESS_KEY_ID", "a")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "b")
    return f"s3://models/{uuid.uuid4().hex}"


def publisher(place: str, folder: Path, version: str, *fate: str) -> subprocess.Popen[str]:
    made = folder / version
    (made / "1_Pooling").mkdir(parents=True)
    (made / "model.safetensors").write_text(f"weights of {version}")
    (made / "1_Pooling/config.json").write_text("{}")
    command = [sys.executable, str(HERE / "support/publishers.py"), place, str(made), version, *fate]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(place: str, *command: str) -> str:
    result = CliRunner().invoke(app, ["registry", *command, "--store", place], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_of_racing_publishers_one_wins_the_others_say_who_and_a_killed_one_leaves_a_whole_model(
    place: str, tmp_path: Path
) -> None:
    racers = {f"v{number}": publisher(place, tmp_path, f"v{number}") for number in range(RACERS)}
    for racer in racers.values():
        assert racer.stdout
        assert racer.stdout.readline() == "uploaded\n"
    answers = {version: start(racer) for version, racer in racers.items()}
    codes = {version: racer.wait() for version, racer in racers.items()}
    won = [version for version, code in codes.items() if code == 0]
    store = open_store(place)
    assert [move.version for move in registry.moves(store, "support")] == won
    assert sorted(codes.values()) == [0, *[2] * (RACERS - 1)]
    for version in codes.keys() - won:
        said = answers[version].stdout.read() if answers[version].stdout else ""
        assert f"support was moved to version {won[0]} by " in said
        assert f"run again to put {version} on top" in said

    killed = publisher(place, tmp_path, "late", "die")
    assert killed.wait() == -signal.SIGKILL
    assert registry.moves(store, "support")[-1].version == won[0]
    assert registry.release(store, "support", won[0]).parts  # every file is there, at its full size
    assert registry.release(store, "support", "late").parts  # the upload of the killed one was whole already

    assert "support: version late is current (move 2)" in told(place, "promote", "support", "late")
    assert f"support: version {won[0]} is current (move 3)" in told(place, "rollback", "support")
    assert won[0] in told(place, "list")
    shown = told(place, "show", "support")
    assert "rollback" in shown
    assert f"{won[0]} (current)" in shown


def start(racer: "subprocess.Popen[str]") -> "subprocess.Popen[str]":
    assert racer.stdin
    racer.stdin.write("go\n")
    racer.stdin.flush()
    return racer
