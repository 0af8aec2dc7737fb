"""A server of embeddings on loopback that speaks as OpenAI's and TEI's do, over sentence-transformers itself: rightly,
or wrongly in one of the ways in which servers are."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from loopback import Handler, Server, running

Texts = Sequence[str]


class Served(Server):
    """`add` is put before every text; `round` is done to the vectors; `module` are changes of the model."""

    def __init__(self, folder: Path, paths: Sequence[str], **how: Any) -> None:
        super().__init__(Embedding)
        self.model = SentenceTransformer(str(folder), device="cpu")
        self.prompts = {name: text or "" for name, text in self.model.prompts.items()}
        self.paths = paths
        self.add: Callable[[str], str] = how.get("add", lambda text: text)
        self.round: Callable[[np.ndarray], np.ndarray] = how.get("round", lambda vectors: vectors)
        self.most: int = how.get("most", 1_000)
        self.key: str = how.get("key", "")
        how.get("change", lambda model: None)(self.model)
        self.lock = threading.Lock()

    def encode(self, texts: Texts) -> list[list[float]]:
        with self.lock:  # one model, several requests at once
            found = self.model.encode(list(map(self.add, texts)), prompt="", normalize_embeddings=False)
        return self.round(np.asarray(found)).tolist()


class Embedding(Handler):
    server: Served  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        there = self.path == "/v1/models" and "/v1/embeddings" in self.server.paths
        self.answer({"data": [{"id": "tuned"}]} if there else {"error": "not found"}, 200 if there else 404)

    def do_POST(self) -> None:
        body = json.loads(self.body())
        if self.path not in self.server.paths:
            return self.answer({"error": "not found"}, 404)
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.answer({"error": "who are you"}, 401)
        texts = body["input"] if self.path == "/v1/embeddings" else body["inputs"]
        if len(texts) > self.server.most:
            return self.answer({"error": f"batch size {len(texts)} > maximum {self.server.most}"}, 422)
        if self.path == "/v1/embeddings" and body["model"] != "tuned":
            return self.answer({"error": {"message": "no such model"}}, 404)
        prompt = self.server.prompts[body["prompt_name"]] if "prompt_name" in body else ""
        vectors = self.server.encode([prompt + text for text in texts])
        if self.path == "/embed":
            return self.answer(vectors)
        rows = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        return self.answer({"data": rows[::-1]})


@contextmanager
def serving(folder: Path, *paths: str, **how: Any) -> Iterator[Served]:
    with running(Served(folder, paths or ("/v1/embeddings", "/embed"), **how)) as server:
        yield server
