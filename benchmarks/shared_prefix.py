"""What it saves to compute the common beginnings of prompts once, in transformers: seconds of the processor for the
same prompts by `CausalLM` and by transformers' own `generate`, and how many answers are the same.

    python benchmarks/shared_prefix.py MODEL CORPUS.jsonl [--docs 4] [--layouts guide document] [--new-tokens 32]

The reference pads prompts to one length and computes each whole, in fp32, as many at once as fit into the same budget.
`CausalLM` runs in fp32 and in the machine's own precision. Temperature is 0, so that answers can be compared token by
token. Seconds are processor time: other work on the machine does not count.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from hone.backends.budget import token_batches
from hone.backends.encoders.families import doc_text
from hone.backends.generators.causal_lm import CausalLM
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.requests import Prompts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--docs", type=int, default=4)
    parser.add_argument("--layouts", nargs="+", default=["guide", "document"])
    parser.add_argument("--new-tokens", type=int, default=32)
    given = parser.parse_args()
    docs = [json.loads(line) for line in given.corpus.read_text("utf-8").splitlines()[: given.docs]]
    print("layout | side | prompts | seconds | times as fast | same answers | new tokens", flush=True)
    for layout in given.layouts:
        base = {"layout": layout, "temperature": 0.0, "max_new_tokens": given.new_tokens, "example_sets": 1}
        expected: dict[int, str] = {}
        spent = 0.0
        for side, precision in (("whole", "fp32"), ("shared", "fp32"), ("shared", "auto")):
            llm = LanguageModel(**base, precision=precision)
            model = CausalLM(given.model, llm)
            asked = [
                model.prompt(request)
                for doc in docs
                for _, request in Prompts(llm, 17).requests(doc["_id"], doc_text(doc.get("title", ""), doc["text"]))
            ]
            _ = model.model
            started = time.process_time()
            found = whole(model, asked) if side == "whole" else shared(model, asked)
            seconds = time.process_time() - started
            if side == "whole":
                expected, spent = found, seconds
            same = sum(found[at] == expected[at] for at in expected)
            new = sum(len(model.tokenizer(text)["input_ids"]) for text in found.values())
            name = f"{side}, {model.resolved['precision']}"
            print(
                f"{layout} | {name} | {len(asked)} | {seconds:.0f} | {spent / seconds:.1f} | {same} | {new}", flush=True
            )


def shared(model: CausalLM, prompts: list[str]) -> dict[int, str]:
    parts = model.generate(prompts, list(range(len(prompts))))
    return {at: answer.text for part in parts for at, answer in part.items()}


def whole(model: Any, prompts: list[str]) -> dict[int, str]:
    tokens = model.chat.tokens(prompts)
    found: dict[int, str] = {}
    room = model.settings.max_new_tokens
    for rows in token_batches([len(ids) + room for ids in tokens], model.settings.token_budget):
        new = model.sample_whole([tokens[row] for row in rows], rows)
        found |= {
            row: model.tokenizer.decode(ids, skip_special_tokens=True) for row, ids in zip(rows, new, strict=True)
        }
    return found


if __name__ == "__main__":
    main()
