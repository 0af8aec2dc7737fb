"""Queries that people asked as a source of drafts: from a log, and with known documents."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hone.context import Job
from hone.core.rejection import Rejection
from hone.errors import UserError
from hone.inputs import readers
from hone.stages.generate.cleaning import Draft
from hone.stages.generate.query_log import QueryLog
from hone.stages.generate.settings import Config, Human
from hone.tables import PEOPLE

PLAIN = (".txt", ".log", "")
"""Suffixes of files with a query a line."""
REMEMBERED = 20_000
"""So many of the latest different queries of a log are at hand when one of them comes again."""


class People:
    """Queries that people asked: from a log, and with known documents."""

    def __init__(self, config: Config, job: Job) -> None:
        self.config, self.job = config, job
        self.sources = [source for source in PEOPLE if source in config.sources]
        if "log" in self.sources:
            asked = self._logged()
            self.log = QueryLog.read(asked, config.log)
            counts = {"rows": self.log.rows, "distinct": len(self.log.keys), "without text": asked.empty}
            job.facts["log"] = {**counts, "read": asked.facts} if not job.shard.index else {}

    def counts(self) -> dict[str, float]:
        """How many drafts each of these sources has."""
        counts = {"log": lambda: float(len(self.log.keys)), "human": lambda: float(sum(1 for _ in self._known()))}
        return {source: counts[source]() for source in self.sources}

    def drafts(self) -> Iterator[Draft]:
        """All of them; those that their source leaves out carry the reason."""
        if "log" in self.sources:
            draft = lru_cache(REMEMBERED)(self._of_log)
            yield from (draft(text) for _, text, _ in self._logged())
        if "human" in self.sources:
            held_out = self._held_out()
            for text, doc_id in self._known():
                reason = "unknown document" if doc_id not in held_out else "held-out document"
                fault = Rejection(reason, f"{doc_id}: {text}") if held_out.get(doc_id, True) else None
                yield Draft("human", "human", doc_id, " ".join(text.split()), fault=fault)

    def _of_log(self, text: str) -> Draft:
        fault = self.log.fault(text, self.config.log.min_count, self.config.log.holdout)
        return Draft("log", "log", "", " ".join(text.split()), fault=fault)

    def _logged(self) -> "Asked":
        return Asked(self.job.source(self.config.query_log), self.config.query_field, self.config.log.time_field)

    def _known(self) -> Iterator[tuple[str, str]]:
        return known(self.job.source(self.config.human.file), self.config.human)

    def _held_out(self) -> dict[str, bool]:
        """Of the documents that human queries name, whether they are held out."""
        wanted = {doc_id for _, doc_id in self._known()}
        batches = self.job.table("docs").batches(["doc_id", "held_out"])
        pairs = (pair for batch in batches for pair in zip(*(c.to_pylist() for c in batch.columns), strict=True))
        return {doc_id: held_out for doc_id, held_out in pairs if doc_id in wanted}


def known(path: Path, human: Human) -> Iterator[tuple[str, str]]:
    """(query, doc_id) of queries whose document is known. Raises UserError naming file and line."""
    asked = Asked(path, human.text_field, human.doc_field, "generate.human")
    return ((text, readers.id_of(doc_id, where)) for where, text, doc_id in asked)


class Asked:
    """The queries in a file, one after another: where each stands, its text, and what its field `also` holds.

    Queries without text are passed over and counted in `empty`. Raises UserError naming file and line.
    """

    def __init__(self, path: Path, field: str, also: str = "", setting: str = "generate") -> None:
        self.file, self.field, self.also, self.setting = readers.one_file(path), field, also, setting
        self.empty = 0
        self.plain = not also and self.file.suffix in PLAIN
        if not self.plain and not isinstance(readers.opener(self.file.suffix), readers.Tables):
            tables = (row.suffixes for row in readers.FORMATS.values() if isinstance(row, readers.Tables))
            kinds = ", ".join((*(() if also else (".txt",)), *(suffix for some in tables for suffix in some)))
            raise UserError(f"the queries in {self.file} are in none of {kinds}; save them as one of these")

    @property
    def facts(self) -> dict[str, str]:
        """How the file is read."""
        return {"lines": "a query a line"} if self.plain else self._table().facts

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        self.empty = 0
        for where, text, other in self._plain() if self.plain else self._rows():
            if text.strip():
                yield where, text, other
            else:
                self.empty += 1

    def _plain(self) -> Iterator[tuple[str, str, Any]]:
        name = str(self.file)
        return ((f"{name}, line {number}", line, None) for number, line in readers.file_lines(self.file))

    def _rows(self) -> Iterator[tuple[str, str, Any]]:
        table, seen = self._table(), set[str]()
        wanted = [name for name in (self.field, self.also) if name]
        where, row = str(self.file), dict[str, Any]()
        self._refuse(where, table.columns, [name for name in wanted if table.columns and name not in table.columns])
        for where, row in table.rows:
            seen.update(name for name in wanted if name not in seen and readers.has(row, name))
            text = readers.text_of(readers.pick(row, self.field), where, self.field)
            yield where, text, readers.pick(row, self.also) if self.also else None
        self._refuse(where, tuple(row), [name for name in wanted if row and name not in seen])

    def _refuse(self, where: str, names: Iterable[str], missing: Sequence[str]) -> None:
        if missing:
            have = ", ".join(names)
            raise UserError(f"{where}: no field {missing[0]!r} (it has {have}); set the fields in {self.setting}")

    def _table(self) -> readers.Table:
        return readers.open_table(self.file, readers.Fields("", self.also, self.field))
