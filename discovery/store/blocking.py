"""A connection apart from the batches, for commands that wait (XREAD BLOCK)."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from discovery.store.calls import Argument, Command, pack
from discovery.store.lane import read_reply, send
from discovery.store.node import Node


class Blocking:
    """Connects at its first command, and again, to whoever owns the key by then, at the next command after a failure.

    A key that has changed its owner meanwhile is such a failure. One command at a time. Raises RedisError or OSError; a
    command that raised may have run.
    """

    def __init__(
        self,
        locate: Callable[[Command], Node],
        lost: Callable[[Node, Exception], None],
        ended: Callable[["Blocking"], None],
        timeout_s: float,
    ) -> None:
        """``locate``: the node for a command; ``lost`` is told of failures; ``timeout_s``: of one exchange."""
        self._locate = locate
        self._lost = lost
        self._ended = ended
        self._timeout_s = timeout_s
        self._node: Node | None = None
        self._connection: AbstractConnection | None = None

    async def execute_command(self, *command: Argument) -> Any:
        """Send a command and return its raw reply."""
        return (await self.execute_commands(command))[0]

    async def execute_commands(self, *commands: Command) -> list[Any]:
        """Send commands in one go and return their raw replies in order; raises the first error among them."""
        node = self._locate(commands[0])
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connected(node)
                await send(connection, b"".join(map(pack, commands)))
                replies = [await read_reply(connection) for _ in commands]
        except (RedisError, OSError) as error:
            await self._disconnect()
            self._lost(node, error)
            raise
        except BaseException:
            await self._disconnect()
            raise
        for reply in replies:
            if isinstance(reply, RedisError):
                self._lost(node, reply)
                raise reply
        return replies

    async def aclose(self) -> None:
        """Close the connection; the next command would open another."""
        self._ended(self)
        await self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _connected(self, node: Node) -> AbstractConnection:
        if self._connection is not None and node is not self._node:
            # Never a silent change: the new owner may lack what was read from the old one.
            raise RedisConnectionError("the key has another owner now")
        if self._connection is None:
            self._node, self._connection = node, node.connection()
            await self._connection.connect()  # type: ignore[no-untyped-call]
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection, self._node = self._connection, None, None
        if connection is not None:
            await connection.disconnect(nowait=True)
