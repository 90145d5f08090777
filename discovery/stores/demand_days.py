"""Days of demand in the state: closed and published by the leader, read by whoever asks."""

import asyncio
import contextlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import structlog

from discovery.errors import Invalid
from discovery.store import keys
from discovery.store.client import State, StateFault
from discovery.store.scripts import Script
from discovery.stores.catalogue import Catalogue
from discovery.stores.demand_rows import DayOfDemand, Tally, published
from discovery.stores.timelines import DAY_MS

GRACE_MS = 60_000
"""After midnight: what workers counted until then has long come in."""
ROWS_TTL_S = 400 * 86_400
MOST_DAYS = 92

_READ_AT_ONCE = 10_000
_CLOSE = Script("demand_close")

log = structlog.get_logger("nearhive.stores")


class DemandDays:
    """``now_ms`` gives hive time."""

    def __init__(self, state: State, catalogue: Catalogue, now_ms: Callable[[], int]) -> None:
        self._state = state
        self._catalogue = catalogue
        self._now_ms = now_ms
        self._closed: dict[str, int] = {}
        self._key_gone = -1

    async def publish(self) -> None:
        """One look of the leader: close and publish the days that are over, and destroy their keys.

        May be done again, and by two at once: what was published first stays. Raises ``StateAway``.
        """
        day = (self._now_ms() - GRACE_MS) // DAY_MS - 1
        for brand in self._catalogue.names():
            if self._closed.get(brand, -1) < day:
                for over in await self._state.run(_CLOSE, [keys.demand_days(brand)], [day]):
                    await self._publish(brand, int(over))
                self._closed[brand] = day
        if self._key_gone < day:
            await self._destroy_key(day)
            self._key_gone = day

    async def _publish(self, brand: str, day: int) -> None:
        counted = await self._read(brand, day)
        stores = self._catalogue.brand(brand).stores
        rows = await asyncio.to_thread(published, counted, stores)
        packed = await asyncio.to_thread(zlib.compress, orjson.dumps(rows))
        await self._state.call("SET", keys.demand_rows(brand, day), packed, "NX", "EX", ROWS_TTL_S)
        for name in (keys.demand_counts(brand, day), keys.demand_searchers(brand, day)):
            await self._state.call("DEL", name)
        await self._state.call("HDEL", keys.demand_days(brand), day)
        log.info("demand_published", day=day)

    async def _read(self, brand: str, day: int) -> DayOfDemand:
        counts = await self._state.call("HGETALL", keys.demand_counts(brand, day))
        found = DayOfDemand()
        for cell, searches in zip(counts[::2], counts[1::2], strict=True):
            found.by_cell[int(cell, 16)] = Tally(int(searches))
        cursor, name = b"0", keys.demand_searchers(brand, day)
        while True:
            cursor, members = await self._state.call("SSCAN", name, cursor, "COUNT", _READ_AT_ONCE)
            for member in members:
                _fold(found, member)
            if cursor in (b"0", 0):
                return found

    async def _destroy_key(self, day: int) -> None:
        """The server's file still holds the key until it is written anew, so it is."""
        name = keys.demand_key(day)
        if await self._state.call("DEL", name):
            with contextlib.suppress(StateFault):  # it is being written, or the server forbids it
                await self._state.call_node(self._state.node_of(name), "BGREWRITEAOF")

    async def rows(self, brand: str, days: Sequence[int]) -> list[dict[str, Any]]:
        """What is published of each of these days; {} of a day without searches.

        Raises ``NotFound`` (brand), ``Invalid`` for a day that is not closed and published, ``StateAway``.
        """
        self._catalogue.brand(brand)
        flat = await self._state.call("HGETALL", keys.demand_days(brand))
        known = dict(zip(flat[::2], flat[1::2], strict=True))
        if int(known.get(b"closed", -1)) < days[-1] or any(b"%d" % day in known for day in days):
            raise Invalid("must be a day that is over and published: a minute or two after midnight UTC", "to")
        packed = [await self._state.call("GET", keys.demand_rows(brand, day)) for day in days]
        return await asyncio.to_thread(_unpack, packed)


def _fold(found: DayOfDemand, member: bytes) -> None:
    cell, searcher = int.from_bytes(member[1:9], "big"), member[9:17]
    if member[:1] == b"c":
        found.by_cell.setdefault(cell, Tally()).searchers.add(searcher)
    else:
        found.by_service.setdefault((cell, member[17:].decode("utf-8", "surrogatepass")), set()).add(searcher)


def _unpack(packed: Sequence[bytes | None]) -> list[dict[str, Any]]:
    return [{} if one is None else orjson.loads(zlib.decompress(one)) for one in packed]
