"""A server of embeddings on loopback that speaks as OpenAI's and TEI's do, over sentence-transformers itself: rightly,
or wrongly in one of the ways in which servers are."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

Texts = Sequence[str]


class Served(ThreadingHTTPServer):
    """`add` is put before every text; `round` is done to the vectors; `module` are changes of the model."""

    def __init__(self, folder: Path, paths: Sequence[str], **how: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model = SentenceTransformer(str(folder), device="cpu")
        self.prompts = {name: text or "" for name, text in self.model.prompts.items()}
        self.paths = paths
        self.add: Callable[[str], str] = how.get("add", lambda text: text)
        self.round: Callable[[np.ndarray], np.ndarray] = how.get("round", lambda vectors: vectors)
        self.most: int = how.get("most", 1_000)
        self.key: str = how.get("key", "")
        how.get("change", lambda model: None)(self.model)
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def encode(self, texts: Texts) -> list[list[float]]:
        with self.lock:  # one model, several requests at once
            found = self.model.encode(list(map(self.add, texts)), prompt="", normalize_embeddings=False)
        return self.round(np.asarray(found)).tolist()


class Handler(BaseHTTPRequestHandler):
    server: Served  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        there = self.path == "/v1/models" and "/v1/embeddings" in self.server.paths
        self._answer(200 if there else 404, {"data": [{"id": "tuned"}]} if there else {"error": "not found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path not in self.server.paths:
            return self._answer(404, {"error": "not found"})
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self._answer(401, {"error": "who are you"})
        texts = body["input"] if self.path == "/v1/embeddings" else body["inputs"]
        if len(texts) > self.server.most:
            return self._answer(422, {"error": f"batch size {len(texts)} > maximum {self.server.most}"})
        if self.path == "/v1/embeddings" and body["model"] != "tuned":
            return self._answer(404, {"error": {"message": "no such model"}})
        prompt = self.server.prompts[body["prompt_name"]] if "prompt_name" in body else ""
        vectors = self.server.encode([prompt + text for text in texts])
        if self.path == "/embed":
            return self._answer(200, vectors)
        rows = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        return self._answer(200, {"data": rows[::-1]})

    def _answer(self, status: int, found: Any) -> None:
        data = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, *paths: str, **how: Any) -> Iterator[Served]:
    server = Served(folder, paths or ("/v1/embeddings", "/embed"), **how)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
