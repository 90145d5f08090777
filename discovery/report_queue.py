"""Group commit of position reports: what comes in during a few milliseconds travels as one feed entry."""

import asyncio
from collections.abc import Callable, Sequence

from discovery.reports import Report, pack
from discovery.store.feed import EntryId, Follower
from discovery.store.writer import FOLD_DEADLINE_S, Writer, append

_SHORTEST_GATHER_S, _LONGEST_GATHER_S = 0.002, 0.05
_CALM_RATE, _BUSY_RATE = 100.0, 900.0  # reports a second at which the window starts to grow, and over how many
_RATE_OVER_S = 0.5


class GatherWindow:
    """How long reports gather for one feed entry: hardly when few come, longer the more come, so that the number of
    commands does not grow with the number of reports.

    At r reports a second an entry carries about r times the window: 50 from 1,000 a second on.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since_s = monotonic()
        self._rate = 0.0

    def next_s(self, gathered: int) -> float:
        """The window after an entry that carried ``gathered`` reports."""
        now_s = self._monotonic()
        passed_s = max(now_s - self._since_s, _SHORTEST_GATHER_S)
        self._since_s = now_s
        self._rate += (gathered / passed_s - self._rate) * min(1.0, passed_s / _RATE_OVER_S)
        share = min(1.0, max(0.0, self._rate - _CALM_RATE) / _BUSY_RATE)
        return _SHORTEST_GATHER_S + share * (_LONGEST_GATHER_S - _SHORTEST_GATHER_S)


class ReportQueue:
    """Group commit for one shard: reports that came in together go into one feed entry, for which each caller waits."""

    def __init__(self, writer: Writer, feed: Follower, window: GatherWindow, within_s: float) -> None:
        self._writer = writer
        self._feed = feed
        self._window = window
        self._within_s = within_s
        self._window_s = _SHORTEST_GATHER_S
        self._gathered: list[Report] = []
        self._sent: asyncio.Future[EntryId] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, reports: Sequence[Report]) -> None:
        """Return once the reports are durable and folded here. Raises StateAway."""
        if self._sent is None:
            loop = asyncio.get_running_loop()
            self._sent = loop.create_future()
            loop.call_later(self._window_s, self._start)
        sent = self._sent
        self._gathered.extend(reports)
        entry = await asyncio.shield(sent)
        await self._feed.folded(entry, FOLD_DEADLINE_S)

    def _start(self) -> None:
        reports, sent = self._gathered, self._sent
        self._gathered, self._sent = [], None
        self._window_s = self._window.next_s(len(reports))
        assert sent is not None
        task = asyncio.get_running_loop().create_task(self._send(reports, sent))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, reports: list[Report], sent: asyncio.Future[EntryId]) -> None:
        try:
            sent.set_result(await append(self._writer.state, self._feed.key, "r", pack(reports), self._within_s))
        except Exception as error:
            sent.set_exception(error)
            sent.exception()  # a caller who left must not leave "never retrieved" behind


class ReportQueues:
    """One queue a shard, made when the number of shards is known."""

    def __init__(self, writer: Writer, monotonic: Callable[[], float], within_s: float) -> None:
        self._writer = writer
        self._monotonic = monotonic
        self._within_s = within_s
        self._queues: dict[int, ReportQueue] = {}

    async def add(self, reports: Sequence[Report]) -> None:
        """Return once all are durable and folded here. Raises StateAway: then some may be, as each repeat heals."""
        by_shard: dict[int, list[Report]] = {}
        for report in reports:
            by_shard.setdefault(self._writer.shards.of(report.user), []).append(report)
        await asyncio.gather(*(self._queue(shard).add(part) for shard, part in by_shard.items()))

    def _queue(self, shard: int) -> ReportQueue:
        if shard not in self._queues:
            feed = self._writer.feeds.followers[shard]
            self._queues[shard] = ReportQueue(self._writer, feed, GatherWindow(self._monotonic), self._within_s)
        return self._queues[shard]
