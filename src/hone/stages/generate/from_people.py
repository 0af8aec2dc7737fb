"""Queries that people asked as a source of drafts: from a log, and with known documents."""

from collections.abc import Iterator
from pathlib import Path

from hone.context import Job
from hone.core.rejection import Rejection
from hone.errors import UserError
from hone.inputs import readers
from hone.stages.generate.cleaning import Draft
from hone.stages.generate.query_log import QueryLog
from hone.stages.generate.settings import Config
from hone.tables import PEOPLE


class People:
    """Queries that people asked: from a log, and with known documents."""

    def __init__(self, config: Config, job: Job) -> None:
        self.config, self.job = config, job
        self.sources = [source for source in PEOPLE if source in config.sources]
        if "log" in self.sources:
            self.log = QueryLog.read(self._logged())
            job.facts["log"] = {"rows": self.log.rows, "distinct": len(self.log.keys)} if not job.shard.index else {}

    def counts(self) -> dict[str, float]:
        """How many drafts each of these sources has."""
        counts = {"log": lambda: float(len(self.log.keys)), "human": lambda: float(sum(1 for _ in self._known()))}
        return {source: counts[source]() for source in self.sources}

    def drafts(self) -> Iterator[Draft]:
        """All of them; those that their source leaves out carry the reason."""
        if "log" in self.sources:
            for text, _ in self._logged():
                flat = " ".join(text.split())
                fault = self.log.fault(text, self.config.log.min_count, self.config.log.holdout)
                yield Draft("log", "log", "", flat, fault=fault)
        if "human" in self.sources:
            held_out = self._held_out()
            for text, doc_id in self._known():
                reason = "unknown document" if doc_id not in held_out else "held-out document"
                fault = Rejection(reason, f"{doc_id}: {text}") if held_out.get(doc_id, True) else None
                yield Draft("human", "human", doc_id, " ".join(text.split()), fault=fault)

    def _logged(self) -> Iterator[tuple[str, str]]:
        path = self.job.source(self.config.query_log)
        return read_log(path, self.config.query_field, self.config.log.time_field)

    def _known(self) -> Iterator[tuple[str, str]]:
        human = self.config.human
        return read_log(self.job.source(human.file), human.text_field, human.doc_field, "generate.human")

    def _held_out(self) -> dict[str, bool]:
        """Of the documents that human queries name, whether they are held out."""
        wanted = {doc_id for _, doc_id in self._known()}
        batches = self.job.table("docs").batches(["doc_id", "held_out"])
        pairs = (pair for batch in batches for pair in zip(*(c.to_pylist() for c in batch.columns), strict=True))
        return {doc_id: held_out for doc_id, held_out in pairs if doc_id in wanted}


def read_log(path: Path, field: str, also: str = "", setting: str = "generate") -> Iterator[tuple[str, str]]:
    """(query, field `also`) of a file, in order; empty queries are skipped. Raises UserError naming file and line."""
    if path.suffix == ".txt" and not also:
        yield from ((line, "") for _, line in readers.lines(path) if line.strip())
        return
    if path.suffix not in readers.TABLE_SUFFIXES:
        kinds = ", ".join(readers.TABLE_SUFFIXES)
        raise UserError(f"the queries in {path} are none of {'' if also else '.txt, '}{kinds}; save them as one")
    for where, row in readers.rows(path):
        text, other = row.get(field), row.get(also) if also else ""
        if not isinstance(text, str) or other is None:
            missing = field if not isinstance(text, str) else also
            raise UserError(f"{where}: no text in the field {missing!r}; set the fields in {setting}")
        if text.strip():
            yield text, str(other)
