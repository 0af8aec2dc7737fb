"""The order of the rooms: what may import what, and where."""

import runpy
import subprocess
import sys
from pathlib import Path


def test_every_room_imports_only_from_the_rooms_below_it() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_picture_of_the_rooms_is_drawn_from_the_contract() -> None:
    before = Path("docs/architecture.svg").read_text("utf-8")
    rooms = runpy.run_path("docs/draw_architecture.py")
    assert before == rooms["drawing"](rooms["layers"]())
    assert {room for row in rooms["layers"]() for room in row} == set(rooms["PHRASES"])
