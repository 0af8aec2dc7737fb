"""Which prompt a language model answers best: layouts, numbers of examples, whose examples, and a system turn.

    python benchmarks/prompts.py COLLECTION... --model FOLDER [--source transformers] [--docs 16]
        [--variants 'document;guide'] [--store DIR] [--set generate.llm.endpoint.url=...]

Each variant asks the same documents for one query of each style and goes through the product's own prepare, generate
and mine, its cleaning and its round trip. Prefilled tokens are those of 1,000 documents with shared beginnings kept
for ever (`prompt_layout.py`), so that a small sample does not hide what is shared. Answers are kept in the store.
Prints Markdown: a row for each variant and collection, and one for each variant over all. With `--train` a student is
trained on what is kept, and a second table has its gain on test queries.
"""

import json
import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import prompt_layout
import quality
import written

from hone.core.forecast import prefilled
from hone.scratch import scratch_folder
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.prompts import ONE_STYLE
from hone.stages.generate.styles import STYLES, Style
from hone.storage.addresses import open_store
from hone.storage.base import Store

SYSTEM_ENDS = "\n----\n"
"""Parts the system's turn from the user's, in a prompt and in the chat template of the folder made for it."""
OWN = 24
"""How many queries and titles of a collection are drawn as examples."""


@dataclass(frozen=True)
class Variant:
    """A way to ask."""

    layout: Mapping[str, Any] = field(default_factory=dict[str, Any])
    own_examples: bool = False
    system_turn: bool = False


VARIANTS = {
    "document": Variant(),
    "document, one example": Variant({"examples": 1}),
    "document, no examples": Variant({"examples": 0}),
    "document, examples of the collection's own": Variant(own_examples=True),
    "document, the rest in the system turn": Variant(
        {"template": f"{ONE_STYLE}{SYSTEM_ENDS}Document:\n{{{{ document }}}}"}, system_turn=True
    ),
    "examples": Variant({"layout": "examples"}),
    "guide": Variant({"layout": "guide"}),
}


def main() -> int:
    parser = quality.options(__doc__, seeds=str(written.SEED), store="build/written")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", default="transformers", help="openai: a server of this model, given by --set")
    parser.add_argument("--docs", type=int, default=16)
    parser.add_argument("--variants", default=";".join(VARIANTS), help="separated by semicolons")
    parser.add_argument("--train", action="store_true", help="train a student on the queries too")
    given = parser.parse_args()
    given.log, store = False, open_store(given.store)
    print("| variant | collection | answers | kept | verbatim | copied | in its style | back at 1 | distinct-2 "
          "| prefilled, new tokens for each kept |")  # fmt: skip
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in given.variants.split(";"):
        rows = []
        for folder in given.collections:
            rows.append(measured(VARIANTS[name], folder, given, store))
            print(line(name, folder.name, rows[-1]), flush=True)
        print(line(f"**{name}**", "all", sum(rows, Counter[str]())), flush=True)
    if given.train:
        print("\n| variant | collection | lists | gain | 95% | p |\n|---|---|--:|--:|--:|--:|")
        for name in given.variants.split(";"):
            for folder in given.collections:
                print(f"| {name} | {folder.name} | {trained(VARIANTS[name], folder, given, store)} |", flush=True)
    return 0


def trained(variant: Variant, folder: Path, given: Namespace, store: Store) -> str:
    """Lists, and gain in nDCG@10 points on test queries with interval and p, of a student that learns from them."""
    with asked(variant, folder, given) as namespace:
        row = quality.measure(folder, written.SEED, namespace, store)
    if "refused" in row:
        return f"{row['refused']} | | |"
    low, high = row["ci95"]
    return f"{row['lists']} | {100 * row['delta']:+.1f} | {100 * low:+.1f} .. {100 * high:+.1f} | {row['p']:.2f}"


def llm_settings(variant: Variant, folder: Path) -> dict[str, Any]:
    """What a variant sets of `generate.llm`: three examples unless it says otherwise."""
    own = own_styles(folder) if variant.own_examples else {}
    return {
        "examples": 3,
        **variant.layout,
        **({"define": {name: style.model_dump() for name, style in own.items()}} if own else {}),
    }


