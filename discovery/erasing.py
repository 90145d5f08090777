"""What is left of an erasure once it was answered, done by the leader of the shard within 30 s.

Past entries and checkpoints: a checkpoint is written, and after the pause that followers need another, which trims the
feed behind the erasure. Then the shakes of the last minutes leave their stream, and the servers write their
append-only files anew. A job stands in the state until then, so that another leader goes on with it.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import structlog

from discovery.shake_entries import unpack_shakes
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.feed import EntryId, parse_id

REPLACED_CHUNK_TTL_MS = 9_000
"""Of a checkpoint that holds somebody erased, once it is replaced; who still reads it takes the new one."""

_LATE_MS = 4_000  # a shake that was under way is in its stream by then: each call has a deadline of 3 s
_PAGE = 1000

log = structlog.get_logger("nearhive.erasing")


class Job(NamedTuple):
    """One erasure: life of the id since, its entry in the feed, the human to clear."""

    life: int
    entry: EntryId
    human: str


class Erasing:
    """The jobs of one shard. ``clear(user, life, human)`` repeats what the act does elsewhere, should it have been
    broken off."""

    def __init__(self, state: State, shard: int, clear: Callable[[str, int, str], Awaitable[None]]) -> None:
        self._state = state
        self._tag = keys.shard_tag(shard)
        self._clear = clear
        self._files = Files(state)
        self._jobs: dict[str, Job] = {}
        self._cleared: dict[str, Job] = {}
        self._in_files: dict[str, Job] = {}  # of which no new file will hold anything
        self._first: EntryId = (0, 0)

    async def look(self) -> None:
        """See which jobs stand. Raises StateAway."""
        flat = await self._state.call("HGETALL", keys.erasing(self._tag))
        self._jobs = {user.decode(): _job(value.decode()) for user, value in zip(flat[::2], flat[1::2], strict=True)}
        if self._jobs:
            rows = await self._state.call("XRANGE", keys.feed(self._tag), "-", "+", "COUNT", 1)
            self._first = parse_id(rows[0][0]) if rows else (0, 0)

    @property
    def waits_for_a_checkpoint(self) -> bool:
        """Whether somebody erased is in a standing entry or checkpoint."""
        return any(job.entry >= self._first for job in self._jobs.values())

    async def go_on(self) -> None:
        """Do what may be done now. Raises StateAway, StateFault."""
        ready = {user: job for user, job in self._jobs.items() if job.entry < self._first}
        new = {user: job for user, job in ready.items() if self._cleared.get(user) != job}
        if new:
            for user, job in new.items():
                await self._clear(user, job.life, job.human)
            await self._forget_shakes(new)
            self._cleared |= new
        if not self._in_files:
            self._in_files = dict(self._cleared)
        if self._in_files and await self._files.are_new():
            await self._end(self._in_files)

    async def _end(self, done: dict[str, Job]) -> None:
        standing = [user for user, job in done.items() if self._jobs.get(user) == job]
        if standing:
            await self._state.call("HDEL", keys.erasing(self._tag), *standing)
        self._cleared = {user: job for user, job in self._cleared.items() if done.get(user) != job}
        self._in_files = {}
        log.info("erasures_done", people=len(standing))

    async def _forget_shakes(self, jobs: dict[str, Job]) -> None:
        """Remove their shakes from the stream. In the workers' folds they stand without a name."""
        stream, start = keys.feed(keys.SHAKE_TAG), "-"
        while True:
            rows = await self._state.call("XRANGE", stream, start, "+", "COUNT", _PAGE)
            theirs = [entry for entry, fields in rows if _is_of(entry, fields, jobs)]
            if theirs:
                await self._state.call("XDEL", stream, *theirs)
            if len(rows) < _PAGE:
                return
            start = "(" + rows[-1][0].decode()


def _job(value: str) -> Job:
    life, entry, human = value.split("|", 2)
    return Job(int(life), parse_id(entry.encode()), human)


def _is_of(entry: bytes, fields: list[bytes], jobs: dict[str, Job]) -> bool:
    """Whether an entry of the shake stream is a shake of an earlier life of one of these."""
    content = dict(zip(fields[::2], fields[1::2], strict=True))
    if content[b"k"] != b"s":
        return False
    found = (jobs.get(shake.person) for shake in unpack_shakes(content[b"d"]))
    return any(job is not None and parse_id(entry)[0] <= job.entry[0] + _LATE_MS for job in found)


class Files:
    """The append-only files of all servers, written anew."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._begun: set[str] = set()

    async def are_new(self) -> bool:
        """To be asked again and again: True once every server has written its file since this was first asked.

        A server that may not be told to, or keeps none, is left out.
        """
        nodes = list(self._state.nodes())
        for node in nodes:
            if node not in self._begun and await self._begin(node):
                self._begun.add(node)
        if not self._begun.issuperset(nodes) or not all([await self._ended(node) for node in nodes]):
            return False
        self._begun.clear()
        return True

    async def _begin(self, node: str) -> bool:
        """False when it has to wait for one that began before."""
        if not _says(await self._about(node), "aof_enabled"):
            return True
        try:
            await self._state.call_node(node, "BGREWRITEAOF")
        except StateFault as refusal:
            if "in progress" in str(refusal):
                return False
            log.warning("file_not_rewritten", node=node, reason=str(refusal))
        return True

    async def _ended(self, node: str) -> bool:
        about = await self._about(node)
        if _says(about, "aof_rewrite_in_progress") or _says(about, "aof_rewrite_scheduled"):
            return False
        if "aof_last_bgrewrite_status:err" in about and _says(about, "aof_enabled"):
            self._begun.discard(node)
            return False
        return True

    async def _about(self, node: str) -> set[str]:
        reply: bytes = await self._state.call_node(node, "INFO", "persistence")
        return set(reply.decode().split("\r\n"))


def _says(about: Iterable[str], name: str) -> bool:
    return f"{name}:1" in about
