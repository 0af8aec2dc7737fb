"""A corpus, queries and judgements to try Hone on, with nothing to download.

The corpus is read from the Python that runs this code; the queries and their judgements come with the package.
"""

import json
from importlib import resources
from pathlib import Path

from hone.demo.corpus import standard_library_documents

JUDGED_FILES = ("queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv")


def write_demo(folder: Path) -> int:
    """Write the demo as a BEIR folder and return the number of its documents."""
    documents = standard_library_documents()
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(document, ensure_ascii=False) + "\n" for document in documents)
    data = resources.files("hone.demo") / "data"
    for name in JUDGED_FILES:
        (folder / name).write_bytes((data / name).read_bytes())
    return len(documents)
