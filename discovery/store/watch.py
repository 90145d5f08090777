"""Which keys change while others read, told by the servers themselves; and a moment in which nothing changes.

CLIENT TRACKING in broadcast mode tells the name of every key that a master changes or drops. In RESP2 it tells them to
another connection, which subscribes to a fixed channel.
https://redis.io/docs/latest/develop/reference/client-side-caching/#the-redirected-connection
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store.calls import Argument, pack
from discovery.store.client import State
from discovery.store.lane import read_reply

_CHANNEL = b"__redis__:invalidate"
_ANSWER_S = 3.0


class WatchLost(Exception):
    """Changes may have gone untold: a connection ended, or the state was emptied."""


class Watch:
    """``async with Watch(state) as watch``: from then on every changed key shows up in ``take`` at least once.

    Raises WatchLost on entering when a server has no CLIENT TRACKING, or forbids it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._changed: set[bytes] = set()
        self._ears: list[_Ear] = []

    async def __aenter__(self) -> Self:
        try:
            for master in self._state.masters():
                ear = _Ear(self._changed)
                self._ears.append(ear)
                await ear.open(self._state, master)
        except (RedisError, OSError) as error:
            await self._close()
            raise WatchLost(f"the server does not tell what changes: {error}") from error
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*(ear.close() for ear in self._ears))

    async def settle(self) -> None:
        """Return when all that was changed before this call has been heard. Raises WatchLost."""
        await asyncio.gather(*(ear.ping() for ear in self._ears))

    def take(self) -> set[bytes]:
        """The keys that changed since the last ``take``."""
        changed = set(self._changed)
        self._changed.clear()
        return changed


class _Ear:
    """One master's changes."""

    def __init__(self, changed: set[bytes]) -> None:
        self._changed = changed
        self._connections: list[AbstractConnection] = []
        self._listening: asyncio.Task[None] | None = None
        self._pongs: asyncio.Queue[None] = asyncio.Queue()

    async def open(self, state: State, master: str) -> None:
        """Raises RedisError, OSError, StateAway."""
        async with asyncio.timeout(_ANSWER_S):
            listener, asker = [await self._connect(state, master) for _ in range(2)]
            listener_id = await _ask(listener, "CLIENT", "ID")
            await _ask(listener, "SUBSCRIBE", _CHANNEL)
            await _ask(asker, "CLIENT", "TRACKING", "ON", "REDIRECT", listener_id, "BCAST")
        self._listening = asyncio.create_task(self._listen(listener))

    async def _connect(self, state: State, master: str) -> AbstractConnection:
        connection = state.connection_at(master)
        self._connections.append(connection)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def _listen(self, listener: AbstractConnection) -> None:
        while True:
            message = await read_reply(listener)
            if isinstance(message, RedisError):
                raise message
            if message[0] == b"pong":
                self._pongs.put_nowait(None)
            elif message[2] is None:
                raise WatchLost("the state was emptied meanwhile")
            else:
                self._changed.update(message[2])

    async def ping(self) -> None:
        """Wait for a pong: a server sends what was changed before it. Raises WatchLost."""
        assert self._listening is not None
        await self._connections[0].send_packed_command(pack(("PING",)), check_health=False)
        pong = asyncio.create_task(self._pongs.get())
        await asyncio.wait({pong, self._listening}, timeout=_ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        if not pong.done() or self._listening.done():
            pong.cancel()
            raise WatchLost("the connection that tells what changes was lost")

    async def close(self) -> None:
        """Also ends the tracking: it lives as long as its connections."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        for connection in self._connections:
            await connection.disconnect(nowait=True)


async def _ask(connection: AbstractConnection, *command: Argument) -> Any:
    await connection.send_packed_command(pack(command), check_health=False)
    reply = await read_reply(connection)
    if isinstance(reply, RedisError):
        raise reply
    return reply


class TooSlow(Exception):
    """What was to be done in the pause took longer than writers can be held back."""


@contextlib.asynccontextmanager
async def writes_paused(state: State, longest_s: float, monotonic: Callable[[], float]) -> AsyncIterator[None]:
    """All masters hold back every write (they answer it afterwards), for ``longest_s`` at most.

    Raises TooSlow on leaving when it took longer, so that writes may have slipped in; StateAway, StateFault.
    """
    began_s = monotonic()
    try:
        await state.each_master("CLIENT", "PAUSE", int(1000 * longest_s), "WRITE")
        yield
        took_s = monotonic() - began_s
    finally:
        with contextlib.suppress(StateAway):  # then it ends by itself
            await state.each_master("CLIENT", "UNPAUSE")
    if took_s > longest_s:
        raise TooSlow(f"{took_s:.2f} s")
