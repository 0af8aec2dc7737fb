"""What the tasks of one run on the platform came to, as Hone itself notes it in the store.

The platform's last task learns nothing that can be relied on: its backend calls a run that promotes COMPLETE, one that
holds or rejects RUNNING, and never fills in an error. It shows no exit code either, since its launcher ends with 1
whatever the command ended with. So every task leaves a note under the platform's id of the run.
"""

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hone.engine.garbage import ATTEMPTS
from hone.errors import TransientError, UserError
from hone.results.manifest import Manifest, load_manifest
from hone.secrets import without_secrets
from hone.stages import STAGES
from hone.storage.base import Store
from hone.storage.sealed import SealError, read_sealed, seal

ORDER = ("preflight", *STAGES, "variant", "ablation", "notify")
PLAIN = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")
LONGEST_ERROR = 2_000
DEFECT = 1
WORDS = {"promote": "promoted", "hold": "held", "reject": "rejected"}
EXIT_CODES = {"promoted": 0, "published": 0, "measured": 0, "rejected": 3, "held": 4}


@dataclass
class Note:
    """What one task came to: `running` for one that was stopped before it could say more."""

    task: str
    share: str = ""
    state: str = "running"
    prefix: str = ""
    error: str = ""
    code: int = 0

    @property
    def name(self) -> str:
        return f"{self.task} {self.share}".strip()


@dataclass(frozen=True)
class Outcome:
    """How a run ended: published, promoted, held, rejected, measured (an ablation), failed, stopped or unknown; with
    the exit code for it."""

    word: str
    error: str
    code: int
    done: dict[str, Manifest]

    def fact(self, key: str) -> Any:
        """A fact of the stage that found it out, such as finding or verdict; nothing if none did."""
        return next((manifest.facts[key] for manifest in self.done.values() if key in manifest.facts), None)


def of(settings: str) -> str:
    """The folder of the notes about one settings file of a run, which may have several."""
    return hashlib.sha256(settings.encode()).hexdigest()[:12]


@contextmanager
def noting(store: Store, attempt: str, task: str, share: str, about: str = "") -> Generator[Note]:
    """Keeps a note of a task while it runs and of how it ended; none where the platform gave no id. `about` is the
    settings parameter of the task."""
    note = Note(task, share)
    if not PLAIN.fullmatch(attempt):
        yield note
        return
    folder = f"{ATTEMPTS}/{attempt}/{of(about)}" if about else f"{ATTEMPTS}/{attempt}"
    key = f"{folder}/{task}{'-' if share else ''}{re.sub(r'[^0-9a-z]+', '-', share)}.json"
    _keep(store, key, note)
    try:
        yield note
        note.state = "done"
    except (UserError, TransientError) as error:
        note.error, note.code = str(error), error.exit_code
        raise
    finally:
        if note.state != "done":
            note.state = "failed"
            note.error = note.error or "it crashed; its log ends with the traceback"
            note.code = note.code or DEFECT
        note.error = without_secrets(note.error)[:LONGEST_ERROR]
        _keep(store, key, note)


def _keep(store: Store, key: str, note: Note) -> None:
    # A note that cannot be kept must not hide what the task itself came to.
    with suppress(UserError, TransientError):
        store.replace(key, seal(asdict(note)))


def notes(store: Store, attempt: str, about: str = "") -> list[Note]:
    """The notes of a run, or of one settings file of it (see `of`), in the order of the pipeline.

    Raises UserError if one is damaged.
    """
    if not PLAIN.fullmatch(attempt):
        return []
    keys = [
        stored.key
        for stored in store.objects(f"{ATTEMPTS}/{attempt}/{about}".rstrip("/"))
        if Path(stored.key).suffix == ".json"
    ]
    read = [note for key in keys if (note := _read(store, key))]
    return sorted(read, key=lambda note: (ORDER.index(note.task), note.share))


def mistake(store: Store, attempt: str) -> str:
    """The user's mistake that a task ended with, for which trying again is no help; empty if none did."""
    return next((note.error for note in notes(store, attempt) if note.code == UserError.exit_code), "")


def forget(store: Store, attempt: str) -> None:
    """Removes the notes of an earlier try under the same name."""
    for stored in list(store.objects(f"{ATTEMPTS}/{attempt}")):
        store.delete(stored)


def _read(store: Store, key: str) -> Note | None:
    try:
        content = read_sealed(store, key)
    except SealError as error:
        cure = "remove it; the run's page on the platform says how the task ended"
        raise UserError(f"{key} in {store.uri} is damaged ({error}); {cure}") from error
    return Note(**content) if content else None


def outcome(store: Store, attempt: str, about: str = "") -> Outcome:
    """How a run ended, or what it did about one settings file (see `of`), from the notes of its tasks and the verdict
    that its gate reached."""
    ended = [note for note in notes(store, attempt, about) if note.task != "notify"]
    loaded = {note.task: load_manifest(store, f"{note.prefix}/manifest.json") for note in ended if note.prefix}
    done = {name: manifest for name, manifest in loaded.items() if manifest is not None}
    for note in ended:
        if note.state == "failed":
            reason = note.error if note.error.startswith(f"{note.task}: ") else f"{note.name}: {note.error}"
            return Outcome("failed", reason, note.code, done)
    for note in ended:
        if note.state == "running":
            why = "was stopped from outside: out of memory, preempted, or past its deadline"
            return Outcome("stopped", f"{note.name} {why}", TransientError.exit_code, done)
    if ended and ended[-1].task == "ablation":
        return Outcome("measured", "", EXIT_CODES["measured"], done)
    if "gate" not in done:
        last = f"after {ended[-1].name}" if ended else "before any task began"
        return Outcome("unknown", f"the run ended {last}; its page on the platform says why", DEFECT, done)
    word = "published" if "publish" in done else WORDS[str(done["gate"].facts["verdict"])]
    return Outcome(word, "", EXIT_CODES[word], done)
