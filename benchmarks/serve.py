"""How long `hone serve` takes to answer many fast clients at once among as many slow ones, and the memory it takes.

    python benchmarks/serve.py [--slow 1000] [--fast 1000] [--rounds 3]

The server runs in a process of its own; a search takes 10 ms, as with small students. A slow client sends a byte of its
request every second and never ends it. All fast clients of a round connect at the same moment and time their whole
answer: the page (200), or the request to come back in two seconds (503) when too many wait already.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from hone.serving.page import Judgements, Server
from hone.serving.search import Hit

BEGINNING = b"GET / HTTP/1.1\r\nHost: "


class Answers:
    """Stands where both students would."""

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        time.sleep(0.01)
        hits = [Hit(f"d{n}", query, f"{query}, in full", 1 - n / 10, 0) for n in range(10)]
        return hits, [replace(hit, other_rank=1) for hit in hits]


def serve(folder: str, tell: Connection) -> None:
    server = Server(("127.0.0.1", 0), Answers(), Judgements(Path(folder)), "demo")  # type: ignore[arg-type]
    tell.send(server.server_address)
    server.serve_forever()


def status(pid: int) -> dict[str, float]:
    """Resident memory now and at most (MB), threads, and CPU seconds of a process."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    found = {words[0].rstrip(":"): words[1] for words in lines if len(words) > 1}
    ticks = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[11:13]
    spent = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    memory = {"mb": int(found["VmRSS"]) >> 10, "most_mb": int(found["VmHWM"]) >> 10}
    return {**memory, "threads": int(found["Threads"]), "cpu_s": spent}


async def crawl(address: tuple[str, int]) -> None:
    """One slow client; when it is let go, it comes back."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*address)
            for at in range(len(BEGINNING)):
                writer.write(BEGINNING[at : at + 1])
                await writer.drain()
                await asyncio.sleep(1)
            writer.close()
        await asyncio.sleep(0.1)


async def ask(address: tuple[str, int], path: str) -> tuple[float, str]:
    """One fast client: seconds to the whole answer, and its status."""
    started = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    except OSError as error:
        return time.monotonic() - started, type(error).__name__
    return time.monotonic() - started, (answer.split(b" ", 2)[1:2] or [b"cut off"])[0].decode()


async def measured(address: tuple[str, int], pid: int, slow: int, fast: int, rounds: int) -> None:
    await ask(address, "/?q=warm")
    print(json.dumps({"before": status(pid)}))
    slow_ones = [asyncio.create_task(crawl(address)) for _ in range(slow)]
    await asyncio.sleep(3)
    for number in range(rounds):
        asked = [ask(address, f"/?q=word{n % 40}") for n in range(fast)]
        answers = await asyncio.gather(*asked)
        seconds = sorted(one for one, _ in answers)
        cuts = statistics.quantiles(seconds, n=100)
        times = {"p50": round(cuts[49], 2), "p95": round(cuts[94], 2), "p99": round(cuts[98], 2)}
        late = sum(one > 2 for one in seconds)
        told = Counter(said for _, said in answers)
        print(json.dumps({"round": number + 1, **times, "most": round(seconds[-1], 2), "over_2_s": late, **told}))
        await asyncio.sleep(2)
    print(json.dumps({"after": status(pid)}))
    for one in slow_ones:
        one.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("slow", 1_000), ("fast", 1_000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    hears, tells = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(folder, tells), daemon=True)
        server.start()
        address = hears.recv()
        try:
            asyncio.run(measured(address, server.pid or 0, given.slow, given.fast, given.rounds))
        finally:
            server.terminate()
            server.join()


if __name__ == "__main__":
    main()
