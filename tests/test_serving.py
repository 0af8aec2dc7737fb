"""`hone serve` under many clients, slow ones and several servers at once: every answer in time, no click lost."""

import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import pytest

from hone.serving import front
from hone.serving.page import Judgements, Server
from hone.serving.search import Hit
from loopback import running

SECONDS = 2.0


class Answers:
    """Stands where both students would; a search takes as long as theirs."""

    def top_tens(self, query: str) -> tuple[list[Hit], list[Hit]]:
        time.sleep(0.01)
        hits = [Hit(f"d{n}", query, f"{query}, in full", 1 - n / 10, 0) for n in range(10)]
        return hits, [replace(hit, other_rank=1) for hit in hits]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Answers(), Judgements(folder), "demo")  # type: ignore[arg-type]
    with running(server):
        yield server


def asked(server: Server, path: str) -> tuple[float, str]:
    """Seconds and the first line of the answer."""
    started = time.monotonic()
    with socket.create_connection(server.server_address, timeout=30) as client:
        host = "{}:{}".format(*server.server_address)
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while piece := client.recv(65_536):
            answer += piece
    return time.monotonic() - started, answer.split(b"\r\n", 1)[0].decode()


def ended(client: socket.socket) -> bool:
    """Whether the server let this client go without an answer."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def megabytes() -> float:
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.parametrize(("slow", "fast"), [(150, 150)])
def test_fast_clients_are_answered_in_time_among_slow_ones_with_bounded_threads_and_memory(
    tmp_path: Path, slow: int, fast: int
) -> None:
    with serving(tmp_path) as server, ExitStack() as held:
        urlopen("http://{}:{}/?q=warm".format(*server.server_address)).read()
        threads, memory = threading.active_count(), megabytes()
        for number in range(slow):
            client = held.enter_context(socket.create_connection(server.server_address))
            client.sendall(b"GET / HTTP/1.1\r\nHost: " if number % 2 else b"P")
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda n: asked(server, f"/?q=word{n % 40}"), range(fast)))
            assert threading.active_count() <= threads + 32 + front.WORKERS
    assert {line.split(" ")[1] for _, line in answers} <= {"200", "503"}
    assert statistics.quantiles([seconds for seconds, _ in answers], n=20)[-1] < SECONDS
    assert sum("200" in line for _, line in answers) > fast // 2
    assert megabytes() - memory < 100


def test_a_client_that_never_finishes_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "SECONDS", 0.2)
    with serving(tmp_path) as server, socket.create_connection(server.server_address, timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert ended(client)


def test_of_too_many_clients_the_oldest_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_CLIENTS", 5)
    with serving(tmp_path) as server, ExitStack() as held:
        clients = [held.enter_context(socket.create_connection(server.server_address, timeout=10)) for _ in range(8)]
        time.sleep(0.2)
        assert asked(server, "/")[1].endswith("200 OK")
        assert ended(clients[0])


def test_what_is_too_large_or_was_never_shown_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path / "judged") as server:
        assert " 400 " in asked(server, f"/?q={'a' * 1_001}")[1]
        assert asked(server, f"/?q={'a' * 20_000}")[1] in ("", "HTTP/1.0 400 Bad Request")
        for form in ("q=word&doc_id=never&grade=relevant", f"q=word&doc_id={'d' * 9_000}&grade=relevant",
                     f"q={'w' * 9_000}&doc_id=d1&grade=relevant"):  # fmt: skip
            body = f"{form}&token={server.token}".encode()
            with socket.create_connection(server.server_address, timeout=10) as client:
                host = "{}:{}".format(*server.server_address)
                head = f"POST /judge HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
                assert b" 400 " in client.recv(1_000)
    assert not (tmp_path / "judged").exists()


def test_two_servers_in_one_folder_keep_each_others_clicks(tmp_path: Path) -> None:
    servers = [Judgements(tmp_path) for _ in range(2)]

    def click(number: int) -> None:
        servers[number % 2].judge(f"query {number}", f"d{number}", number % 2)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(click, range(20)))
    kept = Judgements(tmp_path)
    assert len(kept.queries) == len(kept.grades) == 20
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text("utf-8").splitlines()]
    assert sorted(row["query"] for row in history) == sorted(kept.queries.values())


def test_a_folder_that_cannot_be_written_is_said_to_the_one_who_clicked(tmp_path: Path) -> None:
    (tmp_path / "judged").write_text("a file")
    with serving(tmp_path / "judged") as server:
        body = f"q=word&doc_id=d1&grade=relevant&token={server.token}".encode()
        with socket.create_connection(server.server_address, timeout=10) as client:
            head = "POST /judge HTTP/1.1\r\nHost: {}:{}\r\nContent-Length: {}\r\n\r\n"
            client.sendall(head.format(*server.server_address, len(body)).encode() + body)
            answer = client.recv(1_000)
    assert b" 507 " in answer
