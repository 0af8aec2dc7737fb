"""Throughput of parts written to and read from S3 by Hone and by bare boto3, and the memory of streaming a large one.

    python benchmarks/store.py              # as root: starts Ceph's S3 gateway on this machine, as the tests do
    python benchmarks/store.py --uri s3://bucket/prefix        # or the server that the AWS settings name

Hone's side is what a stage does: sha256 of every file, upload, check of its size; download, sha256 compared. boto3's is
`upload_file` and `download_file` with their defaults and no check. Both move as many files at once, and take turns.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import boto3

from hone.results.manifest import Output
from hone.results.table_io import AHEAD, fetch_parts, upload
from hone.storage.addresses import open_store

REPEATS = 6
SHAPES = ((1, 256), (64, 4))
"""Number of files and megabytes in each."""
SUPPORT = Path(__file__).parents[1] / "tests" / "support"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--uri", help="s3://bucket/prefix, instead of its own server")
    parser.add_argument("--streamed", type=int, default=2048, help="megabytes put and fetched for the peak of memory")
    parser.add_argument("--child", choices=("hone", "boto3"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return streamed(options.child, options.uri, options.streamed)
    with tempfile.TemporaryDirectory(prefix="hone-store-") as name:
        if options.uri:
            return measure(Path(name), options.uri, options.streamed)
        with ceph(Path(name)):
            boto3.client("s3").create_bucket(Bucket="bench")
            measure(Path(name), "s3://bench/store", options.streamed)


@contextmanager
def ceph(folder: Path) -> Iterator[None]:
    """A server on this machine, named by the AWS settings of this process and its children."""
    command = [sys.executable, str(SUPPORT / "ceph.py"), str(folder / "ceph"), str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout
        told = json.loads(running.stdout.readline())
        os.environ.update(AWS_ENDPOINT_URL=told["address"], AWS_DEFAULT_REGION="default",
                          AWS_ACCESS_KEY_ID=told["access_key"], AWS_SECRET_ACCESS_KEY=told["secret_key"])  # fmt: skip
        yield
        running.terminate()


def measure(folder: Path, uri: str, megabytes: int) -> None:
    print(f"{'files':>5} {'MB each':>8} {'':<6} {'hone MB/s':>10} {'boto3 MB/s':>11} {'ratio':>6}", flush=True)
    for files, each in SHAPES:
        compare(folder, uri, files, each)
    for side in ("hone", "boto3"):
        command = [sys.executable, __file__, "--child", side, "--uri", uri, "--streamed", str(megabytes)]
        subprocess.run(command, check=True)


def compare(folder: Path, uri: str, files: int, each: int) -> None:
    source = folder / "source"
    source.mkdir()
    for number in range(files):
        fill(source / f"{number:05d}", each)
    hone, bare = Hone(uri, source), Bare(uri, source)
    for what in ("write", "read"):
        work: list[Callable[[Path], None]] = [getattr(hone, what), getattr(bare, what)]
        for one in work:
            timed(one, folder)
        times: list[list[float]] = [[], []]
        for turn in range(2 * REPEATS):
            side = (turn + turn // 2) % 2  # each is as often the first of a pair as the second
            times[side].append(timed(work[side], folder))
        ours, theirs = (files * each / statistics.median(column) for column in times)
        print(f"{files:>5} {each:>8} {what:<6} {ours:>10.0f} {theirs:>11.0f} {ours / theirs:>6.2f}", flush=True)
    shutil.rmtree(source)


class Hone:
    """The way of a stage's output into the store and out of it."""

    def __init__(self, uri: str, source: Path) -> None:
        self.store, self.source = open_store(uri), source
        self.output: Output | None = None

    def write(self, scratch: Path) -> None:
        self.output = upload(self.source, "model", self.store, "distill/bench")

    def read(self, scratch: Path) -> None:
        assert self.output
        for _ in fetch_parts(self.store, "distill/bench", self.output.parts, scratch):
            pass


class Bare:
    """The same files by boto3 itself, as many at once."""

    def __init__(self, uri: str, source: Path) -> None:
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self.client, self.files = boto3.client("s3"), sorted(source.iterdir())
        self.keys = [f"{prefix}/bare/{file.name}" for file in self.files]

    def write(self, scratch: Path) -> None:
        self._move(lambda file, key: self.client.upload_file(str(file), self.bucket, key))

    def read(self, scratch: Path) -> None:
        self._move(lambda file, key: self.client.download_file(self.bucket, key, str(scratch / file.name)))

    def _move(self, one: Callable[[Path, str], None]) -> None:
        with ThreadPoolExecutor(AHEAD) as pool:
            list(pool.map(one, self.files, self.keys))


def timed(work: Callable[[Path], None], folder: Path) -> float:
    """Seconds, with an empty folder to write to."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        started = time.perf_counter()
        work(Path(scratch))
        return time.perf_counter() - started


def streamed(side: str, uri: str, megabytes: int) -> None:
    """Prints how much memory one large file takes on its way into the store and out of it."""
    with tempfile.TemporaryDirectory(prefix="hone-store-") as name:
        source = Path(name) / "source"
        source.mkdir()
        fill(source / "large", megabytes)
        moved = {"hone": Hone, "boto3": Bare}[side](uri, source)
        peaks = [peak()]
        for work in (moved.write, moved.read):
            timed(work, Path(name))
            peaks.append(peak())
    start, written, read = peaks
    print(f"{side:<6} {megabytes} MB in one file: peak RSS {start:.0f} MB at the start, "
          f"{written:.0f} MB after writing, {read:.0f} MB after reading", flush=True)  # fmt: skip


def fill(path: Path, megabytes: int) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)


def peak() -> float:
    """Megabytes of memory that this process has held at most."""
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
