"""The order of the rooms: what may import what, and where."""

import subprocess
import sys
from pathlib import Path


def test_every_room_imports_only_from_the_rooms_below_it() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
