"""The tables of a run, as rows to read: all of them, or a few drawn at random, the same ones each time."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hone import tables
from hone.errors import UserError
from hone.report.collect import titles_of
from hone.results.manifest import Manifest
from hone.results.table_io import TableReader
from hone.storage.base import Store
from hone.tables import Table

DROPPED = "dropped"
"""Stands for the tables of what every stage left out, one after the other."""
SEED = 17


def table_names(name: str) -> list[str]:
    """The tables that a name stands for. Raises UserError listing those there are."""
    known = [output.name for output in tables.OUTPUTS.values() if isinstance(output, Table)]
    if name == DROPPED:
        return [table for table in known if table.startswith(f"{DROPPED}_by_")]
    if name not in known:
        raise UserError(f"{name!r} is not a table; the tables are {', '.join([*known, DROPPED])}")
    return [name]


class Tables:
    """The tables of a run as far as it came."""

    def __init__(self, store: Store, done: Mapping[str, Manifest], scratch: Path) -> None:
        self.store, self.scratch = store, scratch
        self.made = {name: manifest for manifest in done.values() for name in manifest.outputs}

    def open(self, name: str) -> TableReader:
        """One table. Raises UserError if the run has not made it yet."""
        if name not in self.made:
            raise UserError(f"this run has no table {name} yet; `hone run` its settings first")
        manifest = self.made[name]
        table = cast(Table, tables.OUTPUTS[name])
        return TableReader(table, manifest.outputs[name], manifest.prefix, self.store, self.scratch)

    def rows(self, name: str, wanted: Mapping[str, str]) -> Iterator[pa.RecordBatch]:
        """Rows of a table, or of all that `dropped` stands for, whose columns hold the wanted values.

        Raises UserError for a column that the table does not have.
        """
        chosen = [one for one in table_names(name) if name != DROPPED or one in self.made]
        for one in chosen:
            table = self.open(one)
            for column in wanted:
                if column not in table.table.schema.names:
                    raise UserError(f"the table {one} has no {column}; it has {', '.join(table.table.schema.names)}")
            for batch in table.batches():
                yield _matching(batch, wanted)

    def sample(self, name: str, wanted: Mapping[str, str], count: int) -> pa.Table:
        """So many of these rows, drawn at random but the same each time, in the order of the table."""
        return drawn(self.rows(name, wanted), count)

    def titles(self, rows: pa.Table) -> dict[str, str]:
        """doc_id to title of the documents that rows name: the one a query was made from, the teacher's first."""
        ids: set[str] = set()
        if "doc_id" in rows.column_names:
            ids |= {*rows["doc_id"].to_pylist()}
        if "doc_ids" in rows.column_names:
            ids |= {doc_ids[0] for doc_ids in rows["doc_ids"].to_pylist() if doc_ids}
        return titles_of(ids - {""}, self.open("docs")) if ids and "docs" in self.made else {}


def drawn(batches: Iterable[pa.RecordBatch], count: int) -> pa.Table:
    """So many rows of all, each as likely as any other, in their order; memory grows with the count alone."""
    random = np.random.default_rng(SEED)
    sample: pa.Table = pa.table({})
    lots = np.zeros(0)
    for batch in batches:
        piece = pa.Table.from_batches([batch])
        sample = pa.concat_tables([sample, piece]) if sample.column_names else piece
        lots = np.concatenate([lots, random.random(len(piece))])
        if len(lots) > count:
            chosen = np.sort(np.argsort(lots, kind="stable")[:count])
            sample, lots = sample.take(pa.array(chosen)), lots[chosen]
    return sample


def _matching(batch: pa.RecordBatch, wanted: Mapping[str, str]) -> pa.RecordBatch:
    for column, value in wanted.items():
        compared: Any = pc.equal(batch.column(column), value)  # pyright: ignore[reportAttributeAccessIssue]
        batch = batch.filter(compared)
    return batch
