"""A worker's side of one stream: follow it in order, fold every entry, and let writers wait for their own entry.

Entry: field ``k`` = kind, field ``d`` = payload. Ids are ``ms-seq``; see ``hive_time`` for the clock they drive.

A stream gives no error for a place that was trimmed away or lost in a failover: it just goes on with later entries. So
the last folded entry must still stand there, with the same content, whenever something may have been missed: on a new
connection, and when the end of the stream was last reached too long ago (see :meth:`Follower._may_have_missed`).
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any
from zlib import crc32

import structlog
from redis.exceptions import RedisError

from discovery.errors import StateAway
from discovery.store.client import State
from discovery.store.hive_time import HiveTime, unpack_tick

EntryId = tuple[int, int]
Fold = Callable[[str, bytes, int], None]

TICK = "t"
_READ_COUNT = 2000  # entries a read: about 1 ms of folding, so that requests are not held up
_BLOCK_MS = 500
_STALE_S = 2.0  # ticks come every 250 ms of silence: without any read for so long the server hangs
_RETRY_S = 0.2
_SURE_S = 5.0  # trimming leaves what came in the last 10 s: who was at the end so recently has missed nothing
_LEFT_S = 9.0  # and who looks for an entry that was the last one so recently must find it
_PACE_S = 0.08  # under load others' entries gather for so long, else each would cost every worker a command
_FEW_WAITERS = 8  # beyond, they are a load of their own
_SLICE_S = 0.01  # folding gives way to requests, and to the renewal of leases, after so long
_MOST_UNFOLDED = 50_000  # entries that wait for another shard's edge; beyond, the stream keeps them

log = structlog.get_logger("nearhive.feed")


class FeedGap(Exception):
    """The last folded entry is gone: trimmed, lost in a failover, or the state was emptied. What was folded is void."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a stream a state stands: the entry folded last, a checksum of it, and the clock there."""

    position: EntryId
    checksum: int
    now_ms: int
    offset_ms: int
    epoch_ms: int


@dataclass(frozen=True, slots=True)
class _Read:
    """An entry that was read and not folded yet, and the clock there."""

    entry: EntryId
    kind: str
    payload: bytes
    read_at_s: float
    now_ms: int
    offset_ms: int
    epoch_ms: int


def parse_id(raw: bytes) -> EntryId:
    """``b"ms-seq"`` as a comparable pair."""
    ms, _, seq = raw.partition(b"-")
    return int(ms), int(seq)


def checksum_of(kind: str, payload: bytes) -> int:
    """32 bits by which an entry is known again."""
    return crc32(payload, crc32(kind.encode()))


