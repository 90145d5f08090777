"""What is left of an erasure once it was answered, done by the leader of the shard within 30 s.

Past entries and checkpoints: a checkpoint is written, and after the pause that followers need another, which trims the
feed behind the erasure. Then the shakes of the last minutes lose their name in their stream, and the servers write
their append-only files anew. A job stands in the state until then, so that another leader goes on with it.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import structlog

from discovery.shake_entries import Shake, pack_shakes, unpack_shakes
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.feed import EntryId, parse_id
from discovery.store.stream_rewrite import StreamRewrite

REPLACED_CHUNK_TTL_MS = 9_000
"""Of a checkpoint that holds somebody erased, once it is replaced; who still reads it takes the new one."""

_LATE_MS = 4_000  # a shake that was under way is in its stream by then: each call has a deadline of 3 s
_NODE_MS = 5_000  # ticks fill a node of a stream of the embedded server (16 entries) in 4 s
_FILES = b""  # field of the jobs: those of the past are done, but for the files

log = structlog.get_logger("nearhive.erasing")


class Job(NamedTuple):
    """One erasure: life of the id since, its entry in the feed, the human to clear."""

    life: int
    entry: EntryId
    human: str


class Erasing:
    """The jobs of one shard. ``clear(user, life, human)`` repeats what the act does elsewhere, should it have been
    broken off. ``worker``: a name that no other process has."""

    def __init__(
        self, state: State, shard: int, clear: Callable[[str, int, str], Awaitable[None]], worker: str
    ) -> None:
        self._state = state
        self._shakes = StreamRewrite(state, keys.SHAKE_TAG, f"{worker}-{shard}")
        self._tag = keys.shard_tag(shard)
        self._clear = clear
        self._files = Files(state)
        self._jobs: dict[str, Job] = {}
        self._files_are_old = False
        self._first: EntryId = (0, 0)
        self._newest: EntryId = (0, 0)

    async def look(self) -> None:
        """See which jobs stand. Raises StateAway."""
        flat = await self._state.call("HGETALL", keys.erasing(self._tag))
        rows = dict(zip(flat[::2], flat[1::2], strict=True))
        self._files_are_old = rows.pop(_FILES, None) is not None
        self._jobs = {user.decode(): _job(value.decode()) for user, value in rows.items()}
        if self._jobs:
            feed = keys.feed(self._tag)
            first = await self._state.call("XRANGE", feed, "-", "+", "COUNT", 1)
            newest = await self._state.call("XREVRANGE", feed, "+", "-", "COUNT", 1)
            self._first, self._newest = (parse_id(some[0][0]) if some else (0, 0) for some in (first, newest))

    @property
    def waits_for_a_checkpoint(self) -> bool:
        """Whether somebody erased is in a standing entry or checkpoint, or beside a standing entry in its node, and a
        checkpoint now would help."""
        return any(self._newest[0] >= job.entry[0] + _NODE_MS for job in self._jobs.values() if not self._is_past(job))

    def _is_past(self, job: Job) -> bool:
        return self._first[0] >= job.entry[0] + _NODE_MS

    async def go_on(self) -> None:
        """Do what may be done now. Raises StateAway, StateFault."""
        ready = {user: job for user, job in self._jobs.items() if self._is_past(job)}
        if ready:
            await self._clear_elsewhere(ready)
            self._files.begin_anew()
        elif self._files_are_old and await self._files.are_new():
            await self._state.call("HDEL", keys.erasing(self._tag), _FILES)
            log.info("erasures_done")

    async def _clear_elsewhere(self, jobs: dict[str, Job]) -> None:
        """Afterwards only files name them: what is left to do is noted without a name, as new ones would have it."""
        for user, job in jobs.items():
            await self._clear(user, job.life, job.human)
        if not await self._forget_shakes(jobs):
            return  # the leader of another shard is at it: again at the next look
        await self._state.call("HSET", keys.erasing(self._tag), _FILES, "")
        await self._state.call("HDEL", keys.erasing(self._tag), *jobs)

    async def _forget_shakes(self, jobs: dict[str, Job]) -> bool:
        """Their shakes stand without a name in the stream from now on, as in the workers' folds since the erasure: so
        a worker that folds them anew gives all others the same matches; were they removed, some would match otherwise.
        """
        return await self._shakes.run(lambda entry: _without_names(*entry, jobs))


def _job(value: str) -> Job:
    life, entry, human = value.split("|", 2)
    return Job(int(life), parse_id(entry.encode()), human)


def _without_names(entry: bytes, fields: list[bytes], jobs: dict[str, Job]) -> bytes | None:
    """The content of an entry of the shake stream without the names of these, as far as the shakes are of an earlier
    life; None when it has none of them."""
    content = dict(zip(fields[::2], fields[1::2], strict=True))
    if content[b"k"] != b"s":
        return None
    shakes = unpack_shakes(content[b"d"])
    kept = [shake._replace(person="") if _is_of(entry, shake, jobs) else shake for shake in shakes]
    return pack_shakes(kept) if kept != shakes else None


def _is_of(entry: bytes, shake: Shake, jobs: dict[str, Job]) -> bool:
    job = jobs.get(shake.person)
    return job is not None and parse_id(entry)[0] <= job.entry[0] + _LATE_MS


class Files:
    """The append-only files of all servers, written anew."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._begun: set[str] = set()

    def begin_anew(self) -> None:
        """More was removed: what is being written now is not enough."""
        self._begun.clear()

    async def are_new(self) -> bool:
        """To be asked again and again: True once every server has written its file since the beginning.

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
