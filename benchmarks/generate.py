"""generate at scale: rows per second, peak memory, and what a killed run pays twice.

    python benchmarks/generate.py [--docs 100000] [--shards 10] [--kills 3]

A language model's six styles on synthetic documents of sixty words, through the stage's one door, every shard in a
process of its own and some of them killed on the way. Prompts, keys, kept answers, cleaning and tables are what they
are in any run; in the place of the server's answer stands one that is made up here at once, so what is measured is all
that the stage adds to a model. Every prompt that is answered is counted; seconds are processor time.
"""

import argparse
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from memory import peak, text_of

WORDS_OF_AN_ANSWER = 7
STYLES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-generate-") as folder:
        measure(Path(folder), options.docs, options.shards, options.kills)


def measure(folder: Path, docs: int, shards: int, kills: int) -> None:
    """Prints a row for each shard, killed or finished, and then what came of all of them."""
    os.environ["OPENAI_API_KEY"] = "none"
    with (folder / "corpus.jsonl").open("w") as file:
        file.writelines(f'{{"_id": "d{number}", "text": "{document(number)}"}}\n' for number in range(docs))
    in_a_process(prepare, folder)
    print(f"{'shard':>6} {'answers':>9} {'a second':>9} {'seconds':>8} {'start MB':>9} {'peak MB':>8}", flush=True)
    draw = random.Random(1)
    for shard in range(shards):
        if shard < kills:
            expected = STYLES * docs // shards
            told(folder, shard, shards, kill_at=draw.randrange(expected // 10, expected * 9 // 10))
        told(folder, shard, shards)
    in_a_process(join, folder, shards)
    asked = sum(int(line) for path in folder.glob("answered-*") for line in path.read_text().split())
    print(f"{asked:,} answers for {STYLES * docs:,} prompts: {asked - STYLES * docs:,} were paid twice")


def document(number: int) -> str:
    """Five sentences of twelve words."""
    return ". ".join(text_of(5 * number + part) for part in range(5))


def told(folder: Path, shard: int, shards: int, kill_at: int = 0) -> None:
    answered = folder / f"answered-{shard}"
    before = count(answered)
    process = multiprocessing.get_context("spawn").Process(target=generate, args=(folder, shard, shards))
    process.start()
    while kill_at and process.is_alive() and count(answered) - before < kill_at:
        time.sleep(0.05)
    if kill_at:
        os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    if kill_at:
        print(f"{shard:>6} {count(answered) - before:>9,} killed", flush=True)


def count(path: Path) -> int:
    return sum(map(int, path.read_text().split())) if path.exists() else 0


def in_a_process(work: Any, *arguments: Any) -> None:
    process = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def prepare(folder: Path) -> None:
    from hone.engine.execute import execute
    from hone.engine.plan import plan
    from hone.scratch import scratch_folder
    from hone.stages import stage
    from hone.storage.local import LocalStore

    config = stage("prepare").Config.model_validate({"corpus": str(folder / "corpus.jsonl"), "synthetic_docs": 0})
    with scratch_folder() as scratch:
        execute(plan("prepare", config, {}, scratch), LocalStore(folder / "store"), scratch)


def planned(folder: Path, scratch: Path) -> Any:
    from memory import inputs_of

    from hone.engine.plan import plan
    from hone.stages import stage
    from hone.storage.local import LocalStore

    endpoint = {"url": "http://127.0.0.1:9/v1", "model": "made-up"}
    config = stage("generate").Config.model_validate({"sources": ["openai"], "llm": {"endpoint": endpoint}})
    return plan("generate", config, inputs_of(LocalStore(folder / "store")), scratch)


def generate(folder: Path, number: int, shards: int) -> None:
    """One shard; prints its row."""
    from hone.backends.generators.answers import Answer
    from hone.backends.generators.openai_api import OpenAIServer
    from hone.context import Shard
    from hone.engine.execute import execute
    from hone.scratch import scratch_folder
    from hone.storage.local import LocalStore

    def made_up(self: OpenAIServer, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        with (folder / f"answered-{number}").open("a") as file:
            file.write(f"{len(prompts)}\n")
        return [
            Answer(answer(prompt, seed), False, len(prompt) // 3, None, 12)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    OpenAIServer.generate = made_up
    known = count(folder / f"answered-{number}")
    start, began = peak(), time.process_time()
    with scratch_folder() as scratch:
        manifest, _ = execute(planned(folder, scratch), LocalStore(folder / "store"), scratch, Shard(number, shards))
    seconds, rows = time.process_time() - began, count(folder / f"answered-{number}") - known
    figures = f"{rows:>9,} {rows / seconds:>9,.0f} {seconds:>8,.0f} {start:>9,.0f} {peak():>8,.0f}"
    print(f"{number:>6} {figures}  kept {manifest.outputs['queries'].rows:,}", flush=True)


def answer(prompt: str, seed: int) -> str:
    """Some words of the prompt's document, drawn by the seed."""
    words = re.findall(r"word\w\w", prompt)
    return " ".join(random.Random(seed).sample(words, min(WORDS_OF_AN_ANSWER, len(words))))


def join(folder: Path, shards: int) -> None:
    from hone.engine.merge import merge
    from hone.scratch import scratch_folder
    from hone.storage.local import LocalStore

    with scratch_folder() as scratch:
        manifest = merge(planned(folder, scratch), LocalStore(folder / "store"), shards)
    print(f"joined: {manifest.outputs['queries'].rows:,} queries, {peak():,.0f} MB")


if __name__ == "__main__":
    main()
