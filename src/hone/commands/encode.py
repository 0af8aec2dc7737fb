"""`hone encode`: the vectors of a run's corpus by its tuned model, for a vector database."""

from typing import Annotated

import typer

from hone import backends
from hone.commands.options import DEFAULT_STORE, RunName, StoreOption, verbs
from hone.commands.output import console, where
from hone.scratch import scratch_folder
from hone.serving.vectors import write_vectors
from hone.storage.addresses import open_store

app = verbs()


@app.command()
def encode(
    run_name: RunName,
    out: Annotated[str, typer.Option("--out", help="Where they go: a folder or s3://bucket/prefix.")],
    only_new: Annotated[
        bool, typer.Option("--only-new", help="Add vectors of new and changed documents to those there.")
    ] = False,
    faiss: Annotated[
        bool, typer.Option("--faiss", help="Write a FAISS index over all documents too: index.faiss, index-ids.json.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write the corpus's vectors by the tuned model as Parquet: doc_id, text_hash, model, vector."""
    backends.require("torch")
    if faiss:
        backends.require("faiss")
    place = open_store(out)
    with scratch_folder() as scratch:
        made = write_vectors(open_store(store), run_name, place, scratch, only_new=only_new, faiss=faiss)
    console.print(f"{made.rows:,} vectors of {made.dimension} written to {where(place)}", soft_wrap=True)
    if made.known:
        console.print(f"{made.known:,} were there; {len(made.gone):,} are of documents that are gone (vectors.json)")
