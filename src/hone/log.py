"""Events, with the run, stage and shard each belongs to: what went wrong as a sentence, all of them where one asks.

HONE_LOG says which go to stderr: `warnings` (as usual), `text` (all, a line each), `json` (all, as containers do it) or
`off`. HONE_LOG_FILE names a file that all are added to as JSON; those of a stage are also kept in the store beside its
result. No secret appears in a line: see `hone.secrets`.
"""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from hone.errors import UserError
from hone.secrets import without_secrets

CLEAR = "\r\x1b[2K"
LOUD = ("warning", "error")
_names: ContextVar[dict[str, str]] = ContextVar("names")
_kept: ContextVar[tuple[list[str], ...]] = ContextVar("kept", default=())


@contextmanager
def about(**names: str) -> Generator[None]:
    """Every event of the block belongs to this run, stage or shard."""
    mark = _names.set({**_names.get({}), **names})
    try:
        yield
    finally:
        _names.reset(mark)


@contextmanager
def kept(**names: str) -> Generator[list[str]]:
    """The events of the block, as lines of JSON, and what they belong to."""
    lines: list[str] = []
    mark = _kept.set((*_kept.get(), lines))
    try:
        with about(**names):
            yield lines
    finally:
        _kept.reset(mark)


class Log:
    """Takes events: a sentence, and facts beside it."""

    def info(self, event: str, **facts: object) -> None:
        """Something happened as it should."""
        _say("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something is not as it should be, and the work goes on."""
        _say("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        """Something is broken."""
        _say("error", event, facts)


log = Log()


def _say(level: str, sentence: str, facts: dict[str, object]) -> None:
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    event = {**_names.get({}), **facts, "event": sentence, "level": level, "time": now}
    line = without_secrets(json.dumps(event, default=str, ensure_ascii=False))
    for lines in _kept.get():
        lines.append(line)
    if file := os.environ.get("HONE_LOG_FILE"):
        _add(file, line)
    form = os.environ.get("HONE_LOG") or "warnings"
    if form == "off" or (form == "warnings" and level not in LOUD):
        return
    if form != "json":
        # A line of progress may stand there.
        line = (CLEAR if sys.stderr.isatty() else "") + _text(json.loads(line))
    print(line, file=sys.stderr, flush=True)


def _add(file: str, line: str) -> None:
    """One line more, in a single write: several processes may share the file. Raises UserError."""
    try:
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}; give another file with --log-file") from error


def _text(event: dict[str, Any]) -> str:
    """`15:04:05 score: finished  rows=3`"""
    time, level, message = (str(event.pop(name)) for name in ("time", "level", "event"))
    where = "/".join(str(event.pop(name)) for name in ("run", "stage", "shard") if name in event)
    facts = " ".join(f"{name}={value}" for name, value in event.items())
    loud = "" if level == "info" else f"{level}: "
    return f"{time[11:19]} {where or 'hone'}: {loud}{message}  {facts}".rstrip()