class Follower:
    """Reads one stream from its start, or a :class:`Place`, and hands (kind, payload, hive time) to ``fold`` in order.

    ``on_time(now_ms, epoch_ms)`` is called before each entry is folded. Where it returns False the entry and all later
    ones wait, until :meth:`resume` asks again. ``settle()`` is called after the last entry that could be folded:
    until then ``fold`` may have gathered what it was told.
    """

    def __init__(
        self,
        state: State,
        key: str,
        fold: Fold,
        on_time: Callable[[int, int], bool],
        monotonic: Callable[[], float],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self.key = key
        self._fold = fold
        self._on_time = on_time
        self._settle = settle
        self._monotonic = monotonic
        self._waiters: list[tuple[EntryId, int, asyncio.Future[None]]] = []
        self._order = count()
        self.restarts = 0
        self._moved_at_s = 0.0
        self._pausing: asyncio.Future[None] | None = None
        self._read_at_s = 0.0
        self._level_at_s = float("-inf")  # when all that stood in the stream was read
        self.restart(None)

    def restart(self, place: Place | None) -> None:
        """Forget what was read, and go on from ``place`` (None: the start of the stream). Writers go on waiting."""
        self.restarts += 1
        self.hive = HiveTime()  # of the last entry that was read: while entries wait for an edge time goes on
        self._read_epoch_ms = self.epoch_ms = 0
        self._offset_ms = 0
        self.now_ms = 0  # hive time of the last folded entry
        self.position: EntryId = (0, 0)
        self.checksum = 0
        self.caught_up = False
        self.heard = False  # whether an entry came since the tail was folded: until then the clock is that of the tail
        self.entries_folded = 0  # ticks aside; both since the restart
        self.bytes_folded = 0
        self._following = False
        self._at_end_s: float | None = None
        self._anchor: tuple[EntryId, int, float] = (0, 0), 0, float("-inf")  # an entry, its checksum, when it was last
        self._read_to_end = False  # by the last read
        self._busy = False
        self._brought_at_s = float("-inf")
        self._failure: Exception | None = None
        self._doubted = False
        self._goes_on = False  # whether folding is to be resumed at the loop's next turn
        self._unfolded: deque[_Read] = deque()
        if place is not None:
            self.position, self.checksum = place.position, place.checksum
            self.hive.now_ms = self.now_ms = place.now_ms
            self.hive.set_offset(place.offset_ms)
            self._offset_ms = place.offset_ms
            self._read_epoch_ms = self.epoch_ms = place.epoch_ms

    @property
    def place(self) -> Place:
        """Where the folded state stands."""
        return Place(self.position, self.checksum, self.now_ms, self._offset_ms, self.epoch_ms)

    async def tail(self) -> EntryId:
        """Id of the newest entry of the stream, (0, 0) when empty."""
        rows = await self._state.call("XREVRANGE", self.key, "+", "-", "COUNT", 1)
        return parse_id(rows[0][0]) if rows else (0, 0)

    async def catch_up(self) -> None:
        """Fold everything up to the tail that stands now. Raises FeedGap, StateAway."""
        target = await self.tail()
        if target < self.position:
            raise FeedGap(self.key)
        while self.position < target and (self._goes_on or not self._unfolded):
            if self._goes_on:
                await asyncio.sleep(0)
            else:
                await self._read_once(self._state.call, block_ms=None)
        if self._failure is not None:
            raise self._failure
        self.caught_up = self._following = True
        self._read_at_s = self._moved_at_s = self._monotonic()
        self._level_at_s = self._read_at_s

    @property
    def connected(self) -> bool:
        """Whether reads came back lately; a server that hangs shows only by its silence."""
        return self._following and self._monotonic() - self._read_at_s < _STALE_S

    def idle_s(self) -> float:
        """Seconds since the last entry was folded."""
        return self._monotonic() - self._moved_at_s

    def unread_s(self) -> float:
        """Seconds since a read came back."""
        return self._monotonic() - self._read_at_s

    def lag_s(self) -> float:
        """How old what is folded may be: since the oldest entry not folded yet was read, or since a read reached the
        end; in silence at most the time between ticks."""
        return self._monotonic() - (self._unfolded[0].read_at_s if self._unfolded else self._level_at_s)

    def doubt(self) -> None:
        """The state may have been emptied or replaced under us: :meth:`follow` raises FeedGap at its next read."""
        self._doubted = True

    async def follow(self) -> None:
        """Read on until cancelled; a broken connection is opened again and goes on from the last folded entry.

        Raises FeedGap, and what an entry raised that cannot be folded: whoever follows must not answer from there on.
        """
        task = asyncio.current_task()
        assert task is not None
        try:
            while not task.cancelling():  # a cancelled read of redis-py may return as if nothing had happened
                try:
                    await self._follow_on_a_connection(task)
                except (StateAway, OSError, RedisError) as error:
                    self._following = False
                    log.warning("feed_read_failed", feed=self.key, error=type(error).__name__)
                    await asyncio.sleep(_RETRY_S)
            raise asyncio.CancelledError  # the loop ends no other way: whoever follows anew after a gap must not now
        finally:
            self._following = False

    async def _follow_on_a_connection(self, task: "asyncio.Task[Any]") -> None:
        block_s = _BLOCK_MS / 1000
        blocking = self._state.blocking(key=self.key, longest_block_s=block_s, within_s=_STALE_S - block_s)
        self._at_end_s = None  # this may be another server than the last one
        try:
            while not task.cancelling():
                await self._read_once(blocking.execute_command, block_ms=_BLOCK_MS)
                self._following = True
                await self._pause()
        finally:
            await blocking.aclose()

    async def _pause(self) -> None:
        """Let entries gather when they come fast, until writers wait here, for whom each millisecond counts."""
        while len(self._unfolded) > _MOST_UNFOLDED and self._failure is None:  # noqa: ASYNC110
            await asyncio.sleep(_PACE_S)
        if self._failure is not None:
            raise self._failure
        pause_s = _PACE_S - (self._monotonic() - self._read_at_s)
        if not self._busy or pause_s <= 0 or 0 < len(self._waiters) < _FEW_WAITERS:
            return
        loop = asyncio.get_running_loop()
        self._pausing = loop.create_future()
        timer = loop.call_later(pause_s, self._end_pause)
        try:
            await self._pausing
        finally:
            timer.cancel()
            self._pausing = None

    def _end_pause(self) -> None:
        if self._pausing is not None and not self._pausing.done():
            self._pausing.set_result(None)

    async def folded(self, entry: EntryId, deadline_s: float) -> None:
        """Return once ``entry`` is folded here. Raises StateAway(outcome_unknown) after ``deadline_s``."""
        if self.position >= entry:
            return
        waiter = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (entry, next(self._order), waiter))
        if len(self._waiters) < _FEW_WAITERS:
            self._end_pause()
        try:
            await asyncio.wait_for(waiter, deadline_s)
        except TimeoutError:
            raise StateAway("the change is stored but not yet folded", outcome_unknown=True) from None

    async def fold_to_tail(self, deadline_s: float) -> None:
        """Wait until everything that stands in the stream now is folded (before a 404 or 409)."""
        await self.folded(await self.tail(), deadline_s)

    async def _read_once(self, call: Callable[..., Any], block_ms: int | None) -> None:
        last = self._unfolded[-1].entry if self._unfolded else self.position
        checksum = checksum_of(self._unfolded[-1].kind, self._unfolded[-1].payload) if self._unfolded else self.checksum
        command: list[str | int] = ["XREAD", "COUNT", _READ_COUNT]
        command += [] if block_ms is None else ["BLOCK", block_ms]
        sent_s = self._monotonic()
        entries = _entries(await call(*command, "STREAMS", self.key, _text(last)))
        if self._doubted:
            raise FeedGap(self.key)
        if self._may_have_missed():
            await self._verify(call, last, checksum)
        await self._look_back(call, last, checksum)
        self._read_at_s = self._monotonic()
        self._note_load(len(entries))
        self._read_to_end = len(entries) < _READ_COUNT
        if self._read_to_end:
            self._at_end_s, self._level_at_s = sent_s, self._read_at_s
        self.take((parse_id(raw), f[b"k"].decode(), f.get(b"d", b"")) for raw, f in entries)

    def take(self, entries: Iterable[tuple[EntryId, str, bytes]]) -> None:
        """Entries (id, kind, payload) that follow those taken before: fold them, but what has to wait. Raises what one
        raises that cannot be folded."""
        self._unfolded.extend(self._timed(*entry) for entry in entries)
        self._fold_what_may()

    def _timed(self, entry: EntryId, kind: str, payload: bytes) -> _Read:
        """What was just read, with the clock there."""
        if kind == TICK:
            tick = unpack_tick(payload)
            self.hive.set_offset(tick.offset_ms)
            self._read_epoch_ms = tick.epoch_ms
        now_ms = self.hive.advance(entry[0], is_tick=kind == TICK)
        return _Read(entry, kind, payload, self._read_at_s, now_ms, self.hive.offset_ms, self._read_epoch_ms)

    def _note_load(self, entries: int) -> None:
        """Entries come fast where one read after another brings some within two pauses; but there is no time to pause
        while a read does not reach the end."""
        if entries:
            self._busy = self._read_at_s - self._brought_at_s < 2 * _PACE_S and entries < _READ_COUNT
            self._brought_at_s = self._read_at_s
        else:
            self._busy = False

    def _may_have_missed(self) -> bool:
        """Whether entries after the last one read may have been removed before this read.

        Not when an earlier read on this connection reached the end of the stream less than 5 s ago: all later entries
        are younger than that, and trimming leaves those of 10 s (by the leader's own clock, whatever the server's is).
        """
        return self._at_end_s is None or self._monotonic() - self._at_end_s > _SURE_S

    async def _look_back(self, call: Callable[..., Any], last: EntryId, checksum: int) -> None:
        """After a read: what stood last 5 s ago still stands. Else the stream was emptied while it was read, and went
        on; then nothing else tells that what was folded is of another state. Raises FeedGap."""
        entry, checksum_then, at_s = self._anchor
        now_s = self._monotonic()
        if entry != (0, 0) and now_s - at_s <= _SURE_S:
            return
        if now_s - at_s <= _LEFT_S:
            await self._verify(call, entry, checksum_then)
        self._anchor = (last, checksum, now_s) if self._read_to_end else ((0, 0), 0, now_s)

    async def _verify(self, call: Callable[..., Any], last: EntryId, checksum: int) -> None:
        """After a read: the entry read before it still stands, so that nothing between them was removed. Else FeedGap.

        At the very start of a stream nothing stands before: then its first entry must not have been trimmed, which is
        for whoever found no checkpoint to say.
        """
        if last == (0, 0):
            return
        rows = _rows(await call("XRANGE", self.key, _text(last), _text(last)))
        if not rows or checksum_of(rows[0][1][b"k"].decode(), rows[0][1].get(b"d", b"")) != checksum:
            raise FeedGap(self.key)

    def resume(self) -> None:
        """Ask again whether the waiting entries may be folded. A failure is raised by :meth:`follow`."""
        self._goes_on = False
        try:
            self._fold_what_may()
        except Exception as error:
            self._failure = error

    def _fold_what_may(self) -> None:
        """Fold until an entry has to wait or the slice is over; then go on at the loop's next turn."""
        ends_s = self._monotonic() + _SLICE_S
        try:
            while self._unfolded and self._fold_next(self._unfolded[0]):
                self._unfolded.popleft()
                if self._monotonic() > ends_s:
                    self._go_on()
                    break
        except Exception as error:
            log.error("feed_fold_failed", feed=self.key, folded=_text(self.position), exc_info=error)
            raise
        finally:
            self._settle()
        self._wake()

    def _go_on(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self.resume)

    def _fold_next(self, read: _Read) -> bool:
        """Fold one entry; False while it has to wait."""
        self.epoch_ms = read.epoch_ms
        if not self._on_time(read.now_ms, read.epoch_ms):
            return False
        if read.kind != TICK:
            self._fold(read.kind, read.payload, read.now_ms)
            self.entries_folded += 1
        self.now_ms, self._offset_ms = read.now_ms, read.offset_ms
        self.position, self.checksum = read.entry, checksum_of(read.kind, read.payload)
        self.bytes_folded += len(read.payload)
        self._moved_at_s = self._read_at_s
        self.heard = self.caught_up
        return True

    def _wake(self) -> None:
        while self._waiters and self._waiters[0][0] <= self.position:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)


def _text(entry: EntryId) -> str:
    return f"{entry[0]}-{entry[1]}"


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The (id, fields) rows of an XREAD reply of one stream, in RESP2 or RESP3 form."""
    if not reply:
        return []
    return _rows(next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1])


def _rows(rows: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    while rows and isinstance(rows[0], list) and rows[0] and isinstance(rows[0][0], list | tuple):
        rows = rows[0]
    return [(row[0], _pairs(row[1])) for row in rows]


def _pairs(fields: Any) -> dict[bytes, bytes]:
    return fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