@contextmanager
def asked(variant: Variant, folder: Path, given: Namespace) -> Generator[Namespace]:
    """The benchmark's arguments with a variant's settings."""
    wanted = [f"generate.llm.{key}={json.dumps(value)}" for key, value in llm_settings(variant, folder).items()]
    with scratch_folder() as scratch:
        model = with_system_turn(given.model, scratch) if variant.system_turn else given.model
        namespace = Namespace(**{**vars(given), "model": model})
        namespace.set = [*written.asked(namespace), *wanted, *given.set]
        yield namespace


def measured(variant: Variant, folder: Path, given: Namespace, store: Store) -> Counter[str]:
    """Counts of one variant on one collection."""
    with asked(variant, folder, given) as namespace:
        found = written.written(folder, namespace, store)
    llm = LanguageModel(**llm_settings(variant, folder))
    pairs = [pair for row in found.kept for pair in pairwise(row["text"].lower().split())]
    counts = {"verbatim": written.verbatim(found.drafts, llm.known_styles.values()), "pairs": len(pairs)}
    counts["distinct pairs"] = len(set(pairs))
    counts["copied"] = sum(row["reason"] == "copies a long span" for row in found.dropped)
    counts["prefilled"] = round(paid(folder, llm, given.model) * found.total["drafts"])
    return found.total + Counter(counts)


def line(name: str, collection: str, row: Counter[str]) -> str:
    kept = f"{row['kept']} ({written.share(row['kept'], row['drafts'])})"
    parts = [("verbatim", "drafts"), ("copied", "drafts"), ("fits", "kept"), ("back at 1", "asked back")]
    shares = [written.share(row[part], row[whole]) for part, whole in [*parts, ("distinct pairs", "pairs")]]
    tokens = ", ".join(f"{row[key] / max(1, row['kept']):.0f}" for key in ("prefilled", "new_tokens"))
    return f"| {name} | {collection} | {row['drafts']} | {kept} | {' | '.join(shares)} | {tokens} |"


def paid(folder: Path, llm: LanguageModel, model: Path) -> float:
    """Tokens prefilled for a query where what prompts share is computed once, of 1,000 documents."""
    encode = prompt_layout.encoder(str(model))
    docs = list(prompt_layout.corpus(Namespace(corpus=folder / "corpus.jsonl", docs=1_000)))
    prompts = [encode(text) for text in prompt_layout.texts(llm, docs)]
    return prefilled(prompts) / len(prompts)


def own_styles(folder: Path) -> dict[str, Style]:
    """Styles whose examples are the collection's own: its dev (or train) queries as questions or claims, its titles."""
    split = next(name for name in ("dev", "train") if (folder / f"qrels/{name}.tsv").exists())
    judged = {row.split("\t")[0] for row in (folder / f"qrels/{split}.tsv").read_text().splitlines()[1:]}
    queries = [row["text"] for row in rows_of(folder / "queries.jsonl") if str(row["_id"]) in judged]
    asks = [text for text in queries if written.ASKS.match(text)]
    titles = {row.get("title", "") for row in rows_of(folder / "corpus.jsonl")}
    several = {text for text in titles if len(text.split()) > 3}
    own = {"question": asks, "claim": sorted(set(queries) - set(asks)), "title": sorted(several)}
    drawn = {name: Random(written.SEED).sample(pool, OWN) for name, pool in own.items() if len(pool) > 3 * OWN}
    return {name: STYLES[name].model_copy(update={"examples": tuple(pool)}) for name, pool in drawn.items()}


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as lines:
        yield from map(json.loads, lines)


def with_system_turn(model: Path, scratch: Path) -> Path:
    """The model's folder with a chat template that takes what stands before SYSTEM_ENDS as the system's turn."""
    folder = scratch / model.name
    shutil.copytree(model, folder, copy_function=lambda source, target: Path(target).symlink_to(Path(source).resolve()))
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    parted = "{%- set parts = messages[0]['content'].split(" + json.dumps(SYSTEM_ENDS) + ") %}"
    turns = "[{'role': 'system', 'content': parts[0]}, {'role': 'user', 'content': parts[-1]}]"
    (folder / "chat_template.jinja").write_text(f"{parted}\n{{%- set messages = {turns} %}}\n{template}")
    return folder


if __name__ == "__main__":
    sys.exit(main())
