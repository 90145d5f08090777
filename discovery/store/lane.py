"""A lane: batched commands to one server, and never a reply given to the wrong caller.

Why not ``redis.asyncio.Redis`` itself: it costs about 150 us of CPU a command, and a cancelled command may leave its
reply for the next user of the connection (CVE-2023-28858). Here a caller never holds a connection. Calls of one loop
tick share one pipeline, which a background task sends and reads to the end whatever becomes of the callers; a
connection whose replies were not all read is closed.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from discovery.errors import StateAway
from discovery.store.breaker import Breaker
from discovery.store.calls import Call, Command, away, node_is_away, pack

MOST_WAITING = 10_000  # bounds what a server that hangs can pile up here
_BATCHES_IN_FLIGHT = 4  # more only split the group that one fsync could carry
_CALLS_A_BATCH = 1024  # bounds how long one pipeline keeps the single-threaded server from everybody else
_ASKING = pack(("ASKING",))

log = structlog.get_logger("nearhive.state")


@dataclass(frozen=True, slots=True)
class Ack:
    """What ends each batch that wrote: WAIT or WAITAOF, the copies it must count, and how long it may take."""

    command: str
    asked: tuple[int, ...]
    longest_s: float

    def packed(self, deadline_s: float) -> bytes:
        """``deadline_s``: of the batch. When it passes first nobody knows the outcome either."""
        ms = max(1, int(1000 * min(self.longest_s, 0.9 * deadline_s)))
        return pack((self.command, *self.asked, ms))

    def is_met(self, reply: Any) -> bool:
        """Whether the reply counts as many copies as asked; an error reply does not."""
        if isinstance(reply, RedisError):
            return False
        counted = reply if isinstance(reply, list) else [reply]
        return all(got >= asked for got, asked in zip(counted, self.asked, strict=True))


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a lane tells the topology: a call that must go elsewhere (True = taken over), and that its node fails."""

    redirect: Callable[[Call, RedisError], bool]
    trouble: Callable[[], None]


