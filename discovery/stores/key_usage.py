"""Requests of each brand key by UTC day: counted in each worker, added up in the state each second, held to quotas."""

from collections import Counter
from collections.abc import Callable

from discovery.errors import QuotaExceeded, StateAway
from discovery.store import keys
from discovery.store.client import State
from discovery.stores.timelines import DAY_MS

KEPT_DAYS = 92
SHOWN_DAYS = 31

_Key = tuple[str, str]


class KeyUsage:
    """Of one worker. ``now_ms`` gives hive time.

    A quota is exceeded by at most what all workers answer in the second between two counts; while the state is away
    each worker goes on by what it knows.
    """

    def __init__(self, state: State, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._now_ms = now_ms
        self._day = 0
        self._new: Counter[_Key] = Counter()  # of today, not yet in the state
        self._known: dict[_Key, int] = {}  # of all workers, as of the last count

    def charge(self, brand: str, key_id: str, quota: int | None, requests: int = 1) -> None:
        """Count requests of a key. Raises ``QuotaExceeded``, and then counts nothing."""
        now_ms = self._now_ms()
        day = now_ms // DAY_MS
        if day != self._day:  # at most a second of yesterday's requests goes uncounted
            self._day = day
            self._new.clear()
            self._known.clear()
        key = brand, key_id
        if quota is not None and self._known.get(key, 0) + self._new[key] + requests > quota:
            end_ms = (day + 1) * DAY_MS
            raise QuotaExceeded("the quota of this key for today is used up", end_ms, (end_ms - now_ms) // 1000 + 1)
        self._new[key] += requests

    async def flush(self) -> None:
        """Add up. What cannot be added now is with the next. Raises ``StateAway``."""
        day, new = self._day, self._new
        self._new = Counter()
        while new:
            (brand, key_id), requests = new.popitem()
            row = keys.brand_usage(brand, day)
            try:
                total = int(await self._state.call("HINCRBY", row, key_id, requests, lasting=False))
                await self._state.call("EXPIRE", row, KEPT_DAYS * 86_400, lasting=False)
            except StateAway as away:
                if day == self._day:
                    self._new.update(new)
                    self._new[brand, key_id] += 0 if away.outcome_unknown else requests
                raise
            if day == self._day:
                self._known[brand, key_id] = total

    async def of(self, brand: str) -> dict[str, dict[int, int]]:
        """Key id -> UTC day (days since 1970) -> requests, of the last 31 days; what the last second brought is not
        yet in it. Raises ``StateAway``."""
        today = self._now_ms() // DAY_MS
        found: dict[str, dict[int, int]] = {}
        for day in range(today - SHOWN_DAYS + 1, today + 1):
            row = await self._state.call("HGETALL", keys.brand_usage(brand, day))
            for key_id, requests in zip(row[::2], row[1::2], strict=True):
                found.setdefault(key_id.decode(), {})[day] = int(requests)
        return found
