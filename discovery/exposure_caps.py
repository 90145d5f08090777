"""Caps on how much of the people around one human is shown in a day: what watching and harvesting cost.

- One viewer is shown one stranger in at most 6 stranger epochs a day: in the first 4 in which the viewer looks
  everybody, after that each stranger in 2 of the day's epochs, drawn by a key.
- A human whose accounts are younger than 7 days is shown at most 50 strangers a day.
- Nearby and Shake are answered from at most 30 cells a day.

No answer waits for the counting, and none of it asks the state: the worker counts at once what it answers, and tells
the feed of it within half a second, together with what others asked meanwhile. So another worker may count that much
later; what both count is one. (`docs/decisions/` has the reasons.) Counts act on the human where tokens say who it is.
"""

import asyncio
from functools import lru_cache

import numpy as np
import structlog
from numpy.typing import NDArray

from discovery.errors import CellsUsedUp, StateAway
from discovery.exposure import DAY_MS, Exposure, Look, pack_looks
from discovery.people import People
from discovery.sealed import Sealer
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.writer import append
from geo import cells
from geo.kernels import keyed

FULL_EPOCHS = 4
MORE_EPOCHS = 2
MOST_CELLS = 30
MOST_STRANGERS = 50
YOUNG_MS = 7 * DAY_MS
_GATHER_S = 0.5

log = structlog.get_logger("nearhive.exposure")


class ExposureCaps:
    """The rules; ``on=False`` lets everything pass and counts nothing."""

    def __init__(self, people: People, sealer: Sealer, state: State, within_s: float, *, on: bool) -> None:
        self.on = on
        self._people = people
        self._exposure = Exposure(people)
        self._sealer = sealer
        self._news = _News(people, state, within_s)
        self._draw_key = lru_cache(maxsize=4)(self._make_draw_key)

    async def told(self) -> None:
        """Wait until the feed has been told of everything so far."""
        await self._news.told()

    async def stop(self) -> None:
        """What was not told yet is lost: counts of half a second."""
        await self._news.stop()

    # --- who asks ---

    def ask(self, slot: int, cell: int, edge_ms: int, now_ms: int, *, looks: bool) -> None:
        """Somebody asks from ``cell`` in the stranger epoch of ``edge_ms``: for a list (``looks``), or by a shake.
        Raises CellsUsedUp."""
        if not self.on or (looks and self._exposure.has_looked(slot, edge_ms)):
            return  # in one epoch a person has one cell
        user, day = self._people.ids[slot], edge_ms // DAY_MS
        mark = self._sealer.hash64("observer", user, str(day), cells.to_hex(cell)) & 0xFFFF_FFFF
        known = self._exposure.is_in(slot, day, mark)
        if not known and self._exposure.cells(slot, day) >= MOST_CELLS:
            ends_ms = (day + 1) * DAY_MS
            raise CellsUsedUp("", ends_ms, max(1, (ends_ms - now_ms) // 1000))
        if looks or not known:
            self._count(Look(user, edge_ms, looks, mark))

    def _count(self, look: Look) -> None:
        self._exposure.count(look)
        self._news.add(look)

    # --- who is shown ---

    def is_thinned(self, slot: int, edge_ms: int) -> bool:
        """Whether this viewer has looked in so many epochs that each stranger is shown in few of the others."""
        return self.on and self._exposure.looked_before(slot, edge_ms) >= FULL_EPOCHS

    @staticmethod
    def share_drawn(epoch_ms: int) -> float:
        """What part of the people around a thinned viewer is shown in one stranger epoch."""
        return min(1.0, MORE_EPOCHS * epoch_ms / DAY_MS)

    def drawn(self, slot: int, others: NDArray[np.int32], edge_ms: int, epoch_ms: int) -> NDArray[np.bool_]:
        """bool[n]: which of ``others`` a thinned viewer is shown in the stranger epoch of ``edge_ms``, whose length is
        ``epoch_ms``: those for whom one of the epochs drawn for the pair and the day is this one."""
        epochs = np.uint64(max(1, DAY_MS // epoch_ms))
        k0, k1 = self._draw_key(edge_ms // DAY_MS)
        viewer = self._people.hash_of(self._people.person_key(self._people.ids[slot]))
        draws = keyed.siphash24_many(k0 ^ viewer, k1, self._people.hashes[others])
        now = np.uint64(edge_ms % DAY_MS // epoch_ms) % epochs
        low, high = draws & np.uint64(0xFFFF_FFFF), draws >> np.uint64(32)
        return np.asarray((low % epochs == now) | (high % epochs == now))

    def _make_draw_key(self, day: int) -> tuple[int, int]:
        return self._sealer.hash64("exposure", str(day), "0"), self._sealer.hash64("exposure", str(day), "1")

    def shown_to_young(self, slot: int, edge_ms: int, now_ms: int) -> NDArray[np.uint32] | None:
        """Marks of the strangers whom a human of the first week was shown today; None for others, for whom nobody
        counts."""
        if not self.on or self._exposure.age_ms(slot, now_ms) >= YOUNG_MS:
            return None
        return self._exposure.shown(slot, edge_ms // DAY_MS)

    def met(self, slot: int, edge_ms: int) -> NDArray[np.int32]:
        """Slots of those of :meth:`shown_to_young` whom this worker can name."""
        return self._exposure.met(slot, edge_ms // DAY_MS)

    def meet(self, slot: int, edge_ms: int, others: NDArray[np.int32]) -> None:
        """``others`` are among those of :meth:`shown_to_young`."""
        self._exposure.meet(slot, edge_ms // DAY_MS, others)

    def marks(self, slots: NDArray[np.int32]) -> NDArray[np.uint32]:
        """By which :meth:`shown_to_young` names people."""
        return self._people.marks(slots)

    def show(self, slot: int, edge_ms: int, others: list[int]) -> None:
        """A human of the first week is shown ``others`` for the first time today."""
        ids = self._people.ids
        if others:
            mark = int(self._people.cell_mark[slot])  # of the ask just before
            self._count(Look(ids[slot], edge_ms, True, mark, tuple(ids[other] for other in others)))


class _News:
    """What this worker counted, on its way to the feeds: one entry a shard and half a second."""

    def __init__(self, people: People, state: State, within_s: float) -> None:
        self._people = people
        self._state = state
        self._within_s = within_s
        self._gathered: dict[int, list[Look]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def add(self, look: Look) -> None:
        shard = self._people.shards.of(look.user)
        self._gathered.setdefault(shard, []).append(look)
        if shard not in self._tasks:
            self._tasks[shard] = asyncio.get_running_loop().create_task(self._tell(shard))

    async def told(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks.values())

    async def stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, shard: int) -> None:
        """As long as there is something to tell. Lost when the state is away: then nobody is shown anybody either."""
        feed = keys.feed(keys.shard_tag(shard))
        try:
            while shard in self._gathered:
                await asyncio.sleep(_GATHER_S)
                payload = pack_looks(self._gathered.pop(shard))
                try:
                    await append(self._state, feed, "v", payload, self._within_s, lasting=False)
                except (StateAway, StateFault) as error:
                    log.warning("looks_not_told", shard=shard, error=type(error).__name__)
        finally:
            del self._tasks[shard]
