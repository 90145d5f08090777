"""A worker's side of one stream: follow it in order, fold every entry, and let writers wait for their own entry.

Entry: field ``k`` = kind, field ``d`` = payload. Ids are ``ms-seq``; see ``hive_time`` for the clock they drive.
"""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

import structlog
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store.client import State
from discovery.store.hive_time import HiveTime
from discovery.store.ticker import unpack_tick

EntryId = tuple[int, int]
Fold = Callable[[str, bytes, int], None]

TICK = "t"
_READ_COUNT = 2000  # entries a read: about 1 ms of folding, so that requests are not held up
_BLOCK_MS = 500
_STALE_S = 2.0  # ticks come every 250 ms of silence: without any read for so long the server hangs
_RETRY_S = 0.2

log = structlog.get_logger("nearhive.feed")


def parse_id(raw: bytes) -> EntryId:
    """``b"ms-seq"`` as a comparable pair."""
    ms, _, seq = raw.partition(b"-")
    return int(ms), int(seq)


class Follower:
    """Reads one stream from its start and hands (kind, payload, hive time) to ``fold`` in stream order.

    ``on_time(now_ms, epoch_ms)`` is called before each entry is folded, whenever hive time or the epoch length moved.
    """

    def __init__(
        self, state: State, key: str, fold: Fold, on_time: Callable[[int, int], None], monotonic: Callable[[], float]
    ) -> None:
        self._state = state
        self.key = key
        self._fold = fold
        self._on_time = on_time
        self._monotonic = monotonic
        self.hive = HiveTime()
        self.epoch_ms = 0
        self.position: EntryId = (0, 0)
        self.caught_up = False
        self._following = False
        self._read_at_s = 0.0
        self._moved_at_s = 0.0
        self._waiters: list[tuple[EntryId, int, asyncio.Future[None]]] = []
        self._order = count()

    @property
    def now_ms(self) -> int:
        """Hive time of the last folded entry."""
        return self.hive.now_ms

    async def tail(self) -> EntryId:
        """Id of the newest entry of the stream, (0, 0) when empty."""
        rows = await self._state.call("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return parse_id(rows[0][0]) if rows else (0, 0)

    async def catch_up(self) -> None:
        """Fold everything up to the tail that stands now."""
        target = await self.tail()
        while self.position < target:
            await self._read_once(block_ms=None)
        self.caught_up = self._following = True
        self._read_at_s = self._moved_at_s = self._monotonic()

    @property
    def connected(self) -> bool:
        """Whether entries are being read: the last read succeeded, and not long ago."""
        return self._following and self._monotonic() - self._read_at_s < _STALE_S

    def idle_s(self) -> float:
        """Seconds since hive time last moved here."""
        return self._monotonic() - self._moved_at_s

    async def follow(self) -> None:
        """Fold for ever; survives a lost connection by reading on from the last folded entry.

        An entry that cannot be folded ends it: whoever follows must not answer from there on.
        """
        blocking = self._state.blocking(longest_block_s=_BLOCK_MS / 1000)
        task = asyncio.current_task()
        assert task is not None
        try:
            while not task.cancelling():  # a cancelled read of redis-py may return as if nothing had happened
                try:
                    await self._read_once(block_ms=_BLOCK_MS, client=blocking)
                    self._following = True
                except (StateAway, OSError, RedisError) as error:
                    self._following = False
                    log.warning("feed_read_failed", feed=self.key, error=type(error).__name__)
                    await asyncio.sleep(_RETRY_S)
        except Exception as error:
            log.error("feed_fold_failed", feed=self.key, folded="{}-{}".format(*self.position), exc_info=error)
            raise
        finally:
            self._following = False
            await blocking.aclose()

    async def folded(self, entry: EntryId, deadline_s: float) -> None:
        """Return once ``entry`` is folded here. Raises StateAway(outcome_unknown) after ``deadline_s``."""
        if self.position >= entry:
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (entry, next(self._order), waiter))
        try:
            await asyncio.wait_for(waiter, deadline_s)
        except TimeoutError:
            raise StateAway("the change is stored but not yet folded", outcome_unknown=True) from None

    async def fold_to_tail(self, deadline_s: float) -> None:
        """Wait until everything that stands in the stream now is folded (before a 404 or 409)."""
        await self.folded(await self.tail(), deadline_s)

    async def _read_once(self, block_ms: int | None, client: Any = None) -> None:
        after = f"{self.position[0]}-{self.position[1]}"
        command: list[str | int] = ["XREAD", "COUNT", _READ_COUNT]
        command += [] if block_ms is None else ["BLOCK", block_ms]
        command += ["STREAMS", self.key, after]
        call = self._state.call if client is None else client.execute_command
        entries = _entries(await call(*command))
        self._read_at_s = self._monotonic()
        if entries:
            self._moved_at_s = self._read_at_s
        for raw_id, fields in entries:
            self._take(parse_id(raw_id), fields)
        self._wake()

    def _take(self, entry: EntryId, fields: dict[bytes, bytes]) -> None:
        kind = fields[b"k"].decode()
        payload = fields.get(b"d", b"")
        if kind == TICK:
            tick = unpack_tick(payload)
            self.hive.set_offset(tick.offset_ms)
            self.epoch_ms = tick.epoch_ms
        now_ms = self.hive.advance(entry[0])
        self._on_time(now_ms, self.epoch_ms)
        if kind != TICK:
            self._fold(kind, payload, now_ms)
        self.position = entry

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.position:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The (id, fields) rows of an XREAD reply of one stream, in RESP2 or RESP3 form."""
    if not reply:
        return []
    rows = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    while rows and isinstance(rows[0], list) and rows[0] and isinstance(rows[0][0], list | tuple):
        rows = rows[0]
    return [(row[0], _pairs(row[1])) for row in rows]


def _pairs(fields: Any) -> dict[bytes, bytes]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
