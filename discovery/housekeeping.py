"""What workers do for the streams beside following them: each as far as it leads them.

Ticks and leadership are in ``store.keeper``. Here: checkpoints of the people shards, which trim their feeds; trimming
of the shake feed by age; and telling again of store sets whose news a worker could not finish.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from discovery.erasing import REPLACED_CHUNK_TTL_MS, Erasing
from discovery.errors import StateAway
from discovery.presence import Presence
from discovery.shard_packing import pack
from discovery.shard_state import ShardedPeople, Snapshot, state_of
from discovery.store import checkpoints, keys
from discovery.store.checkpoints import Checkpoints, Current, Progress, is_due
from discovery.store.client import State, StateFault
from discovery.store.feed import EntryId, Follower
from discovery.store.keeper import StreamKeeper
from discovery.store.together import run_together

SHAKES_KEPT_MS = 900_000
"""Hive time of shakes in the feed: what a worker must fold to answer for the last ten minutes, and some."""

_LOOK_S = 1.0
_TRIM_LOOK_S = 60.0
_STORES_LOOK_S = 5.0

log = structlog.get_logger("nearhive.housekeeping")


class Checkpointer:
    """Writes the checkpoints of one shard while this worker leads it."""

    def __init__(
        self,
        state: State,
        shard: int,
        keeper: StreamKeeper,
        follower: Follower,
        people: ShardedPeople,
        presence: Presence,
        worker: str,
        monotonic: Callable[[], float],
        erasing: Erasing | None = None,
    ) -> None:
        self._checkpoints = Checkpoints(state, keys.shard_tag(shard))
        self._erasing = erasing
        self._shard = shard
        self._keeper = keeper
        self._follower = follower
        self._people = people
        self._presence = presence
        self._worker = worker
        self._monotonic = monotonic
        self._written = 0
        self._led_by: tuple[str, int] | None = None  # token, and how often the follower had been restarted
        self._since_s = 0.0
        self._counted = (0, 0)  # entries and bytes that the follower had folded at the current checkpoint
        self._current: Current | None = None

    async def step(self) -> None:
        """Write a checkpoint if one is due, and go on with erasures. Raises StateAway, StateFault."""
        token = self._keeper.token
        if token is None or not self._follower.caught_up:
            self._led_by = None
            return
        if (token, self._follower.restarts) != self._led_by:
            await self._begin(token)
            return
        if self._erasing is not None:
            await self._erasing.look()
        if is_due(self._progress()):
            await self._write(token)
        elif self._erasing is not None:
            await self._erasing.go_on()

    async def _begin(self, token: str) -> None:
        """This worker has begun to lead, or to fold anew: it counts from the current checkpoint, whoever wrote it."""
        led_by = token, self._follower.restarts
        self._current = await self._checkpoints.current()
        self._counted = (0, 0)
        self._since_s = self._monotonic() - self._age_s()
        self._led_by = led_by

    def _age_s(self) -> float:
        """Seconds of hive time since the current checkpoint: leaders that follow each other soon must not put off the
        next one for ever."""
        now_ms = self._follower.now_ms
        written_ms = now_ms if self._current is None else self._current.meta.get("hive_ms", now_ms)
        return max(0, now_ms - int(written_ms)) / 1000

    def _progress(self) -> Progress:
        current, edges = self._current, self._presence.edges(self._shard)
        return Progress(
            pause_s=self._monotonic() - self._since_s,
            entries=self._follower.entries_folded - self._counted[0],
            tail_bytes=self._follower.bytes_folded - self._counted[1],
            last_bytes=current.bytes if current else 0,
            edge_ms=edges.edge_ms,
            last_edge_ms=int(current.meta["edge_ms"]) if current else 0,
            epoch_ms=self._follower.epoch_ms,
            erasing=self._in_erasure,
        )

    @property
    def _in_erasure(self) -> bool:
        return self._erasing is not None and self._erasing.waits_for_a_checkpoint

    async def _write(self, token: str) -> None:
        self._since_s = self._monotonic()
        self._written += 1
        room = await asyncio.to_thread(self._people.room, self._shard)
        if not self._follower.caught_up:
            return
        counted = self._follower.entries_folded, self._follower.bytes_folded
        taken = self._people.snapshot(self._shard, self._follower.place, room)
        chunks = await asyncio.to_thread(_packed, taken)
        version = f"{self._worker}-{self._written}"
        meta = {"edge_ms": taken.head.edge_ms, "hive_ms": taken.head.place.now_ms}
        kept_ms = REPLACED_CHUNK_TTL_MS if self._in_erasure else checkpoints.REPLACED_CHUNK_TTL_MS
        position = taken.head.place.position
        written = await self._checkpoints.write(token, version, chunks, position, meta, replaced_ttl_ms=kept_ms)
        log.info("checkpoint", shard=self._shard, outcome=written.outcome, trimmed=written.trimmed)
        if written.outcome == "lost":
            self._follower.doubt()
        self._current = await self._checkpoints.current()
        self._counted = counted if written.outcome == "ok" else (0, 0)


def _packed(taken: Snapshot) -> list[bytes]:
    return pack(state_of(taken))


class ShakeTrimmer:
    """Removes shakes that nobody can be asked about any more, while this worker leads the shake feed."""

    def __init__(self, state: State, keeper: StreamKeeper, follower: Follower) -> None:
        self._checkpoints = Checkpoints(state, keys.SHAKE_TAG)
        self._keeper = keeper
        self._follower = follower
        self._passed: deque[tuple[int, EntryId]] = deque()
        self._restarts = follower.restarts

    async def step(self) -> None:
        """Trim to where the feed stood 15 minutes of hive time ago. Raises StateAway, StateFault."""
        now_ms, token = self._follower.now_ms, self._keeper.token
        if self._restarts != self._follower.restarts:  # what was passed then is another stream's
            self._passed.clear()
            self._restarts = self._follower.restarts
        self._passed.append((now_ms, self._follower.position))
        oldest: EntryId | None = None
        while self._passed and self._passed[0][0] < now_ms - SHAKES_KEPT_MS:
            oldest = self._passed.popleft()[1]
        if token is not None and oldest is not None:
            await self._checkpoints.trim_before(token, oldest)


class Housekeeping:
    """The tasks of one worker. ``keep_shops`` is called by the leader of the news shard."""

    def __init__(
        self,
        keepers: list[StreamKeeper],
        checkpointers: list[Checkpointer],
        trimmer: ShakeTrimmer,
        news_keeper: StreamKeeper,
        keep_shops: Callable[[], Awaitable[None]],
    ) -> None:
        self._keepers = keepers
        self._checkpointers = checkpointers
        self._trimmer = trimmer
        self._news_keeper = news_keeper
        self._keep_shops = keep_shops

    async def run(self) -> None:
        """Until cancelled; then other workers may lead at once."""
        loops = [_repeat(checkpointer.step, _LOOK_S) for checkpointer in self._checkpointers]
        loops += [_repeat(self._trimmer.step, _TRIM_LOOK_S), _repeat(self._tell, _STORES_LOOK_S)]
        await run_together([*(keeper.run() for keeper in self._keepers), *loops])

    @property
    def led(self) -> list[str]:
        """Tags of the streams that this worker leads."""
        return [keeper.tag for keeper in self._keepers if keeper.token is not None]

    async def resign(self) -> None:
        """After :meth:`run` was cancelled: others may lead without waiting. Never raises for a state that is away."""
        await asyncio.gather(*(keeper.resign() for keeper in self._keepers), return_exceptions=True)

    async def _tell(self) -> None:
        if self._news_keeper.token is not None:
            await self._keep_shops()


async def _repeat(step: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        await asyncio.sleep(pause_s)
        try:
            await step()
        except (StateAway, StateFault) as error:
            log.warning("housekeeping_failed", error=type(error).__name__)
