"""`hone diff-corpus`: whether a corpus has changed enough since a run to train again."""

import json
from typing import Annotated

import typer

from hone import settings as settings_file
from hone.commands.options import DEFAULT_STORE, Settings, StoreOption, verbs
from hone.engine.corpus_diff import compare
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def diff_corpus(
    settings: Settings,
    store: StoreOption = DEFAULT_STORE,
    against: Annotated[str, typer.Option("--against", metavar="RUN", help="The run; default the settings' own.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts and `retrain` as JSON.")] = False,
) -> None:
    """Count the documents that are new, changed or gone since a run, and say whether to train again."""
    checked = settings_file.load(settings)
    diff = compare(checked, open_store(store), against or checked.name)
    print(json.dumps(diff.facts(), indent=1) if as_json else diff.sentence())
