"""Group commit of position reports: what comes in during a few milliseconds travels as one feed entry."""

import asyncio
import math
from collections.abc import Callable, Sequence

from discovery.reports import Report, pack
from discovery.store.feed import Follower
from discovery.store.writer import FOLD_DEADLINE_S, Writer, append

_SHORTEST_GATHER_S, _LONGEST_GATHER_S = 0.001, 0.07
_CALM_RATE, _BUSY_RATE = 200.0, 1000.0  # callers a second at which the window starts to grow, and is the longest
_ENOUGH = 140  # callers an entry: from 2,000 a second on the window is as short as that allows
_RATE_OVER_S = 0.5


class GatherWindow:
    """How long reports gather for one feed entry: hardly when few come, longer the more come, so that the number of
    commands does not grow with the number of reports. One for all queues of a worker.

    It goes by the rate of those who *joined* an entry that another had opened: somebody who reports again and again,
    each time after the answer, is quick, but gains nothing by waiting for company.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since_s = monotonic()
        self._rate = 0.0  # of joiners, a second, over about the last half second

    def carried(self, callers: int) -> None:
        """An entry was sent for so many callers."""
        self._rate = self._faded() + (callers - 1) / _RATE_OVER_S

    def length_s(self) -> float:
        """The window of an entry that is opened now."""
        rate = self._faded()
        share = min(1.0, max(0.0, rate - _CALM_RATE) / (_BUSY_RATE - _CALM_RATE))
        longest_s = min(_LONGEST_GATHER_S, _ENOUGH / max(rate, 1.0))
        return _SHORTEST_GATHER_S + share * (longest_s - _SHORTEST_GATHER_S)

    def _faded(self) -> float:
        now_s = self._monotonic()
        self._rate *= math.exp((self._since_s - now_s) / _RATE_OVER_S)
        self._since_s = now_s
        return self._rate


class ReportQueue:
    """Group commit for one shard: reports that came in together go into one feed entry, for which each caller waits."""

    def __init__(self, writer: Writer, feed: Follower, window: GatherWindow, within_s: float) -> None:
        self._writer = writer
        self._feed = feed
        self._window = window
        self._within_s = within_s
        self._gathered: list[Report] = []
        self._callers: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, reports: Sequence[Report]) -> None:
        """Return once the reports are durable and folded here. Raises StateAway."""
        loop = asyncio.get_running_loop()
        if not self._callers:
            loop.call_later(self._window.length_s(), self._start)
        # One future each: who leaves takes nobody along, and a shared one behind a shield costs more.
        caller = loop.create_future()
        self._gathered.extend(reports)
        self._callers.append(caller)
        await caller

    def _start(self) -> None:
        reports, callers = self._gathered, self._callers
        self._gathered, self._callers = [], []
        self._window.carried(len(callers))
        task = asyncio.get_running_loop().create_task(self._send(reports, callers))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, reports: list[Report], callers: list[asyncio.Future[None]]) -> None:
        failure: Exception | None = None
        try:
            entry = await append(self._writer.state, self._feed.key, "r", pack(reports), self._within_s, lasting=False)
            await self._feed.folded(entry, FOLD_DEADLINE_S)
        except Exception as error:
            failure = error
        for caller in callers:
            if caller.done():
                continue
            if failure is None:
                caller.set_result(None)
            else:
                caller.set_exception(failure)


class ReportQueues:
    """One queue a shard, made when the number of shards is known."""

    def __init__(self, writer: Writer, monotonic: Callable[[], float], within_s: float) -> None:
        self._writer = writer
        self._window = GatherWindow(monotonic)
        self._within_s = within_s
        self._queues: dict[int, ReportQueue] = {}

    async def add(self, reports: Sequence[Report]) -> None:
        """Return once all are durable and folded here. Raises StateAway: then some may be, as each repeat heals."""
        if len(reports) == 1:
            await self._queue(self._writer.shards.of(reports[0].user)).add(reports)
            return
        by_shard: dict[int, list[Report]] = {}
        for report in reports:
            by_shard.setdefault(self._writer.shards.of(report.user), []).append(report)
        await asyncio.gather(*(self._queue(shard).add(part) for shard, part in by_shard.items()))

    def _queue(self, shard: int) -> ReportQueue:
        if shard not in self._queues:
            feed = self._writer.feeds.followers[shard]
            self._queues[shard] = ReportQueue(self._writer, feed, self._window, self._within_s)
        return self._queues[shard]
