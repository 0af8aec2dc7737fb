"""A chat completions endpoint on loopback that misbehaves on purpose, and the settings that name it."""

import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import loopback

KEY = "sk-right"
FAULTS = ("429", "500", "silence", "half a body", "garbage", "no choices")


class Server(loopback.Server):
    """Answers with words drawn by the prompt; a share of the requests meets a fault, drawn by a seed."""

    def __init__(self, faulty: float) -> None:
        super().__init__(Handler)
        self.faulty, self.draw, self.lock = faulty, random.Random(5), threading.Lock()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.refusals: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.open = self.most_open = 0
        self.dies_after = sys.maxsize
        self.tells_usage = True

    @property
    def url(self) -> str:
        return f"{self.address}/v1"

    def fault(self) -> str:
        with self.lock:
            if self.answered.total() >= self.dies_after:
                return "500"
            return self.draw.choice(FAULTS) if self.draw.random() < self.faulty else ""


class Handler(loopback.Handler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.body())
        with self.server.lock:
            self.server.open += 1
            self.server.most_open = max(self.server.most_open, self.server.open)
            self.server.bodies.append(body)
        try:
            self.reply(body)
        finally:
            with self.server.lock:
                self.server.open -= 1

    def reply(self, body: dict[str, Any]) -> None:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.server.refusals.append(401)
            return self.send(401, {"error": {"message": "Incorrect API key provided"}})
        if body["model"] != "tiny":
            return self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        fault = self.server.fault()
        self.server.faults[fault] += 1
        time.sleep(0.01)
        prompt = body["messages"][0]["content"]
        found = completion(prompt, body["seed"])
        answer = json.dumps(found if self.server.tells_usage else {**found, "usage": None}).encode()
        if fault in ("429", "500"):
            return self.send(int(fault), {"error": {"message": "busy"}})
        if fault == "silence":
            time.sleep(2.0)
            self.close_connection = True
            return None
        if fault == "half a body":
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer[: len(answer) // 2])
            self.close_connection = True
            return None
        if fault:
            return self.send(200, b"{'oops" if fault == "garbage" else {"object": "error"})
        with self.server.lock:
            self.server.answered[prompt] += 1
        return self.send(200, answer)

    def send(self, status: int, body: bytes | dict[str, Any]) -> None:
        self.answer(body, status, headers={"Retry-After": "0.02"})


def completion(prompt: str, seed: int) -> dict[str, Any]:
    digest = hashlib.sha256(f"{seed}{prompt}".encode()).hexdigest()
    text = f"what is {digest[:6]} and {digest[6:12]}"
    usage = {"prompt_tokens": 100, "completion_tokens": 8, "prompt_tokens_details": {"cached_tokens": 60}}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice], "usage": usage}


@contextmanager
def serving(faulty: float = 0.0) -> Iterator[Server]:
    with loopback.running(Server(faulty)) as server:
        yield server


def sections(server: Server, **endpoint: Any) -> dict[str, Any]:
    chosen = {"url": server.url, "model": "tiny", "concurrency": 8, "timeout": 1.5, **endpoint}
    llm = {"endpoint": chosen, "styles": {"question": 1, "title": 1}, "batch": 64}
    return {"sources": ("openai",), "llm": llm}
