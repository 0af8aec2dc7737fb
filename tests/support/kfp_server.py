"""A server on loopback that speaks as much of the Kubeflow Pipelines v2beta1 API as kfp's client calls here.

Pipelines, versions, experiments and runs are kept in memory; a run ends after it has been looked at a few times.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import loopback

LOOKS = 3
LONGEST_PARAMETERS = 10_000
"""MAX_PARAMETER_BYTES of Kubeflow Pipelines 2.17."""


class Platform(loopback.Server):
    """What the platform holds, and every request that came."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.held: dict[str, list[dict[str, Any]]] = {
            key: [] for key in ("pipelines", "versions", "experiments", "runs", "recurringRuns")
        }
        self.uploads: list[bytes] = []
        self.looks = 0
        self.ends = "SUCCEEDED"
        self.refuses = 0
        """The HTTP status with which requests are refused; 0 for none."""
        self.refused = r"(GET|POST|DELETE) .*"
        """Which requests, as a pattern of METHOD /path."""
        self.because: Any = {"error": "this account may not"}
        """What the refusal says: a JSON object, or a text."""
        self.begins: Callable[[dict[str, Any]], None] = lambda run: None
        """Called with every run that is started: what its tasks would do."""
        self.tokens: list[str] = []

    def add(self, kind: str, key: str, item: dict[str, Any]) -> dict[str, Any]:
        item = {**item, key: f"{kind}-{len(self.held[kind])}", "created_at": "2026-01-01T00:00:00Z"}
        self.held[kind].append(item)
        return item


class Handler(loopback.Handler):
    server: Platform

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/apis/v2beta1")
        self.server.tokens.append(self.headers.get("authorization", ""))
        if path == "/healthz":
            self.answer({"multi_user": False})
        elif self.is_refused(path):
            pass
        elif path == "/recurringruns":
            self.answer({"recurringRuns": self.server.held["recurringRuns"]})
        elif path.endswith("/versions"):
            self.answer({"pipeline_versions": self.server.held["versions"]})
        elif path.startswith("/runs/"):
            self.answer(self.looked_at(path.removeprefix("/runs/")))
        else:
            kind = path.strip("/")
            found = _matching(self.server.held[kind], query.get("filter", ""))
            if kind in ("pipelines", "experiments"):
                found = [one for one in found if one.get("namespace", "") == query.get("namespace", "")]
            self.answer({kind: found})

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/apis/v2beta1")
        body = self.body()
        if self.is_refused(path):
            pass
        elif path == "/pipelines/upload":
            self.server.uploads.append(body)
            made = {"display_name": query["name"], "namespace": query.get("namespace", "")}
            self.answer(self.server.add("pipelines", "pipeline_id", made))
        elif path == "/pipelines/upload_version":
            self.server.uploads.append(body)
            made = {"display_name": query["name"], "pipeline_id": query["pipelineid"]}
            self.answer(self.server.add("versions", "pipeline_version_id", made))
        elif path == "/experiments":
            self.answer(self.server.add("experiments", "experiment_id", json.loads(body)))
        elif path == "/recurringruns":
            self.answer(self.server.add("recurringRuns", "recurring_run_id", json.loads(body)))
        else:
            assert path == "/runs", path
            self.start(json.loads(body))

    def do_DELETE(self) -> None:
        gone = urlsplit(self.path).path.rpartition("/recurringruns/")[2]
        kept = [run for run in self.server.held["recurringRuns"] if run["recurring_run_id"] != gone]
        assert len(kept) + 1 == len(self.server.held["recurringRuns"]), self.path
        self.server.held["recurringRuns"] = kept
        self.answer({})

    def start(self, given: dict[str, Any]) -> None:
        size = len(json.dumps(given["runtime_config"]["parameters"]).encode())
        if size > LONGEST_PARAMETERS:
            fault = f"The input parameter length exceed maximum size of {LONGEST_PARAMETERS}"
            return self.answer({"error": fault, "code": 3, "message": fault}, 400)
        run = self.server.add("runs", "run_id", {**given, "state": "PENDING"})
        self.server.looks = 0
        self.server.begins(run)
        return self.answer(run)

    def is_refused(self, path: str) -> bool:
        if not self.server.refuses or not re.fullmatch(self.server.refused, f"{self.command} {path}"):
            return False
        self.answer(self.server.because, self.server.refuses)
        return True

    def looked_at(self, run_id: str) -> dict[str, Any]:
        run = next(run for run in self.server.held["runs"] if run["run_id"] == run_id)
        self.server.looks += 1
        run["state"] = "RUNNING" if self.server.looks < LOOKS else self.server.ends
        tasks = [{"display_name": "prepare", "state": "SUCCEEDED"}, {"display_name": "mine", "state": run["state"]}]
        return {**run, "run_details": {"task_details": tasks}}


def _matching(items: list[dict[str, Any]], wanted: str) -> list[dict[str, Any]]:
    predicates = json.loads(wanted)["predicates"] if wanted else []
    values = {row["stringValue"] if "stringValue" in row else row["string_value"] for row in predicates}
    return [item for item in items if not values or item["display_name"] in values]


@contextmanager
def running() -> Iterator[Platform]:
    with loopback.running(Platform()) as server:
        yield server
