"""Servers on loopback that speak as much of two protocols as their real clients call here: a model hub (with Git LFS)
and Kubeflow's Model Registry. What was sent is kept in memory."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import loopback

Answer = tuple[int, Any]


class Registries(loopback.Server):
    """Both servers in one; `refuses` is the status with which everything is refused, 0 for none."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.refuses = 0
        self.breaks = ""
        """What is answered with 503: a pattern of method and path."""
        self.blobs: dict[str, bytes] = {}
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.commits: list[str] = []
        self.tags: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.held: dict[str, list[dict[str, Any]]] = {"model": [], "version": [], "artifact": []}

    def reply(self, method: str, target: str, body: bytes) -> Answer:
        place = urlsplit(target)
        asked = {key: values[0] for key, values in parse_qs(place.query).items()}
        for pattern, answer in (*HUB, *REGISTRY):
            if found := re.fullmatch(pattern, f"{method} {place.path}"):
                return answer(self, body, asked, *found.groups())
        return 404, {"message": f"{method} {place.path} is not spoken here"}


class Handler(loopback.Handler):
    server: Registries  # pyright: ignore[reportIncompatibleVariableOverride]

    def _do(self) -> None:
        body = self.body()
        self.server.tokens.add(self.headers.get("Authorization", ""))
        broken = self.server.breaks and re.search(self.server.breaks, f"{self.command} {self.path}")
        refused = 503 if broken else self.server.refuses
        if refused:
            return self.answer({"message": "refused"}, refused)
        status, content = self.server.reply(self.command, self.path, body)
        return self.answer(content, status)

    do_GET = do_POST = do_PUT = _do


def create_repository(server: Registries, body: bytes, asked: dict[str, str]) -> Answer:
    wanted = json.loads(body)
    name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else wanted["name"]
    there = name in server.repositories
    server.repositories.setdefault(name, {})
    return 409 if there else 200, {"url": f"{server.address}/{name}"}


def upload_modes(server: Registries, body: bytes, asked: dict[str, str], name: str) -> Answer:
    files = [file["path"] for file in json.loads(body)["files"]]
    modes = [(path, "lfs" if path.endswith(".safetensors") else "regular") for path in files]
    return 200, {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}


def lfs_batch(server: Registries, body: bytes, asked: dict[str, str], name: str) -> Answer:
    objects = json.loads(body)["objects"]
    missing = [one for one in objects if one["oid"] not in server.blobs]
    links = {one["oid"]: {"upload": {"href": f"{server.address}/lfs/{one['oid']}"}} for one in missing}
    told = [{**one, **({"actions": links[one["oid"]]} if one["oid"] in links else {})} for one in objects]
    return 200, {"transfer": "basic", "objects": told}


def lfs_put(server: Registries, body: bytes, asked: dict[str, str], oid: str) -> Answer:
    server.blobs[oid] = body
    return 200, {}


def commit(server: Registries, body: bytes, asked: dict[str, str], name: str) -> Answer:
    lines = [json.loads(line) for line in body.splitlines()]
    server.commits.append(lines[0]["value"]["summary"])
    for line in lines[1:]:
        value = line["value"]
        data = server.blobs[value["oid"]] if line["key"] == "lfsFile" else base64.b64decode(value["content"])
        server.repositories[name][value["path"]] = data
    oid = f"{len(server.commits):040d}"
    return 200, {"success": True, "commitOid": oid, "commitUrl": f"{server.address}/{name}/commit/{oid}"}


def tag(server: Registries, body: bytes, asked: dict[str, str], name: str, revision: str) -> Answer:
    server.tags[json.loads(body)["tag"]] = revision
    return 200, {}


def revision(server: Registries, body: bytes, asked: dict[str, str], name: str) -> Answer:
    return 200, {"id": name, "sha": f"{len(server.commits):040d}", "siblings": []}


def checked_card(server: Registries, body: bytes, asked: dict[str, str]) -> Answer:
    return 200, {"errors": [], "warnings": []}


HUB = (
    (r"POST /api/validate-yaml", checked_card),
    (r"POST /api/repos/create", create_repository),
    (r"POST /api/models/(.+)/preupload/main", upload_modes),
    (r"POST /(.+)\.git/info/lfs/objects/batch", lfs_batch),
    (r"PUT /lfs/(\w+)", lfs_put),
    (r"POST /api/models/(.+)/commit/main", commit),
    (r"POST /api/models/(.+)/tag/(\w+)", tag),
    (r"GET /api/models/(.+)/revision/main", revision),
)


def listed(server: Registries, body: bytes, asked: dict[str, str]) -> Answer:
    models = server.held["model"]
    return 200, {"items": models, "size": len(models), "pageSize": 1, "nextPageToken": ""}


def found(kind: str) -> Any:
    def find(server: Registries, body: bytes, asked: dict[str, str]) -> Answer:
        parent = asked.get("parentResourceId")
        rows = [
            row
            for row in server.held[kind]
            if row["name"] == asked["name"] and (not parent or parent in (row.get("registeredModelId"), row["parent"]))
        ]
        return (200, rows[0]) if rows else (404, {"code": "", "message": "none"})

    return find


def added(kind: str) -> Any:
    def add(server: Registries, body: bytes, asked: dict[str, str], *parents: str) -> Answer:
        row = {**json.loads(body), "id": str(len(server.held[kind]) + 1), "parent": "".join(parents)}
        server.held[kind].append(row)
        return 201, row

    return add


BASE = "/api/model_registry/v1"
REGISTRY = (
    (rf"GET {BASE}/registered_models", listed),
    (rf"GET {BASE}/registered_model", found("model")),
    (rf"POST {BASE}/registered_models", added("model")),
    (rf"GET {BASE}/model_version", found("version")),
    (rf"POST {BASE}/model_versions", added("version")),
    (rf"GET {BASE}/model_artifact", found("artifact")),
    (rf"POST {BASE}/model_versions/(\d+)/artifacts", added("artifact")),
)


@contextmanager
def serving() -> Iterator[Registries]:
    with loopback.running(Registries()) as server:
        yield server
