"""A proxy in front of an S3 server that fails as networks and servers do: real bytes over loopback, no mocks."""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

FAULTS = ("reset", "reset after", "slow down", "lost answer", "stall", "truncated")
LIES = ("html", "whole", "trickle", "heedless", "forbidden", "nothing stored")
"""What other servers, and proxies on the way, do: not passing faults, and so not part of `some`."""
PAGE = b"<html><body>Please log in to the network.</body></html>"
SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
Decide = Callable[[str, str, int], str | None]
"""From method, path and the number of the request (from 1) to one of FAULTS, or None to let it pass."""


def some(share: float, seed: int) -> Decide:
    """Any fault, for that share of all requests."""
    draw = random.Random(seed)
    return lambda method, path, count: draw.choice(FAULTS) if draw.random() < share else None


@contextmanager
def proxy(server: str, decide: Decide, stall: float = 3.0) -> Iterator[str]:
    """The address of a proxy before `server`. Each connection carries one request."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    running = _Proxy(server, decide, stall)
    started = asyncio.run_coroutine_threadsafe(asyncio.start_server(running.serve, "127.0.0.1", 0), loop).result()
    yield f"http://127.0.0.1:{started.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(started.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


class _Proxy:
    def __init__(self, server: str, decide: Decide, stall: float) -> None:
        self.host, self.port = urlsplit(server).hostname, urlsplit(server).port
        self.decide, self.stall, self.count = decide, stall, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
            self.count += 1
            fault = self.decide(method, path, self.count)
            if fault == "reset":
                return _reset(writer)
            body = await _body(head, reader, writer)
            if fault == "slow down":
                writer.write(_slow_down())
            elif fault in ("html", "nothing stored"):
                etag = b'ETag: "0"\r\n' if fault == "nothing stored" else b"Content-Type: text/html\r\n"
                page = b"" if fault == "nothing stored" else PAGE
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\n%bContent-Length: %d\r\n\r\n%b" % (etag, len(page), page)
                )
            elif fault == "forbidden":
                writer.write(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            elif fault in ("whole", "heedless"):
                unwanted = b"range:" if fault == "whole" else b"if-none-match:"
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(unwanted)]
                await self._answer(None, await self._ask(_alone(b"\r\n".join(lines)) + body), writer)
            else:
                await self._answer(fault, await self._ask(_alone(head) + body), writer)
            await writer.drain()
        writer.close()

    async def _answer(self, fault: str | None, answer: bytes, writer: asyncio.StreamWriter) -> None:
        if fault == "reset after":
            _reset(writer)
        elif fault == "lost answer":
            writer.write(_slow_down())
        elif fault == "truncated":
            writer.write(answer[: -max(1, (len(answer) - answer.index(b"\r\n\r\n")) // 2)])
        elif fault == "stall":
            await asyncio.sleep(self.stall)
        elif fault == "trickle":
            start = answer.index(b"\r\n\r\n") + 4
            writer.write(answer[:start])
            for at in range(start, len(answer)):
                writer.write(answer[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0.05)
        else:
            writer.write(answer)

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(request)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        return answer


async def _body(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    names = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n"))}
    if b"expect" in names:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    return await reader.readexactly(int(names.get(b"content-length", 0)))


def _alone(head: bytes) -> bytes:
    """The head of a request that is the only one of its connection and awaits no leave to go on."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith((b"expect:", b"connection:"))]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


def _slow_down() -> bytes:
    head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(SLOW_DOWN)}\r\nConnection: close\r\n\r\n"
    return head.encode() + SLOW_DOWN


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection by RST instead of FIN."""
    own: socket.socket = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
