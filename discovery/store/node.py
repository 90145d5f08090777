"""One server as the client sees it: its connections, its breaker, and its lanes for reads and writes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store.breaker import Breaker
from discovery.store.calls import Call, Command, pack
from discovery.store.lane import Ack, Hooks, Lane, read_reply, send


@dataclass(frozen=True, slots=True)
class Ways:
    """How the nodes of one client behave: their deadline, and whom they tell of redirected calls and of failures."""

    deadline_s: float
    redirect: Callable[[Call, RedisError], bool]
    trouble: Callable[["Node"], None]

    def connection_options(self) -> dict[str, Any]:
        """Of redis-py. No retries: a script whose reply was lost may have run. RESP2 needs no HELLO, so connecting is
        one round trip."""
        return {
            "protocol": 2,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": None,
            "socket_connect_timeout": self.deadline_s,
            "driver_info": None,
        }


class Node:
    """A server, seen from one event loop. ``name`` is host:port on Cluster and empty for the only server."""

    def __init__(self, name: str, url: str, ways: Ways) -> None:
        self.name = name
        self.breaker = Breaker(asyncio.get_running_loop().call_later)
        self._ways = ways
        self._pool = ConnectionPool.from_url(url, **ways.connection_options())
        self._ack: Ack | None = None
        self._reads = self._writes = self._lane(None)
        self._lanes = [self._reads]

    @property
    def host(self) -> str:
        return self.name.rpartition(":")[0]

    def set_ack(self, ack: Ack | None) -> None:
        """How the writes of this node are made durable from now on. Reads keep a lane that never waits for it."""
        if ack != self._ack:
            self._ack = ack
            self._writes = self._reads if ack is None else self._lane(ack)
            self._lanes.append(self._writes)

    def submit(self, call: Call) -> None:
        """Take a call: it will be answered, or fail with StateAway."""
        call.node = self
        if self.breaker.is_open and not self.breaker.admits():
            call.fail(StateAway("state is away"))
            self._ways.trouble(self)  # its keys may have another owner by now
        elif self._ack is None or not call.writes:
            self._reads.submit(call)
        else:
            self._writes.submit(call)

    def gave_up(self, call: Call) -> None:
        """The caller's deadline has passed."""
        call.late = True
        self._reads.failed()

    async def alone(self, command: Command, within_s: float) -> Any:
        """Ask past lanes and breaker; an error reply is raised. Raises RedisError or OSError."""
        async with asyncio.timeout(within_s):
            connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            unread = True
            try:
                await send(connection, pack(command))
                reply = await read_reply(connection)
                unread = False
            finally:
                if unread:
                    await connection.disconnect(nowait=True)
                await self._pool.release(connection)
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def connection(self) -> AbstractConnection:
        """A connection apart, not yet connected; the caller disconnects it."""
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def close(self) -> None:
        """Let the batches in flight end, then close every connection but those apart."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))
        await self._pool.aclose()

    def _lane(self, ack: Ack | None) -> Lane:
        hooks = Hooks(self._ways.redirect, lambda: self._ways.trouble(self))
        return Lane(self._pool, self.breaker, hooks, deadline_s=self._ways.deadline_s, ack=ack)
