"""How long Hone takes until it starts to work: a task of a pipeline, and what people type.

    OMP_NUM_THREADS=1 python benchmarks/start.py [--rounds 7] [--against OTHER/src] [--store STORE --run NAME]

Each round starts a new Python for either side, in turn. Of `hone launch STAGE`, for stages that need no model, it is
everything imported and worked out up to the first event (settings checked, code fingerprinted, store opened); with a
store that holds a finished run also `hone --help`, `store ls`, `search`, and `serve` up to its first page of answers,
each once before it is timed. The other side is the code of another checkout; without one, of the tasks alone, the same
code that imports first what readers of formats and pretty printing need. Medians, in seconds of the clock and of the
processor.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

SRC = Path(__file__).parents[1] / "src"
QUERY = "run a command and capture its output"
Timed = Callable[[], tuple[float, float]]
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
    parser.add_argument("--store", help="a store that holds a finished run")
    parser.add_argument("--run", default="demo", help="the run's name")
    arguments = parser.parse_args()
    found = Table("start", "first line, s", "processor, s", "the other side, s", "processor, s ", "ratio")

    def compare(name: str, ours: Timed, theirs: Timed) -> None:
        rounds = [(ours(), theirs()) for _ in range(arguments.rounds)]
        middle = [
            [statistics.median(column) for column in zip(*side, strict=True)] for side in zip(*rounds, strict=True)
        ]
        figures = [f"{seconds:.2f}" for side in middle for seconds in side]
        found.add_row(name, *figures, f"{middle[1][1] / middle[0][1]:.2f}")

    other, code = (arguments.against, STARTED) if arguments.against else (SRC, UNNEEDED + STARTED)
    with tempfile.TemporaryDirectory() as folder:
        for name in STAGES:
            compare(
                f"launch {name}",
                partial(started, STARTED, name, folder, SRC),
                partial(started, code, name, folder, other),
            )
    if arguments.store and arguments.against:
        at = ["--store", arguments.store]
        for command in (["--help"], ["store", "ls", *at], ["search", arguments.run, QUERY, *at]):
            sides = [partial(answered, command, source) for source in (SRC, other)]
            for side in sides:
                side()
            compare(" ".join(command[:2] if command[0] == "store" else command[:1]), *sides)
        compare("serve", *(partial(served, arguments.run, arguments.store, source) for source in (SRC, other)))
    Console(width=120).print(found)


def started(code: str, name: str, folder: str, source: Path) -> tuple[float, float]:
    """Seconds of the clock until a new Python has said its first line, and of the processor."""
    seconds, used, ran = timed(["-c", code, name, folder], source)
    assert '"started"' in ran.stderr, ran.stderr
    return seconds, used


def answered(command: list[str], source: Path) -> tuple[float, float]:
    """The same of a command that ends."""
    seconds, used, ran = timed(["-m", "hone", *command], source)
    assert ran.returncode == 0, ran.stderr
    return seconds, used


def served(run: str, store: str, source: Path) -> tuple[float, float]:
    """The same of `hone serve` until it has sent its first page of answers."""
    before, clock = os.times(), time.monotonic()
    command = [sys.executable, "-m", "hone", "serve", run, "--store", store, "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [*command, "--out", folder],
            env=environment(source),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert process.stdout
            address = process.stdout.readline().split()[0]
            with urlopen(f"{address}?q={quote(QUERY)}") as page:
                assert b"tuned" in page.read()
            seconds = time.monotonic() - clock
        finally:
            process.terminate()
            process.wait()
    return seconds, since(before)


def timed(arguments: list[str], source: Path) -> tuple[float, float, "subprocess.CompletedProcess[str]"]:
    """A new Python over the code in `source`: its seconds of the clock and of the processor, and what it said."""
    before, clock = os.times(), time.monotonic()
    ran = subprocess.run([sys.executable, *arguments], env=environment(source), capture_output=True, text=True)
    return time.monotonic() - clock, since(before), ran


def environment(source: Path) -> dict[str, str]:
    return {**os.environ, "HONE_LOG": "json", "PYTHONPATH": str(source)}


def since(before: os.times_result) -> float:
    """Seconds of the processor that processes which ended since then have used."""
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


if __name__ == "__main__":
    main()
