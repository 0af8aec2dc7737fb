"""`hone diff-corpus`: what is new, changed or gone in a corpus since a run, and what another run would pay."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hone import tables
from hone.backends.encoders.families import doc_text
from hone.engine import record
from hone.engine.forecast import corpus_texts
from hone.inputs.references import local_path
from hone.results.manifest import Manifest
from hone.results.table_io import TableReader
from hone.scratch import scratch_folder
from hone.settings import RunSettings
from hone.stages import prepare
from hone.storage.base import Store

BY_TEXT = ("generate", "mine", "score")
"""Stages that pay for new and changed texts alone: what they made of all others is in the content cache."""
WHOLE = ("distill", "evaluate")
"""Stages that are paid for whole whenever anything changed."""


@dataclass(frozen=True)
class Changes:
    """A corpus now against the corpus that a run read."""

    run: str
    """The run; empty if there was none, and everything is new."""
    same: int
    new: int
    changed: int
    gone: int
    min_changed: float
    """The share of changed documents from which the settings want a retraining."""
    seconds: float
    """What the run's stages took, for the share of it that another run would pay."""

    @property
    def share(self) -> float:
        """New, changed and gone documents, as a share of what the run read or, without one, of all."""
        return (self.new + self.changed + self.gone) / max(1, self.same + self.changed + self.gone or self.new)

    @property
    def retrain(self) -> bool:
        """Whether the policy wants a retraining."""
        return self.share > 0 and self.share >= self.min_changed

    def facts(self) -> dict[str, Any]:
        """For a program."""
        counts = {key: getattr(self, key) for key in ("run", "new", "changed", "gone", "same", "min_changed")}
        return {**counts, "share": round(self.share, 6), "seconds": round(self.seconds, 1), "retrain": self.retrain}

    def sentence(self) -> str:
        """For a person."""
        since = f"since the run {self.run}" if self.run else "and no run before"
        counts = f"{self.new:,} new, {self.changed:,} changed, {self.gone:,} gone, {self.same:,} the same {since}"
        least = f"retrain.min_changed is {self.min_changed:.2%}"
        verdict = "retrain" if self.retrain else "nothing to retrain"
        paid = f"; a run would pay about {self.seconds:,.0f} s of what the last one did" if self.run else ""
        return f"{counts}: {self.share:.2%} of the documents; {least}: {verdict}{paid}"


def compare(settings: RunSettings, store: Store, run: str) -> Changes:
    """The corpus of the settings against the one that `run` read last. Reads the corpus, writes nothing. Raises
    UserError."""
    config = cast(prepare.Config, settings.stages["prepare"])
    before = record.results_if_any(store, run)
    done = before.get("prepare")
    with scratch_folder() as scratch:
        known = dict(_known(store, done, scratch)) if done else {}
        new = changed = same = 0
        for doc_id, text in corpus_texts(config, local_path(config.corpus, scratch)):
            if doc_id not in known:
                new += 1
                continue
            digest = known.pop(doc_id)
            alike = digest in (b"", _digest(text))
            same, changed = same + alike, changed + (not alike)
    touched = new + changed
    share = touched / max(1, touched + same)
    seconds = {name: manifest.seconds for name, manifest in before.items()}
    paid = sum(seconds.get(name, 0.0) * share for name in BY_TEXT) + sum(seconds.get(name, 0.0) for name in WHOLE)
    anything = touched or known
    return Changes(
        run if done else "",
        same,
        new,
        changed,
        len(known),
        settings.retrain.min_changed,
        paid if anything else 0.0,
    )


def _known(store: Store, done: Manifest, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Documents that the run read, with a digest of their text; of one that it dropped only the id is known."""
    for batch in _reader(store, done, tables.DROPPED_BY_PREPARE, scratch).batches(["id"]):
        yield from ((doc_id, b"") for doc_id in batch.column("id").to_pylist())
    for batch in _reader(store, done, tables.DOCS, scratch).batches(["doc_id", "title", "text"]):
        for row in batch.to_pylist():
            yield row["doc_id"], _digest(doc_text(row["title"], row["text"]))


def _reader(store: Store, done: Manifest, table: tables.Table, scratch: Path) -> TableReader:
    return TableReader(table, done.outputs[table.name], done.prefix, store, scratch)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
