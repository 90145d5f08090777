"""Changed store sets on their way through the feed: told to every worker, loaded by each, and known to be loaded."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import orjson
import structlog

from discovery.errors import Conflict, StateAway
from discovery.store.client import State, StateFault
from discovery.store.feed import EntryId
from discovery.store.feeds import Feeds
from discovery.store.writer import WRITE_DEADLINE_S, Others, append

NEWS_SHARD = 0
"""The shard whose feed carries the news, so that they have one order."""

# How long all may take to load: 60 s, and 560 s with a million stores, which take a worker 20 s of an idle core. Who
# waits does not wait for the dead: a worker that ends loses its lease within 2 s.
_EVERYWHERE_LEAST_S = 60.0
_EVERYWHERE_EACH_S = 0.5e-3
_RETRY_S = 1.0

log = structlog.get_logger("nearhive.stores")


class NewsPosition:
    """How far this worker has loaded what the feed of one shard told of store sets."""

    def __init__(self, news: "StoreNews", shard: int) -> None:
        self._news = news
        self._shard = shard

    @property
    def position(self) -> EntryId:
        """The newest entry up to which all is loaded."""
        return self._news.loaded(self._shard)


class StoreNews:
    """``load(brand, version)`` brings this worker up to date; ``others`` are all workers that may answer; ``held()`` is
    how many stores of all brands are held here: what somebody loads may wait for another brand's set."""

    def __init__(
        self,
        state: State,
        feeds: Feeds,
        others: Others,
        load: Callable[[str, int], Awaitable[None]],
        held: Callable[[], int],
    ) -> None:
        self._state = state
        self._feeds = feeds
        self._others = others
        self._load = load
        self._held = held
        self._numbers = count()
        self._pending: dict[int, EntryId] = {}  # load on its way -> how far the feed was folded before its news
        self._tasks: set[asyncio.Task[None]] = set()

    async def announce(self, brand: str, version: int) -> None:
        """Tell every worker, and return when all have loaded it: the larger the sets are, the longer they may take.
        Raises StateAway; who was told and is not ready goes on loading."""
        feed = self._feeds.followers[NEWS_SHARD]
        entry = await append(self._state, feed.key, "b", orjson.dumps([brand, version]), WRITE_DEADLINE_S)
        await feed.folded(entry, WRITE_DEADLINE_S)
        within_s = _EVERYWHERE_LEAST_S + _EVERYWHERE_EACH_S * self._held()
        await self._others.everyone_loaded(NEWS_SHARD, entry, within_s)

    def loaded(self, shard: int) -> EntryId:
        """Up to where in the feed of a shard this worker has folded all, and loaded all that was told of."""
        if shard == NEWS_SHARD and self._pending:
            return min(self._pending.values())
        return self._feeds.followers[shard].position

    def fold(self, payload: bytes) -> None:
        """A brand's set changed. While this feed is being restored nothing is loaded: ``load_all`` follows."""
        if not self._feeds.is_followed(NEWS_SHARD):
            return
        brand, version = orjson.loads(payload)
        self.start(lambda: self._load(brand, version), self._feeds.followers[NEWS_SHARD].position)

    def start(self, load: Callable[[], Awaitable[None]], before: EntryId = (0, 0)) -> None:
        """Load in the background until it is done: a missed change would leave this worker with an old set.

        ``before``: up to where in the feed all is loaded without this.
        """
        number = next(self._numbers)
        self._pending[number] = before
        task = asyncio.get_running_loop().create_task(self._load_until_done(number, load))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_until_done(self, number: int, load: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await load()
                del self._pending[number]
                return
            except (StateAway, StateFault, Conflict) as error:
                log.warning("stores_not_loaded", error=type(error).__name__)
            except Exception:  # a set that cannot be read: importers wait for it, so it must not be forgotten
                log.exception("stores_not_loaded")
            await asyncio.sleep(_RETRY_S)

    async def stop(self) -> None:
        """End what is still being loaded."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
