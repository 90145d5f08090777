"""The state client: batched commands with a deadline, and never a reply given to the wrong caller.

Why not ``redis.asyncio.Redis`` itself: it costs about 150 us of CPU a command, and a cancelled command may leave its
reply for the next user of the connection (CVE-2023-28858). Here a caller never holds a connection. Calls of one loop
tick share one pipeline, which a background task sends and reads to the end whatever becomes of the callers; a
connection whose replies were not all read is closed.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import hiredis
import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, RedisError, ResponseError

from discovery.errors import StateAway
from discovery.store.scripts import Script, require_one_tag

_BATCHES_IN_FLIGHT = 4  # more only split the group that one fsync could carry
_CALLS_A_BATCH = 1024  # bounds how long one pipeline keeps the single-threaded server from everybody else

# Replies by which the server says that it did not run the command at all.
_NOT_RUN = ("LOADING", "READONLY", "OOM", "MISCONF", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN")

_Argument = bytes | str | int

log = structlog.get_logger("nearhive.state")


class StateFault(Exception):
    """The server refused what this code sent: a wrong script, or a server set up otherwise than Nearhive needs."""


class DurabilityRefused(Exception):
    """A server given by URL that does not keep what it acknowledges."""


class StateUrlRefused(ValueError):
    """A NEARHIVE_STATE_URL that this version cannot use."""


class _Call:
    """One command on its way; ``sent`` tells whether the server may have seen it."""

    __slots__ = ("answer", "command", "script", "sent")

    def __init__(self, command: tuple[_Argument, ...], script: Script | None, answer: "asyncio.Future[Any]") -> None:
        self.command = command
        self.script = script
        self.answer = answer
        self.sent = False


class State:
    """The connection of one process and event loop to the state. Concurrent calls have no order among themselves."""

    connection_errors: tuple[type[Exception], ...] = (RedisError, OSError)  # what a :meth:`blocking` client may raise

    def __init__(self, url: str, *, deadline_s: float = 3.0) -> None:
        """``url``: ``unix:///path``, ``redis://`` or ``rediss://``. Raises StateUrlRefused for anything else."""
        _check_url(url)
        self._url = url
        self._deadline_s = deadline_s
        self._waiting: list[_Call] = []
        self._flush_planned = False
        self._batches: set[asyncio.Task[None]] = set()
        self._blocking: list[Redis] = []
        self._pool: ConnectionPool | None = None

    async def open(self) -> None:
        """Connect. Raises StateAway when the server does not answer within the deadline.

        A closed client may be opened again, in another event loop too.
        """
        self._flush_planned = False  # a loop that ended early may have taken a planned flush with it
        self._pool = ConnectionPool.from_url(self._url, socket_timeout=None, **self._connection_options())
        try:
            await self.call("PING")
        except BaseException:
            await self.close()
            raise

    @property
    def is_open(self) -> bool:
        return self._pool is not None

    async def close(self) -> None:
        """Let the batches in flight end (each has a deadline), then close every connection, blocking ones too."""
        while self._batches:
            await asyncio.wait(self._batches)
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()
        for redis in self._blocking:
            await redis.aclose()
        self._blocking.clear()

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[_Argument], *, within_s: float | None = None
    ) -> Any:
        """Run a script and return its raw reply (bytes, int, list, None), within ``within_s`` or the client's deadline.

        Raises ValueError for keys of two hash tags, StateAway when the state is away, StateFault when the script
        itself failed. With ``StateAway.outcome_unknown`` the script may have run: repeat only under the same
        operation id.
        """
        require_one_tag(keys)
        return await self._ask(("EVALSHA", script.sha1, len(keys), *keys, *args), script, within_s)

    async def call(self, *command: _Argument, within_s: float | None = None) -> Any:
        """Send one plain command and return its raw reply. Errors as in :meth:`run`. Never a blocking command."""
        return await self._ask(command, None, within_s)

    async def call_on(self, key: str, *command: _Argument, within_s: float | None = None) -> Any:
        """:meth:`call` for a command without a key, such as TIME, on the node that owns ``key``."""
        return await self._ask(command, None, within_s)

    async def each_master(self, *command: _Argument) -> list[Any]:
        """Send one command to every master and return their replies, in the order of :meth:`masters`."""
        return [await self.call(*command)]

    def masters(self) -> list[str]:
        """Name of every master, for :meth:`call_at`; ``[""]`` on one server."""
        return [""]

    async def call_at(self, master: str, *command: _Argument, within_s: float | None = None) -> Any:
        """:meth:`call` on one master, for SCAN and such."""
        return await self._ask(command, None, within_s)

    def blocking(self, *, key: str = "", longest_block_s: float = 5.0) -> Redis:
        """A connection apart, for ``XREAD BLOCK`` of at most ``longest_block_s``; :meth:`close` closes it.

        It raises the exceptions of redis-py, and reconnects at its next command.
        """
        options = self._connection_options()
        redis = Redis.from_url(self._url, socket_timeout=longest_block_s + self._deadline_s, **options)
        self._blocking.append(redis)
        return redis

    async def check_durability(self, *, weak: bool = False) -> Literal["always", "weak"]:
        """What an acknowledgement of this server means. Raises DurabilityRefused unless it fsyncs first or ``weak``."""
        found = {name: await self._config(name) for name in ("appendonly", "appendfsync")}
        if found == {"appendonly": "yes", "appendfsync": "always"}:
            return "always"
        if weak:
            return "weak"
        shown = ", ".join(f"{name} = {value or 'not readable'}" for name, value in found.items())
        raise DurabilityRefused(
            f"the state server answers before its data is on disk ({shown}); set 'appendonly yes' and "
            "'appendfsync always' there, or accept the loss of acknowledged writes with NEARHIVE_DURABILITY=weak"
        )

    def _connection_options(self) -> dict[str, Any]:
        # No retries: a script whose reply was lost may have run. RESP2 needs no HELLO, so connecting is one round trip.
        return {
            "protocol": 2,
            "decode_responses": False,
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": self._deadline_s,
            "driver_info": None,
        }

    async def _config(self, name: str) -> str | None:
        try:
            reply = await self.call("CONFIG", "GET", name)
        except StateFault:  # hosted servers often forbid CONFIG
            return None
        return reply[1].decode() if reply else None

    async def _ask(self, command: tuple[_Argument, ...], script: Script | None, within_s: float | None) -> Any:
        call = _Call(command, script, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._plan_flush()
        deadline_s = self._deadline_s if within_s is None else within_s
        try:
            async with asyncio.timeout(deadline_s):
                return await call.answer
        except TimeoutError:
            detail = f"state did not answer within {deadline_s:g} s"
            raise StateAway(detail, outcome_unknown=call.sent) from None

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

    async def _exchange(self, calls: list[_Call]) -> None:
        """Send one batch and answer each of its calls, with a failure at the latest after the deadline."""
        failure: BaseException = StateAway("state connection is closed")
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._exchange_on_a_connection(calls)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            failure = error
            # The text of redis-py names the socket or host: that is for the log, not for callers.
            log.warning("state_calls_failed", calls=len(calls), error=type(error).__name__, reason=str(error))
        finally:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(_away(failure, call.sent))

    async def _exchange_on_a_connection(self, calls: list[_Call]) -> None:
        if self._pool is None:
            return
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        unread = True
        try:
            # Who gave up before anything was sent is not sent: an unasked write would be a surprise.
            calls = [call for call in calls if not call.answer.done()]
            unknown = await _send_and_read(connection, calls) if calls else []
            if unknown:
                await _load_scripts(connection, unknown)
                await _send_and_read(connection, unknown, last=True)
            unread = False
        finally:
            if unread:
                await connection.disconnect(nowait=True)
            await self._pool_release(connection)

    async def _pool_release(self, connection: AbstractConnection) -> None:
        if self._pool is not None:
            await self._pool.release(connection)


def _check_url(url: str) -> None:
    scheme = urlsplit(url).scheme
    if scheme.endswith("+cluster"):
        raise StateUrlRefused(f"NEARHIVE_STATE_URL: {scheme}:// (Cluster) is not supported by this version yet")
    if scheme not in {"unix", "redis", "rediss"}:
        raise StateUrlRefused(f"NEARHIVE_STATE_URL: scheme {scheme!r} is none of unix, redis, rediss")


def _away(failure: BaseException, sent: bool) -> StateAway:
    if isinstance(failure, StateAway):
        return StateAway(failure.detail, outcome_unknown=sent)
    detail = "state did not answer in time" if isinstance(failure, TimeoutError) else "state is away"
    return StateAway(detail, outcome_unknown=sent)


def _pack(command: tuple[_Argument, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(cast(Any, command))  # its stub says a tuple of one
    return packed


async def _send_and_read(connection: AbstractConnection, calls: list[_Call], *, last: bool = False) -> list[_Call]:
    """Send the calls and answer them in order; returns those whose script the server did not know (never if last)."""
    for call in calls:
        call.sent = True
    packed = b"".join([_pack(call.command) for call in calls])
    await connection.send_packed_command(packed, check_health=False)
    unknown: list[_Call] = []
    for call in calls:
        reply = await _read(connection)
        if isinstance(reply, NoScriptError) and call.script is not None and not last:
            unknown.append(call)
        elif not call.answer.done():
            _answer(call, reply)
    return unknown


async def _read(connection: AbstractConnection) -> Any:
    """One reply, an error reply as a value. Raises only when the connection itself is broken."""
    try:
        return await connection.read_response(disconnect_on_error=False)
    except (ResponseError, BusyLoadingError, AuthenticationError) as reply:
        return reply


def _answer(call: _Call, reply: Any) -> None:
    if not isinstance(reply, RedisError):
        call.answer.set_result(reply)
        return
    code = str(getattr(reply, "status_code", None) or str(reply).split(" ", 1)[0])
    # An error raised by a command inside a script ends in "script: <sha>, on ...": the script had begun.
    if code in _NOT_RUN and " script: " not in str(reply):
        call.answer.set_exception(StateAway(f"state refuses commands: {code} {reply}"))
    else:
        what = call.script.name if call.script else str(call.command[0])
        call.answer.set_exception(StateFault(f"{what}: {reply}"))


async def _load_scripts(connection: AbstractConnection, calls: list[_Call]) -> None:
    # NOSCRIPT means that nothing ran, so running again is safe. SCRIPT LOAD, because servers may evict EVAL's scripts.
    texts = {call.script.sha1: call.script.text for call in calls if call.script is not None}
    packed = b"".join([_pack(("SCRIPT", "LOAD", text)) for text in texts.values()])
    await connection.send_packed_command(packed, check_health=False)
    failed = {sha1: reply for sha1 in texts if isinstance(reply := await _read(connection), RedisError)}
    for call in calls:
        if call.script is not None and call.script.sha1 in failed and not call.answer.done():
            _answer(call, failed[call.script.sha1])
