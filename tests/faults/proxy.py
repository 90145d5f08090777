"""A TCP proxy between Nearhive and its state server that makes the network as bad as a test wants it.

It runs in a thread with a loop of its own, so that a test may block while Nearhive starts. ``proxy.faults`` may be
replaced at any time and acts on open connections too.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

_CHUNK_BYTES = 65_536
_LOOK_S = 0.005
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close sends RST
_CALL_S = 10.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the network; nothing by default.

    ``latency_s`` and ``jitter_s`` (uniform, added) delay each chunk towards the server. ``hold_requests`` and
    ``hold_replies`` are a network that delivers one way only: nothing is lost, it comes when the fault ends, as TCP
    would send it again. ``refuse`` closes new connections at once, ``slow_close_s`` keeps a connection half open for
    so long after the server closed it.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    bytes_a_second: float = 0.0
    hold_requests: bool = False
    hold_replies: bool = False
    refuse: bool = False
    slow_close_s: float = 0.0


class _Pair:
    """One connection: the client's side and the server's."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server
        self.doomed = False  # the next reply is lost with the connection

    def reset(self) -> None:
        for writer in (self.client, self.server):
            opened = writer.get_extra_info("socket")
            if opened is not None and opened.family != socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()


class Proxy:
    """See the module. ``target``: a ``redis://host:port`` or ``unix:///path`` URL."""

    def __init__(self, target: str, seed: int = 0) -> None:
        self.target = target
        self.faults = Faults()
        self.connections = 0  # that were ever taken
        self.lost_replies = 0
        self._pairs: set[_Pair] = set()
        self._to_lose: tuple[bytes, int] = (b"", 0)
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    # --- control, from the test's thread ---

    @property
    def url(self) -> str:
        """For NEARHIVE_STATE_URL."""
        return f"redis://127.0.0.1:{self.port}"

    def heal(self) -> None:
        """A good network again."""
        self._to_lose = (b"", 0)
        self.faults = Faults()

    def reset_all(self) -> None:
        """RST on every open connection."""
        self._call(self._reset_all)

    def lose_replies(self, marker: bytes, count: int) -> None:
        """The next ``count`` requests that hold ``marker`` reach the server; its reply is lost with the connection."""
        self._to_lose = (marker, count)

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        self._call(self._open)

    def stop(self) -> None:
        """Close everything."""
        self._call(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_S)
        self._loop.close()

    def _call(self, act: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        return asyncio.run_coroutine_threadsafe(act(), self._loop).result(_CALL_S)

    # --- in the proxy's thread ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset_all(self) -> None:
        for pair in list(self._pairs):
            pair.reset()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            if not self.faults.refuse:
                await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(self.target)
        if parts.scheme == "unix":
            there, back = await asyncio.open_unix_connection(parts.path)
        else:
            there, back = await asyncio.open_connection(parts.hostname, parts.port)
        pair = _Pair(writer, back)
        self._pairs.add(pair)
        try:
            requests = asyncio.create_task(self._requests(pair, reader))
            replies = asyncio.create_task(self._replies(pair, there))
            done, left = await asyncio.wait({requests, replies}, return_when=asyncio.FIRST_COMPLETED)
            if replies in done:
                await asyncio.sleep(self.faults.slow_close_s)
            for task in left:
                task.cancel()
            await asyncio.gather(requests, replies, return_exceptions=True)
        finally:
            self._pairs.discard(pair)
            back.transport.abort()

    async def _requests(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        """Client to server. Chunks keep their delay but do not wait for one another, as on a long wire."""
        wire: deque[tuple[float, bytes]] = deque()
        arrived = asyncio.Event()
        sending = asyncio.create_task(self._send(pair, wire, arrived))
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                wire.append((self._loop.time(), chunk))
                arrived.set()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, pair: _Pair, wire: deque[tuple[float, bytes]], arrived: asyncio.Event) -> None:
        while True:
            await arrived.wait()
            arrived.clear()
            while wire:
                arrived_s, chunk = wire.popleft()
                await self._late(arrived_s)
                await self._held("hold_requests")
                await self._slowly(chunk)
                self._doom(pair, chunk)
                pair.server.write(chunk)
                await pair.server.drain()

    async def _replies(self, pair: _Pair, there: asyncio.StreamReader) -> None:
        """Server to client."""
        while chunk := await there.read(_CHUNK_BYTES):
            if pair.doomed:
                self.lost_replies += 1
                pair.reset()
                return
            await self._held("hold_replies")
            await self._slowly(chunk)
            pair.client.write(chunk)
            await pair.client.drain()

    def _doom(self, pair: _Pair, chunk: bytes) -> None:
        marker, count = self._to_lose
        if count and marker in chunk:
            self._to_lose = (marker, count - 1)
            pair.doomed = True

    async def _late(self, arrived_s: float) -> None:
        share = self._random.random()
        while True:  # the fault may be changed while it is waited for
            due_s = arrived_s + self.faults.latency_s + share * self.faults.jitter_s
            if (left_s := due_s - self._loop.time()) <= 0:
                return
            await asyncio.sleep(min(left_s, _LOOK_S))

    async def _held(self, fault: str) -> None:
        while getattr(self.faults, fault):  # noqa: ASYNC110 - the test sets it from another thread
            await asyncio.sleep(_LOOK_S)

    async def _slowly(self, chunk: bytes) -> None:
        if self.faults.bytes_a_second:
            await asyncio.sleep(len(chunk) / self.faults.bytes_a_second)


@contextlib.contextmanager
def proxying(target: str, seed: int = 0) -> Iterator[Proxy]:
    """A started proxy in front of ``target``."""
    proxy = Proxy(target, seed)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
