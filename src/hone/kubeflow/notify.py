"""Notify: what came of a run, in its last log line and at a webhook; runs also when a stage failed."""

import json
import os
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from hone.config import Settings
from hone.errors import TransientError, UserError
from hone.kubeflow import settings_text
from hone.kubeflow.attempts import of, outcome
from hone.retry import Backoff, retried
from hone.settings import RunSettings
from hone.storage.base import Store

TRIES = Backoff(attempts=3, first=1.0, longest=5.0)
SECONDS_TO_ANSWER = 10


class Notice(Settings):
    """Says what came of a run, also when a stage failed: the last task of the pipeline."""

    webhook: str = "HONE_WEBHOOK"
    """The environment variable that holds the address to which the message is posted as JSON; unset: none is."""
    domains: list[str] = Field(default=[])
    """The settings of every domain, where the run has several: one message says how each of them ended."""


def notify(news: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Prints a message as one line of JSON and posts it. Raises TransientError if the webhook keeps refusing it."""
    text = json.dumps(news)
    print(text, flush=True)
    if address := os.environ.get(str(given.get("webhook", ""))):
        _post(address, text.encode())


def message(settings: RunSettings, store: Store, given: Mapping[str, Any]) -> dict[str, Any]:
    """How the run ended, what it measured, and the result of every stage: as Hone's own tasks noted it, since the
    platform's own status of a run is right for none but failed ones."""
    ended = outcome(store, str(given.get("attempt") or ""))
    facts = {key: value for key in ("verdict", "finding") if (value := ended.fact(key)) is not None}
    results = {name: manifest.prefix for name, manifest in ended.done.items()}
    head = {"run": settings.name, "outcome": ended.word, **facts}
    return {**head, "error": ended.error, "results": results, "store": store.uri}


def summary(domains: Sequence[str], store: Store, given: Mapping[str, Any]) -> dict[str, Any]:
    """How every domain of a run ended, and how many ended how; one whose settings cannot be read is named by their
    address."""
    rows: list[dict[str, Any]] = []
    for address in domains:
        ended = outcome(store, str(given.get("attempt") or ""), of(address))
        try:
            name = settings_text.check(settings_text.fetch(address)).name
        except (UserError, TransientError):
            name = address
        facts = {key: value for key in ("verdict", "finding", "version") if (value := ended.fact(key)) is not None}
        rows.append({"domain": name, "outcome": ended.word, **facts, "error": ended.error})
    counts = Counter(row["outcome"] for row in rows)
    outcomes = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    return {"outcome": outcomes, "domains": rows, "store": store.uri}


def _post(address: str, body: bytes) -> None:
    if not address.startswith(("http://", "https://")):
        raise UserError("the webhook's address is neither http:// nor https://")
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})

    def lasting(error: Exception, _: int) -> TransientError:
        return TransientError(f"the webhook did not accept the message: {error}")

    retried(lambda: urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER).close(), TRIES, OSError, lasting=lasting)