class Lane:
    """The batches to one server, at most four in flight. With ``ack`` a lane of writes."""

    def __init__(
        self, pool: ConnectionPool, breaker: Breaker, hooks: Hooks, *, deadline_s: float, ack: Ack | None
    ) -> None:
        self._pool = pool
        self._breaker = breaker
        self._hooks = hooks
        self._deadline_s = deadline_s
        self._ack = ack
        self._waiting: list[Call] = []
        self._flush_planned = False
        self._batches: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, call: Call) -> None:
        """Take a call; it will be answered or failed, at the latest a deadline after it was sent."""
        if self._closed:
            call.fail(StateAway("state connection is closed"))
        elif len(self._waiting) >= MOST_WAITING:
            call.fail(StateAway("too many calls wait for the state"))
        else:
            self._waiting.append(call)
            self._plan_flush()

    async def close(self) -> None:
        """Let the batches in flight end (each has a deadline) and fail what still waits."""
        self._closed = True
        while self._batches:
            await asyncio.wait(self._batches)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.fail(StateAway("state connection is closed"))

    def _plan_flush(self) -> None:
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Start a batch of what waits. While all slots are taken calls gather, so load makes the groups larger."""
        self._flush_planned = False
        while self._waiting and len(self._batches) < _BATCHES_IN_FLIGHT:
            calls, self._waiting = self._waiting[:_CALLS_A_BATCH], self._waiting[_CALLS_A_BATCH:]
            batch = asyncio.get_running_loop().create_task(self._exchange(calls))
            self._batches.add(batch)
            batch.add_done_callback(self._batch_ended)

    def _batch_ended(self, batch: "asyncio.Task[None]") -> None:
        self._batches.discard(batch)
        if self._waiting:
            self._plan_flush()

    async def _exchange(self, calls: list[Call]) -> None:
        """Send one batch and answer each of its calls, with a failure at the latest after the deadline."""
        failure: BaseException = StateAway("state connection is closed")
        for call in calls:
            call.batch = calls
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._exchange_on_a_connection(calls)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            failure = error
            # The text of redis-py names the socket or host: that is for the log, not for callers.
            log.warning("state_calls_failed", calls=len(calls), error=type(error).__name__, reason=str(error))
            self.failed()
        finally:
            for call in calls:
                if call.batch is calls and not call.answer.done():
                    call.fail(away(failure, call.sent))

    def failed(self) -> None:
        """A call or a batch went unanswered."""
        if self._breaker.failed():
            log.warning("state_breaker_opened")
        self._hooks.trouble()

    async def _exchange_on_a_connection(self, calls: list[Call]) -> None:
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        unread = True
        try:
            # Who gave up before anything was sent is not sent: an unasked write would be a surprise.
            calls = [call for call in calls if not call.answer.done()]
            unknown = await self._send_and_read(connection, calls) if calls else []
            if unknown:
                await _load_scripts(connection, unknown)
                await self._send_and_read(connection, unknown, last=True)
            unread = False
        finally:
            if unread:
                await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _send_and_read(
        self, connection: AbstractConnection, calls: list[Call], *, last: bool = False
    ) -> list[Call]:
        """Send calls, answer them in order; returns those whose script the server did not know (never if last)."""
        for call in calls:
            call.sent = True
        packed = b"".join([_ASKING + pack(call.command) if call.asking else pack(call.command) for call in calls])
        if self._ack is not None:
            packed += self._ack.packed(self._deadline_s)
        await send(connection, packed)
        unknown: list[Call] = []
        held: list[tuple[Call, Any]] = []
        for call in calls:
            if call.asking:
                await read_reply(connection)
            reply = await read_reply(connection)
            if isinstance(reply, RedisError):
                if isinstance(reply, NoScriptError) and call.script is not None and not last:
                    unknown.append(call)
                else:
                    self._take_error(call, reply)
                continue
            if self._breaker.failing:
                self._replied(call)
            if self._ack is not None:
                held.append((call, reply))
            elif not call.answer.done():
                call.answer.set_result(reply)
        if self._ack is not None:
            _release(held, self._ack, await read_reply(connection))
        return unknown

    def _take_error(self, call: Call, reply: RedisError) -> None:
        if node_is_away(reply):
            self.failed()
        else:
            self._replied(call)
        redirected = isinstance(reply, AskError | TryAgainError) and self._hooks.redirect(call, reply)
        if not redirected:
            call.settle(reply)

    def _replied(self, call: Call) -> None:
        # A reply after the deadline is no use to anybody: a server that only gives such stays shut off.
        if not call.late and self._breaker.replied():
            log.info("state_breaker_closed")


def _release(held: list[tuple[Call, Any]], ack: Ack, reply: Any) -> None:
    """Give out the replies of writes that are durable now; else nobody knows whether they will last."""
    if ack.is_met(reply):
        for call, answer in held:
            call.settle(answer)
    elif held:
        log.warning("state_writes_not_durable", calls=len(held), command=ack.command, reply=str(reply))
        for call, _ in held:
            call.fail(StateAway("the write was not confirmed durable in time", outcome_unknown=True))


async def send(connection: AbstractConnection, packed: bytes) -> None:
    """Send packed commands. Raises RedisError or OSError."""
    try:
        await connection.send_packed_command(packed, check_health=False)
    except RuntimeError as error:  # uvloop's word for a connection that the other side has reset
        raise ConnectionResetError(str(error)) from error


async def read_reply(connection: AbstractConnection) -> Any:
    """One reply, an error reply as a value. Raises only when the connection itself is broken."""
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError, AuthenticationError) as reply:
        return reply


async def _load_scripts(connection: AbstractConnection, calls: list[Call]) -> None:
    # NOSCRIPT means that nothing ran, so running again is safe. SCRIPT LOAD, because servers may evict EVAL's scripts.
    texts = {call.script.sha1: call.script.text for call in calls if call.script is not None}
    commands: list[Command] = [("SCRIPT", "LOAD", text) for text in texts.values()]
    await send(connection, b"".join(map(pack, commands)))
    failed = {sha1: reply for sha1 in texts if isinstance(reply := await read_reply(connection), RedisError)}
    for call in calls:
        if call.script is not None and call.script.sha1 in failed:
            call.settle(failed[call.script.sha1])
