"""The door of `hone serve`: it waits for whole requests and answers them, however slow or many its clients are.

One thread holds all connections and reads them side by side; a few more answer what has arrived whole. A client that
takes longer than SECONDS is let go, the oldest first when there are more than MOST_CLIENTS, and when more than QUEUE
requests wait, the next is asked at once to come back.
"""

import asyncio
import io
import resource
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

SECONDS = 10.0
"""For a client to send its request, and again to take the answer."""
MOST_CLIENTS = 1_500
QUEUE = 48
WORKERS = 4
LARGEST_HEAD = 16_384
BUSY = b"too many questions at once; try again in a few seconds\n"
BUSY_ANSWER = (
    b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
)


class Request:
    """A request that has arrived whole, in the shape of the socket that `http.server` reads from and writes to."""

    def __init__(self, data: bytes) -> None:
        self.data, self.answer = data, bytearray()

    def makefile(self, mode: str, buffering: int = -1) -> io.BytesIO:
        return io.BytesIO(self.data)

    def sendall(self, data: Any) -> None:
        self.answer += data


class Front:
    """A listening address. Raises OSError if it is taken."""

    def __init__(self, address: tuple[str, int], answer: Callable[[Request], object], largest_body: int) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.create_server((address[0].strip("[]"), address[1]), family=family, backlog=1_024)
        self.server_address: tuple[str, int] = self.socket.getsockname()[:2]
        self._answer, self._largest = answer, largest_body
        self._arriving: dict[asyncio.StreamWriter, None] = {}
        self._waiting = 0
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="serve")

    def serve_forever(self) -> None:
        """Answers until `shutdown` is called by another thread, or Ctrl-C."""
        _allow_open_files(MOST_CLIENTS + 256)
        self._loop.run_until_complete(self._serve())

    def shutdown(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)

    def server_close(self) -> None:
        self.socket.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._client, sock=self.socket, limit=LARGEST_HEAD):
            await self._over.wait()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._arriving[writer] = None
        if len(self._arriving) > MOST_CLIENTS:
            oldest = next(iter(self._arriving))
            del self._arriving[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(SECONDS):
                data = await self._whole(reader)
            self._arriving.pop(writer, None)
            writer.write(await self._answered(data))
            async with asyncio.timeout(SECONDS):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()
        finally:
            self._arriving.pop(writer, None)

    async def _whole(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        lengths = [line.partition(b":")[2].strip() for line in head.split(b"\r\n") if _names_length(line)]
        wanted = int(lengths[0]) if lengths and lengths[0].isdigit() and len(lengths[0]) < 10 else 0
        if wanted > self._largest:
            # Its refusal is read only by a client that may send what it began.
            with suppress(TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(1.0):
                    await reader.readexactly(min(wanted, 16 * self._largest))
            return head
        return head + await reader.readexactly(wanted)

    async def _answered(self, data: bytes) -> bytes:
        if self._waiting >= QUEUE:
            return BUSY_ANSWER % len(BUSY) + BUSY
        self._waiting += 1
        try:
            request = Request(data)
            await self._loop.run_in_executor(self._pool, self._answer, request)
            return bytes(request.answer)
        finally:
            self._waiting -= 1


def _names_length(line: bytes) -> bool:
    return line[:15].lower() == b"content-length:"


def _allow_open_files(wanted: int) -> None:
    """Each client is an open file; what the system allows at most is taken if it is less."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
