"""What a real language model writes, and what the cleaning and the round trip leave of it.

    python benchmarks/written.py COLLECTION... --model FOLDER [--source transformers] [--docs 150] [--shown 10]
        [--store DIR] [--set generate.llm.layout=guide]

The product's own prepare, generate and mine with a preset's settings; only the source of queries is the language model.
Answers are kept in the store, so another run with the same model costs nothing, also after a change of the cleaning.
Prints Markdown: one row for each collection, one for each style, the reasons, and queries drawn at random as they are.
"""

import re
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

import quality

from hone import settings, tables
from hone.core.borrowed import COMMON
from hone.core.query_text import comparable
from hone.engine import runner
from hone.results.manifest import Manifest
from hone.results.table_io import TableReader
from hone.scratch import scratch_folder
from hone.stages.generate.styles import STYLES, Style
from hone.stages.mine import NOT_RETRIEVED
from hone.storage.addresses import open_store
from hone.storage.base import Store
from hone.tables import Table

SEED = 17
ASKS = re.compile(
    r"^(?:what|why|how|who|whose|which|when|where|is|are|was|were|does|do|did|can|could|should|will)\b", re.I
)
SHOWS_STYLE: dict[str, Callable[[str], bool]] = {
    "question": lambda text: text.endswith("?") or bool(ASKS.match(text)),
    "claim": lambda text: not ASKS.match(text) and bool(COMMON.intersection(text.lower().split())),
    "title": lambda text: sum(word[0].isupper() for word in text.split()) * 2 > len(text.split()),
    "keywords": lambda text: not ASKS.match(text) and len(COMMON.intersection(text.lower().split())) < 2,
    "web search": lambda text: text[0].islower() or text[0].isdigit() or bool(ASKS.match(text)),
    "free search": lambda text: True,
}
"""Whether a query looks like its style: a rough sign, found without a model."""


def main() -> int:
    parser = quality.options(__doc__, seeds=str(SEED), store="build/written")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", default="transformers")
    parser.add_argument("--docs", type=int, default=150)
    parser.add_argument("--shown", type=int, default=10)
    given = parser.parse_args()
    given.log, store = False, open_store(given.store)
    given.set = [*asked(given), *given.set]
    for folder in given.collections:
        print(f"\n### {given.model.name}, {folder.name}\n", flush=True)
        for line in told(folder, given, store):
            print(line, flush=True)
    return 0


def asked(given: Namespace) -> list[str]:
    """The settings that make a language model the only source."""
    source = [f"generate.sources=[{given.source}]", f"generate.llm.model={given.model.resolve()}"]
    return [*source, f"generate.max_docs={given.docs}", "generate.clean.most_dropped=1"]


@dataclass(frozen=True)
class Written:
    """What a model wrote about a collection: queries kept and dropped, and the counts of each style."""

    kept: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    texts: dict[str, list[str]]
    counts: dict[str, Counter[str]]
    limit: int

    @property
    def total(self) -> Counter[str]:
        return sum(self.counts.values(), Counter[str]())

    @property
    def drafts(self) -> list[str]:
        """What was answered, before the cleaning."""
        return [*(row["text"] for row in self.kept), *(row["detail"] for row in self.dropped)]


def written(folder: Path, given: Namespace, store: Store) -> Written:
    """The queries about one collection, asked back at the preset's rank and at 1."""
    made, lost = ran(folder, given, store), ran(folder, given, store, "mine.consistency_rank=1")["mine"]
    kept, dropped = read(made["generate"], store)
    texts: dict[str, list[str]] = {style: [] for style in made["generate"].facts["answers"][given.source]}
    for row in kept:
        texts[row["style"]].append(row["text"])
    counts = {style: counted(style, of_style, given.source, made, lost) for style, of_style in texts.items()}
    return Written(kept, dropped, texts, counts, made["mine"].config["consistency_rank"])


def told(folder: Path, given: Namespace, store: Store) -> Iterator[str]:
    """The lines about one collection."""
    found = written(folder, given, store)
    yield f"| style | drafts | kept | in its style | back at 1 | back at {found.limit} | new tokens | seconds |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for style, row in [*found.counts.items(), ("**all**", found.total)]:
        of_kept = [f"{row[key] / max(1, row['kept']):.1f}" for key in ("new_tokens", "seconds")]
        back = [share(row[key], row["asked back"]) for key in ("back at 1", "back")]
        cells = [share(row["fits"], row["kept"]), *back, *of_kept]
        number = f"{row['kept']:,} ({share(row['kept'], row['drafts'])})"
        yield f"| {style} | {row['drafts']:,} | {number} | {' | '.join(cells)} |"
    reasons = Counter(row["reason"] for row in found.dropped)
    yield "\nDropped: " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) + "."
    before, after = verbatim(found.drafts), verbatim([row["text"] for row in found.kept])
    of_drafts = f"{before} of {len(found.drafts):,} drafts ({before / len(found.drafts):.1%})"
    yield f"An example of the prompt word for word: {of_drafts}, {after} of those kept."
    yield f"\n<details><summary>{given.shown} queries of each style, drawn at random</summary>\n"
    for style, texts in found.texts.items():
        yield f"**{style}**\n"
        yield from (f"- `{text}`" for text in Random(SEED).sample(sorted(texts), min(given.shown, len(texts))))
        yield ""
    yield "</details>"


def ran(folder: Path, given: Namespace, store: Store, *more: str) -> dict[str, Manifest]:
    """The finished stages up to mine, with further settings."""
    arguments = Namespace(**{**vars(given), "set": [*given.set, *more]})
    data = quality.run_settings(f"written-{folder.name}", folder, int(given.seeds), arguments)
    return runner.run(settings.check(data, "written", Path.cwd()), store, last="mine")


def counted(
    style: str, texts: list[str], source: str, made: Mapping[str, Manifest], lost_at_1: Manifest
) -> Counter[str]:
    """What is told of a style, from its kept queries and from what the stages note. Near duplicates, which mine leaves
    out before, are not asked back."""
    spent: dict[str, int] = made["generate"].facts["answers"][source][style]
    gone = [one.facts.get("dropped", {}).get(source, {}).get(style, {}) for one in (made["mine"], lost_at_1)]
    counts = [Counter({reason: found["count"] for reason, found in one.items()}) for one in gone]
    asked = len(texts) - counts[0].total() + counts[0][NOT_RETRIEVED]
    figures = {"drafts": spent["answers"], "kept": len(texts), "fits": sum(map(SHOWS_STYLE[style], texts))}
    back = {
        "asked back": asked,
        "back": asked - counts[0][NOT_RETRIEVED],
        "back at 1": asked - counts[1][NOT_RETRIEVED],
    }
    return Counter({**figures, **back, "new_tokens": spent["new_tokens"], "seconds": spent["microseconds"] / 1e6})


def read(made: Manifest, store: Store) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of queries and of dropped_by_generate."""
    with scratch_folder() as scratch:
        readers = [
            TableReader(cast(Table, tables.OUTPUTS[name]), made.outputs[name], made.prefix, store, scratch)
            for name in ("queries", "dropped_by_generate")
        ]
        kept, dropped = (reader.read().to_pylist() for reader in readers)
    return kept, dropped


def verbatim(texts: list[str], styles: Iterable[Style] = STYLES.values()) -> int:
    """How many of the texts have a whole example of these styles in them."""
    examples = [f" {comparable(example)} " for style in styles for example in style.examples]
    return sum(any(example in f" {comparable(text)} " for example in examples) for text in texts)


def share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else ""


if __name__ == "__main__":
    sys.exit(main())
