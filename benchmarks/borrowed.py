"""How many human queries would fall as "not about the document", though they are about it.

    python benchmarks/borrowed.py COLLECTION...

A collection is a folder in BEIR's layout: corpus.jsonl, queries.jsonl and qrels/*.tsv. Every query is judged with each
of its relevant documents as if a language model had written it with the default prompt, the sets of examples by turns.
"""

import argparse
import json
from itertools import cycle
from pathlib import Path

from hone.backends.encoders.families import doc_text
from hone.core.borrowed import borrowed
from hone.stages.generate.from_model import shown_by
from hone.stages.generate.language_model import LanguageModel
from hone.stages.generate.requests import Prompts

SHOWN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", type=Path)
    prompts = Prompts(LanguageModel(), 17)
    sets = {shown_by(next(prompts.requests(str(number), ""))[1]) for number in range(200)}
    for folder in parser.parse_args().collections:
        docs = {row["_id"]: doc_text(row.get("title", ""), row["text"]) for row in rows(folder / "corpus.jsonl")}
        texts = {row["_id"]: row["text"] for row in rows(folder / "queries.jsonl")}
        pairs = [pair for file in sorted((folder / "qrels").glob("*.tsv")) for pair in judged(file) if pair[1] in docs]
        order = cycle(sorted(sets, key=lambda seen: seen.examples))
        found = [
            (texts[query], why)
            for (query, doc), seen in zip(pairs, order, strict=False)
            if (why := borrowed(texts[query], docs[doc], seen))
        ]
        print(f"{folder.name}: {len(found)} of {len(pairs)}, {len(found) / max(1, len(pairs)):.2%}")
        for query, why in found[:SHOWN]:
            print(f"    {query!r}: {why}")


def rows(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def judged(file: Path) -> list[tuple[str, str]]:
    """Query and document of every pair that is judged relevant."""
    parts = [line.split("\t") for line in file.read_text("utf-8").splitlines()[1:]]
    return [(query, doc) for query, doc, relevance in parts if int(relevance) > 0]


if __name__ == "__main__":
    main()
