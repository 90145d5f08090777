"""Searches counted for the brands, in each worker: by cell, and by who searched, under a key that lives for a day.

The exact point is used for its cell of resolution 7 and goes no further; who searched is kept as a hash of 64 bits.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog

from discovery.errors import StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.store.scripts import Script
from discovery.stores.demand_rows import FINEST
from discovery.stores.timelines import DAY_MS
from geo import cells

RAW_TTL_S = 3 * 86_400
KEY_TTL_S = 2 * 86_400
MOST_MEMBERS = 2_000_000
"""Of a brand and day, about 150 MB: beyond it searches are counted, and no more searchers."""

_KEY_BYTES = 32
_AHEAD_MS = 600_000  # the key of the next day is fetched before its first search comes
_MOST_WAITING = 200_000  # searches that a worker holds while the state is away; more are not counted
_AT_ONCE = 2_000  # items of one script
_HASH_BYTES = 8
_ADD = Script("demand_add", lasting=False)

log = structlog.get_logger("nearhive.stores")


@dataclass(slots=True)
class _Waiting:
    """Of one brand and day, not yet in the state."""

    searches: Counter[int] = field(default_factory=Counter)
    members: set[bytes] = field(default_factory=set)


class Demand:
    """Of one worker. ``now_ms`` gives hive time, ``random(n)`` n unpredictable bytes."""

    def __init__(self, state: State, now_ms: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._state = state
        self._now_ms = now_ms
        self._random = random
        self._keys: dict[int, bytes] = {}
        self._waiting: dict[tuple[str, int], _Waiting] = {}
        self._count = 0

    def note(self, brand: str, lat: float, lon: float, services: Sequence[str], searcher: str | None) -> None:
        """One search. ``searcher``: who, as well as it is known; None counts as a search of nobody, as does a search
        before this worker has the key of the day."""
        if self._count >= _MOST_WAITING:
            return
        self._count += 1
        day = self._now_ms() // DAY_MS
        waiting = self._waiting.setdefault((brand, day), _Waiting())
        cell = cells.cell_of(lat, lon, FINEST)
        waiting.searches[cell] += 1
        key = self._keys.get(day)
        if searcher is None or key is None:
            return
        named = f"{brand}\0{searcher}".encode("utf-8", "surrogatepass")
        place = cell.to_bytes(8, "big") + hashlib.blake2b(named, key=key, digest_size=_HASH_BYTES).digest()
        waiting.members.add(b"c" + place)
        waiting.members.update(b"m" + place + service.encode("utf-8", "surrogatepass") for service in services)

    async def flush(self) -> None:
        """Fetch the keys of today and of a tomorrow that is near, and add what waits. Raises ``StateAway``."""
        await self._fetch_keys()
        waiting, self._waiting, self._count = self._waiting, {}, 0
        while waiting:
            (brand, day), one = waiting.popitem()
            try:
                await self._add(brand, day, one)
            except StateAway:
                waiting[brand, day] = one  # without what may have been added
                self._put_back(waiting)
                raise

    async def _fetch_keys(self) -> None:
        now_ms = self._now_ms()
        today = now_ms // DAY_MS
        self._keys = {day: key for day, key in self._keys.items() if day >= today}
        for day in {today, (now_ms + _AHEAD_MS) // DAY_MS} - self._keys.keys():
            name = keys.demand_key(day)
            await self._state.call("SET", name, self._random(_KEY_BYTES), "NX", "EX", KEY_TTL_S)
            found = await self._state.call("GET", name)
            if found is not None:
                self._keys[day] = found

    def _put_back(self, waiting: dict[tuple[str, int], _Waiting]) -> None:
        for place, one in waiting.items():
            held = self._waiting.setdefault(place, _Waiting())
            held.searches += one.searches
            held.members |= one.members
            self._count += one.searches.total()

    async def _add(self, brand: str, day: int, one: _Waiting) -> None:
        """Part by part; what is done is taken out of ``one``, so that it is not added twice."""
        names = [keys.demand_days(brand), keys.demand_counts(brand, day), keys.demand_searchers(brand, day)]
        for searches, members in _parts(one):
            counted = [value for cell, count in searches for value in (cells.to_hex(cell), count)]
            head = [day, RAW_TTL_S, MOST_MEMBERS, len(searches)]
            try:
                added = int(await self._state.run(_ADD, names, [*head, *counted, *members]))
            except StateAway as away:
                if not away.outcome_unknown:
                    one.searches.update(dict(searches))
                    one.members.update(members)
                raise
            if not added:
                log.warning("searches_too_late", count=sum(count for _, count in searches))


def _parts(one: _Waiting) -> Iterator[tuple[list[tuple[int, int]], list[bytes]]]:
    while one.searches or one.members:
        searches = [one.searches.popitem() for _ in range(min(_AT_ONCE, len(one.searches)))]
        members = list(islice(one.members, _AT_ONCE))
        one.members.difference_update(members)
        yield searches, members
