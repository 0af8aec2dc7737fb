"""What pandas, polars, DuckDB, pyarrow and fastparquet write comes back with the same ids, titles and texts."""

import csv
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hone.core.text import flat
from hone.inputs import readers

Doc = tuple[str, str, str]
Write = Callable[[Sequence[Doc], Path], None]
NAMES = ("id", "title", "text")
NULL = "\\N"
"""What databases write for no value, and what a reader takes for it."""

letters = st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters="\ufeff")
words = st.text(letters | st.sampled_from(list(" ,;\t\"'|\\\n")), max_size=30).filter(lambda text: text.strip() != NULL)
ids = st.text(letters, min_size=1, max_size=12).filter(lambda text: text == text.strip())
docs = st.lists(st.tuples(ids, words, words), min_size=1, max_size=8, unique_by=lambda doc: doc[0])


def columns(rows: Sequence[Doc]) -> dict[str, list[str]]:
    return {name: [row[at] for row in rows] for at, name in enumerate(NAMES)}


def by_duckdb(form: str) -> Write:
    def write(rows: Sequence[Doc], path: Path) -> None:
        with duckdb.connect() as base:
            base.execute("create table docs (id varchar, title varchar, text varchar)")
            base.executemany("insert into docs values (?, ?, ?)", rows)
            base.execute(f"copy (select * from docs) to '{path}' ({form})")

    return write


def by_pyarrow(**options: object) -> Write:
    return lambda rows, path: pq.write_table(pa.table(columns(rows)), path, **options)  # type: ignore[arg-type]


def by_fastparquet(rows: Sequence[Doc], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pd.DataFrame(columns(rows)).to_parquet(path, engine="fastparquet", index=False)


def frame(rows: Sequence[Doc]) -> "pd.DataFrame":
    return pd.DataFrame(columns(rows))


PLAIN = {"use_dictionary": False, "data_page_version": "2.0"}
DELTA = {"id": "DELTA_LENGTH_BYTE_ARRAY", "title": "DELTA_BYTE_ARRAY", "text": "DELTA_BYTE_ARRAY"}
TABLES: dict[str, tuple[str, Write]] = {
    "pandas csv": ("c.csv", lambda rows, path: frame(rows).to_csv(path, index=False)),
    "pandas csv, all quoted": (
        "c.csv",
        lambda rows, path: frame(rows).to_csv(path, index=False, quoting=csv.QUOTE_ALL),
    ),
    "pandas csv, single quotes": (
        "c.csv",
        lambda rows, path: frame(rows).to_csv(path, index=False, quotechar="'", quoting=csv.QUOTE_NONNUMERIC),
    ),
    "pandas csv, UTF-16": ("c.csv", lambda rows, path: frame(rows).to_csv(path, index=False, encoding="utf-16")),
    "pandas tsv, gzip": ("c.tsv.gz", lambda rows, path: frame(rows).to_csv(path, index=False, sep="\t")),
    "pandas csv, semicolons, zstd": ("c.csv.zst", lambda rows, path: frame(rows).to_csv(path, index=False, sep=";")),
    "polars csv": ("c.csv", lambda rows, path: pl.DataFrame(columns(rows)).write_csv(path)),
    "polars tsv": ("c.tsv", lambda rows, path: pl.DataFrame(columns(rows)).write_csv(path, separator="\t")),
    "duckdb csv": ("c.csv", by_duckdb("format csv, header")),
    "duckdb bars": ("c.psv", by_duckdb("format csv, header, delimiter '|', force_quote *")),
    "pyarrow csv": ("c.csv", lambda rows, path: pyarrow.csv.write_csv(pa.table(columns(rows)), path)),
}
EXACT: dict[str, tuple[str, Write]] = {
    "pandas lines": ("c.jsonl", lambda rows, path: frame(rows).to_json(path, orient="records", lines=True)),
    "pandas records": ("c.json", lambda rows, path: frame(rows).to_json(path, orient="records", indent=2)),
    "pandas columns": ("c.json", lambda rows, path: frame(rows).to_json(path)),
    "pandas index": ("c.json", lambda rows, path: frame(rows).to_json(path, orient="index")),
    "pandas split": ("c.json", lambda rows, path: frame(rows).to_json(path, orient="split")),
    "polars lines": ("c.ndjson", lambda rows, path: pl.DataFrame(columns(rows)).write_ndjson(path)),
    "duckdb lines, gzip": ("c.jsonl.gz", by_duckdb("format json, compression gzip")),
    "duckdb array": ("c.json", by_duckdb("format json, array true")),
    "pandas parquet": ("c.parquet", lambda rows, path: frame(rows).to_parquet(path)),
    "pandas category": ("c.parquet", lambda rows, path: frame(rows).astype({"title": "category"}).to_parquet(path)),
    "fastparquet": ("c.parquet", by_fastparquet),
    "polars parquet": ("c.parquet", lambda rows, path: pl.DataFrame(columns(rows)).write_parquet(path)),
    "polars lz4": ("c.parquet", lambda rows, path: pl.DataFrame(columns(rows)).write_parquet(path, compression="lz4")),
    "duckdb parquet": ("c.parquet", by_duckdb("format parquet")),
    "duckdb parquet v2": ("c.parquet", by_duckdb("format parquet, parquet_version v2, compression zstd")),
    "duckdb brotli": ("c.parquet", by_duckdb("format parquet, compression brotli")),
    "pyarrow delta": ("c.parquet", by_pyarrow(column_encoding=DELTA, **PLAIN)),
    "pyarrow small groups": ("c.parquet", by_pyarrow(row_group_size=2, compression="gzip")),
    "pyarrow views": (
        "c.parquet",
        lambda rows, path: pq.write_table(
            pa.table({name: pa.array(values, pa.string_view()) for name, values in columns(rows).items()}), path
        ),
    ),
    "polars arrow": ("c.arrow", lambda rows, path: pl.DataFrame(columns(rows)).write_ipc(path, compression="zstd")),
    "pandas feather": ("c.feather", lambda rows, path: frame(rows).to_feather(path)),
}  # fmt: skip


def read_back(rows: Sequence[Doc], name: str, write: Write) -> list[Doc]:
    """The documents of a corpus that a writer wrote."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(rows, path)
        found = readers.layout(path)
        fields = readers.Fields(*NAMES)
        return [readers.document(where, row, fields) for where, row in readers.Corpus(found, fields).documents()]


@pytest.mark.parametrize("name", EXACT)
@settings(deadline=None, max_examples=15, derandomize=True)
@given(rows=docs)
def test_whatever_text_is_written_comes_back(name: str, rows: list[Doc]) -> None:
    assert read_back(rows, *EXACT[name]) == rows


@pytest.mark.parametrize("name", TABLES)
@settings(deadline=None, max_examples=25, derandomize=True)
@given(rows=docs)
def test_tables_of_text_come_back_but_for_their_spaces(name: str, rows: list[Doc]) -> None:
    wanted = [tuple(map(flat, row)) for row in rows]
    assert [tuple(map(flat, row)) for row in read_back(rows, *TABLES[name])] == wanted
