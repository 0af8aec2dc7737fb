"""How long a task of a pipeline takes until it starts to work: `hone launch`, for the stages that need no model.

    OMP_NUM_THREADS=1 python benchmarks/start.py [--rounds 7] [--against OTHER/src]

Each round starts a new Python for either side, in turn: everything that `hone launch STAGE` imports and works out up to
its first event (settings checked, code fingerprinted, store opened). The other side imports first what readers of
formats and pretty printing need and no such start does; or it is the code of another checkout. Medians, in seconds of
the clock and of the processor.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

SRC = Path(__file__).parents[1] / "src"
STAGES = ("prepare", "curate", "gate", "publish")
UNNEEDED = "import rich.console, rich.traceback, markdown_it, docutils.core, dateutil.parser, chardet, asyncio\n"
STARTED = """
import sys
from pathlib import Path
import hone.commands.kubeflow
from hone import settings
from hone.engine.fingerprint import code_digest
from hone.log import log
from hone.stages import stage
from hone.storage.addresses import open_store

name, corpus = sys.argv[1:]
given = {"name": "small", "preset": "cpu", "student": {"model": corpus}, "prepare": {"corpus": corpus}}
config = settings.check(given, "settings", Path(corpus)).stages[name]
stage(name)
open_store(corpus + "/store")
log.info("started", fingerprint=code_digest(name, config))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--against", type=Path, help="the folder src of another checkout")
    arguments = parser.parse_args()
    other, code = (arguments.against, STARTED) if arguments.against else (SRC, UNNEEDED + STARTED)
    found = Table("stage", "to the first line, s", "processor, s", "the other side, s", "processor, s ", "ratio")
    with tempfile.TemporaryDirectory() as folder:
        for name in STAGES:
            both = [
                (started(STARTED, name, folder, SRC), started(code, name, folder, other))
                for _ in range(arguments.rounds)
            ]
            ours, theirs = (
                [statistics.median(seconds) for seconds in zip(*side, strict=True)] for side in zip(*both, strict=True)
            )
            figures = [f"{seconds:.2f}" for seconds in (*ours, *theirs)]
            found.add_row(name, *figures, f"{theirs[1] / ours[1]:.2f}")
    Console(width=120).print(found)


def started(code: str, name: str, folder: str, source: Path) -> tuple[float, float]:
    """Seconds of the clock until a new Python has said its first line, and of the processor."""
    before, clock = os.times(), time.monotonic()
    environment = {**os.environ, "HONE_LOG": "json", "PYTHONPATH": str(source)}
    ran = subprocess.run([sys.executable, "-c", code, name, folder], env=environment, capture_output=True, text=True)
    seconds, after = time.monotonic() - clock, os.times()
    assert '"started"' in ran.stderr, ran.stderr
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return seconds, used


if __name__ == "__main__":
    main()
