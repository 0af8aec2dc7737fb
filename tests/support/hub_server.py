"""A hub as huggingface_hub asks it: what a repository holds at a commit, and its files."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

Files = dict[str, bytes]


class Hub(ThreadingHTTPServer):
    """`repositories`: `datasets/OWNER/NAME` or `models/OWNER/NAME` to its files."""

    def __init__(self, repositories: dict[str, Files]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.asked: list[str] = []
        self.broken = ""
        """A file that is not sent: the connection ends."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, name: str) -> str:
        """What the files of a repository are called now."""
        files = self.repositories[name]
        return hashlib.sha1(b"".join(sorted(key.encode() + value for key, value in files.items()))).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.server.asked.append(path)
        if path.startswith("api/"):
            return self._about(path.removeprefix("api/"))
        where, _, rest = path.partition("/resolve/")
        name = where if where.startswith("datasets/") else f"models/{where}"
        commit, _, file = rest.partition("/")
        content = self.server.repositories.get(name, {}).get(file)
        if content is None or file == self.server.broken:
            return self.close() if content is not None else self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self._send(200, content, {"ETag": tag, "X-Repo-Commit": commit})

    def close(self) -> None:
        self.close_connection = True

    def _about(self, path: str) -> None:
        name, _, rest = path.partition("/revision/") if "/revision/" in path else path.partition("/tree/")
        if name not in self.server.repositories:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        commit, files = self.server.commit(name), self.server.repositories[name]
        if rest.partition("/")[0] not in ("", "main", commit):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if "/tree/" in path:
            rows = [{"type": "file", "path": key, "size": len(data), "oid": "0" * 40} for key, data in files.items()]
            return self._send(200, json.dumps(rows).encode(), {})
        about = {"id": name.partition("/")[2], "sha": commit, "siblings": [{"rfilename": key} for key in files]}
        return self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@contextmanager
def running(repositories: dict[str, Files]) -> Iterator[Hub]:
    hub = Hub(repositories)
    thread = Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
