"""What students make of queries of different sources, at the same number of training lists.

    python benchmarks/sources.py COLLECTION... --model FOLDER [--model FOLDER] [--docs 150] [--lists 100]
        [--seeds 17,18,19] [--store DIR] [--set teacher.encoders=...]

Queries are cut from documents, written by each language model about equally many documents, or those of people (the
dev queries as a log: texts alone). All else is the preset's. A seed draws the lists that are trained on and their
order; answers of a model that the store has cost nothing. Test queries are only ever used to report.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quality import measure, options

from hone.storage.addresses import open_store

MAIN_SEED = 17
STYLES = ("question", "claim", "title", "keywords", "web search", "free search")
SHARE = 0.34
"""Each style is asked of about every third document."""


def main() -> int:
    parser = options(__doc__, seeds="17,18,19", store="build/sources")
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--source", default="transformers")
    parser.add_argument("--docs", type=int, default=150)
    parser.add_argument("--lists", type=int, default=100, help="training lists of every source")
    given = parser.parse_args()
    store = open_store(given.store)
    rows: list[dict[str, Any]] = []
    for collection in given.collections:
        for source, chosen, log in sources(given):
            for seed in given.seeds.split(","):
                drawn = [f"distill.seed={seed}", f"distill.max_lists={given.lists}"]
                asked = argparse.Namespace(**{**vars(given), "set": [*chosen, *drawn, *given.set], "log": log})
                rows.append({"source": source, **measure(collection, MAIN_SEED, asked, store), "seed": int(seed)})
                print(json.dumps(rows[-1]), flush=True)
    print("\n".join(table(rows)))
    return 0


def sources(given: argparse.Namespace) -> Iterator[tuple[str, list[str], bool]]:
    """Name, settings and whether the queries are a log."""
    docs = f"generate.max_docs={given.docs}"
    yield "extracts", [docs], False
    styles = json.dumps(dict.fromkeys(STYLES, SHARE))
    for model in given.model:
        asked = [f"generate.sources=[{given.source}]", f"generate.llm.model={model.resolve()}"]
        yield model.name, [*asked, docs, f"generate.llm.styles={styles}", "generate.clean.most_dropped=1"], False
    yield "a log", ["generate.sources=[log]"], True


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Markdown: gains in points, of each seed and their mean."""
    yield "| collection | source | lists there were | gain, by seed | mean | p | fused with BM25 | Recall@100 |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for collection, source in dict.fromkeys((row["collection"], row["source"]) for row in rows):
        yield told(collection, source, [r for r in rows if (r["collection"], r["source"]) == (collection, source)])


def told(collection: str, source: str, found: list[Mapping[str, Any]]) -> str:
    if refused := next((row["refused"] for row in found if "refused" in row), ""):
        return f"| {collection} | {source} | refused: {refused} | | | | | |"
    gains = [100 * row["delta"] for row in found]
    fused = [100 * (row["systems"]["tuned+bm25"] - row["systems"]["base+bm25"]) for row in found]
    recall = [statistics.mean(row["recall"][at] for row in found) for at in (0, 1)]
    chance = [row["p"] for row in found]
    cells = (
        f"{found[0]['lists']:,}", ", ".join(f"{gain:+.1f}" for gain in gains), f"**{statistics.mean(gains):+.1f}**",
        f"{min(chance):.3f} .. {max(chance):.3f}", f"{statistics.mean(fused):+.1f}",
        f"{recall[0]:.3f} → {recall[1]:.3f}",
    )  # fmt: skip
    return f"| {collection} | {source} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
