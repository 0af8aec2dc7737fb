"""One line per event, with the run, stage and shard it belongs to: for people in a terminal, JSON otherwise.

HONE_LOG=json, text or off says otherwise. Lines go to stderr; those of a stage are also kept in the store beside its
result. What the environment holds as a secret, or a mounted file, never appears in a line.
"""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

from hone.secrets import without_secrets

_kept: ContextVar[tuple[list[str], ...]] = ContextVar("kept", default=())


@contextmanager
def about(**names: str) -> Generator[None]:
    """Every event of the block belongs to this run, stage or shard."""
    with bound_contextvars(**names):
        yield


@contextmanager
def kept(**names: str) -> Generator[list[str]]:
    """The events of the block, as lines of JSON, and what they belong to."""
    lines: list[str] = []
    mark = _kept.set((*_kept.get(), lines))
    try:
        with bound_contextvars(**names):
            yield lines
    finally:
        _kept.reset(mark)


def _render(logger: object, method: str, event: Any) -> str:
    line = without_secrets(json.dumps(event, default=str, ensure_ascii=False))
    for lines in _kept.get():
        lines.append(line)
    form = os.environ.get("HONE_LOG") or ("text" if sys.stderr.isatty() else "json")
    if form == "off":
        raise structlog.DropEvent
    return line if form == "json" else _text(json.loads(line))


def _text(event: dict[str, Any]) -> str:
    """`15:04:05 score: finished  rows=3`"""
    time, level, message = (str(event.pop(name)) for name in ("time", "level", "event"))
    where = "/".join(str(event.pop(name)) for name in ("run", "stage", "shard") if name in event)
    facts = " ".join(f"{name}={value}" for name, value in event.items())
    loud = "" if level == "info" else f"{level}: "
    return f"{time[11:19]} {where or 'hone'}: {loud}{message}  {facts}".rstrip()


structlog.configure(
    processors=[
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _render,
    ],
    logger_factory=lambda *names: structlog.PrintLogger(sys.stderr),
    cache_logger_on_first_use=False,
)
log: Any = structlog.get_logger()
