"""Calls on their way to the state: what a command says about itself, and what an error reply means."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import hiredis
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store.scripts import Script

if TYPE_CHECKING:
    from discovery.store.node import Node

Argument = bytes | str | int
Command = tuple[Argument, ...]

# Replies by which the server says that it did not run the command at all.
_NOT_RUN = frozenset(
    {
        *("LOADING", "READONLY", "OOM", "MISCONF", "BUSY", "MASTERDOWN"),
        *("CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN", "MOVED", "ASK"),
    }
)
_NO_WRITES = frozenset({"READONLY", "MISCONF", "NOREPLICAS"})  # of these, by which it refuses every write
# Those by which it says so of every command: the node is as good as away.
_NODE_AWAY = frozenset({"LOADING", "READONLY", "BUSY", "MASTERDOWN", "CLUSTERDOWN"})

# Plain commands that change nothing which must survive. Any other waits for durability, needlessly at worst.
_READS = frozenset(
    {
        *("GET", "MGET", "STRLEN", "GETRANGE", "EXISTS", "TTL", "PTTL", "TYPE", "HGET", "HMGET", "HGETALL", "HVALS"),
        *("HKEYS", "HLEN", "HEXISTS", "HSCAN", "SMEMBERS", "SISMEMBER", "SCARD", "SSCAN", "ZSCORE", "ZRANGE", "ZCARD"),
        *("ZCOUNT", "ZSCAN", "LRANGE", "LLEN", "LINDEX", "XRANGE", "XREVRANGE", "XREAD", "XLEN", "XINFO", "DUMP"),
        *("PING", "ECHO", "TIME", "INFO", "CONFIG", "DBSIZE", "SCAN", "SCRIPT", "COMMAND", "CLIENT", "CLUSTER"),
        *("MEMORY", "OBJECT", "LATENCY", "SLOWLOG", "ACL", "WAIT", "WAITAOF", "BGREWRITEAOF", "ROLE"),
    }
)
_KEYLESS = frozenset(
    {
        *("PING", "ECHO", "TIME", "INFO", "CONFIG", "DBSIZE", "SCAN", "SCRIPT", "COMMAND", "CLIENT", "CLUSTER"),
        *("LATENCY", "SLOWLOG", "ACL", "WAIT", "WAITAOF", "BGREWRITEAOF", "FLUSHALL", "FLUSHDB", "ROLE"),
    }
)
_SECOND_ARGUMENT = frozenset({"XINFO", "XGROUP", "OBJECT", "MEMORY", "BITOP"})
_AFTER_NUMBER = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})


class StateFault(Exception):
    """The server refused what this code sent: a wrong script, or a server set up otherwise than Nearhive needs."""


class Call:
    """One command on its way; ``sent`` tells whether the server may have seen it."""

    __slots__ = (
        "answer",
        "asking",
        "batch",
        "command",
        "lasting",
        "late",
        "node",
        "script",
        "sent",
        "settles",
        "tries",
    )

    def __init__(
        self, command: Command, script: Script | None, answer: "asyncio.Future[Any]", lasting: bool = True
    ) -> None:
        self.lasting = lasting and (script is None or script.lasting)  # whether what it writes must last
        self.settles = False  # whether its answer promises to keep what was told before it
        self.command = command
        self.script = script
        self.answer = answer
        self.sent = False
        self.late = False  # its caller was told that the deadline has passed
        self.asking = False  # to be sent after ASKING: its slot is on the way to that node
        self.tries = 0  # answers by which a node sent it elsewhere
        self.batch: list[Call] | None = None  # which must answer it
        self.node: Node | None = None

    @property
    def writes(self) -> bool:
        """Whether its answer is a promise to keep something."""
        return self.settles or (self.lasting and self.changes)

    @property
    def changes(self) -> bool:
        """Whether it may change anything: every script, and all but the commands known to read."""
        return self.script is not None or str(self.command[0]).upper() not in _READS

    def fail(self, error: BaseException) -> None:
        """Answer with a failure, unless nobody waits any more."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def settle(self, reply: Any) -> None:
        """Answer with the reply of the server."""
        if self.answer.done():
            return
        if isinstance(reply, RedisError):
            self.answer.set_exception(self._failure(reply))
        else:
            self.answer.set_result(reply)

    def _failure(self, reply: RedisError) -> Exception:
        code = refusal(reply)
        if code in ("MOVED", "ASK"):
            return StateFault("the state server is part of a Cluster: NEARHIVE_STATE_URL must be redis+cluster://...")
        if code is not None:
            return StateAway(f"state refuses commands: {code} {reply}")
        what = self.script.name if self.script else str(self.command[0])
        return StateFault(f"{what}: {reply}")


def pack(command: Command) -> bytes:
    """The command as the server reads it."""
    packed: bytes = hiredis.pack_command(cast(Any, command))  # its stub says a tuple of one
    return packed


def refusal(reply: RedisError) -> str | None:
    """The code of an error reply by which the server says that it did not run the command, else None."""
    code = str(getattr(reply, "status_code", None) or str(reply).split(" ", 1)[0])
    # An error raised by a command inside a script ends in "script: <sha>, on ...": the script had begun. But what
    # refuses every write does not change while a script runs, so it has refused the first one too.
    return code if code in _NOT_RUN and (code in _NO_WRITES or " script: " not in str(reply)) else None


def node_is_away(reply: RedisError) -> bool:
    """Whether by this error reply the node refuses every command."""
    return refusal(reply) in _NODE_AWAY


def away(failure: BaseException, sent: bool) -> StateAway:
    """What a caller is told when its batch failed."""
    if isinstance(failure, StateAway):
        return StateAway(failure.detail, outcome_unknown=sent)
    detail = "state did not answer in time" if isinstance(failure, TimeoutError) else "state is away"
    return StateAway(detail, outcome_unknown=sent)


def key_of(command: Command) -> str | None:
    """The key by which a Cluster routes a plain command, None when it has none."""
    name = str(command[0]).upper()
    if name in _KEYLESS:
        return None
    if name in ("XREAD", "XREADGROUP"):
        words = [word.upper() if isinstance(word, str) else word for word in command]
        at = words.index("STREAMS") + 1
    elif name in _AFTER_NUMBER:
        at = 3
    else:
        at = 2 if name in _SECOND_ARGUMENT else 1
    return _text(command[at]) if at < len(command) else None


def _text(argument: Argument) -> str:
    return argument.decode() if isinstance(argument, bytes) else str(argument)
