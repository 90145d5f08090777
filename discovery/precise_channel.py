"""The live channel of precise sharing: reports of those who share, on their way to the feed."""

import asyncio
from collections.abc import Callable, Iterable

import orjson

from discovery.friends import Friendships
from discovery.people import People
from discovery.store.writer import FOLD_DEADLINE_S, Writer, append


class PreciseChannel:
    """Tells the feed where those are who share that with a friend, when they come to lie in another cell."""

    def __init__(self, people: People, friendships: Friendships, writer: Writer, within_s: float) -> None:
        self._people = people
        self._friendships = friendships
        self._writer = writer
        self._within_s = within_s

    async def tell(self, reports: Iterable[tuple[str, Callable[[], int]]]) -> None:
        """Users, and what says the cell of resolution 11 they are in, which is asked of those who share alone.

        Before the reports themselves: who comes back must not be shown where they were before. Durable like a report,
        and folded here. Raises StateAway."""
        by_shard: dict[int, list[tuple[str, int]]] = {}
        for user, cell in reports:
            moved_to = self._moved_to(user, cell)
            if moved_to is not None:
                by_shard.setdefault(self._writer.shards.of(user), []).append((user, moved_to))
        await asyncio.gather(*(self._append(shard, rows) for shard, rows in by_shard.items()))

    def _moved_to(self, user: str, say_cell: Callable[[], int]) -> int | None:
        """The cell to tell of, 0 in a quiet zone; None for who shares with nobody, or is in the cell that stands."""
        slot = self._people.slot(user)
        if slot is None or not self._friendships.shares_precisely(slot, self._writer.now_ms):
            return None
        cell = say_cell()
        shown = 0 if self._people.quiet_zones.hold(slot, cell) else cell
        return None if shown == self._friendships.precise.told(slot) else shown

    async def _append(self, shard: int, rows: list[tuple[str, int]]) -> None:
        feed = self._writer.feeds.followers[shard]
        entry = await append(self._writer.state, feed.key, "l", orjson.dumps(rows), self._within_s, lasting=False)
        await feed.folded(entry, FOLD_DEADLINE_S)
