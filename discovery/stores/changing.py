"""Changes of brands on their way to all workers.

A brand and the feed that tells of it carry two hash tags, so that a worker may end between changing the one and telling
the other. Hence a mark stands in a third place from before the change until all were told.
"""

from collections import Counter
from collections.abc import Callable

from discovery.store import keys
from discovery.store.client import State

_MARK_BYTES = 8
_LOOKS_KEPT = 10  # at one look in 2 s or more: long past the 3 s within which a change is made or not made at all


class Changing:
    """Marks in the state. ``random(n)`` gives n unpredictable bytes."""

    def __init__(self, state: State, random: Callable[[int], bytes]) -> None:
        self._state = state
        self._random = random
        self._looks: Counter[str] = Counter()

    async def begin(self, brand: str) -> str:
        """To be called right before a change of ``brand``; returns its mark. Raises StateAway."""
        mark = f"{brand} {self._random(_MARK_BYTES).hex()}"
        await self._state.call("SADD", keys.stores_changing(), mark)
        return mark

    async def end(self, mark: str) -> None:
        """All were told of the change, or nothing was changed. Raises StateAway; the leader tells once more then."""
        await self._state.call("SREM", keys.stores_changing(), mark)

    async def look(self) -> dict[str, list[str]]:
        """Brand -> its marks that stood at the look before as well. Raises StateAway."""
        standing = [mark.decode() for mark in await self._state.call("SMEMBERS", keys.stores_changing())]
        self._looks = Counter({mark: self._looks[mark] + 1 for mark in standing})
        forgotten: dict[str, list[str]] = {}
        for mark in sorted(standing):
            if self._looks[mark] > 1:
                forgotten.setdefault(mark.partition(" ")[0], []).append(mark)
        return forgotten

    async def told(self, marks: list[str]) -> None:
        """What ``look`` found was told again. A mark stays for some looks: its change may still be on its way."""
        for mark in marks:
            if self._looks[mark] >= _LOOKS_KEPT:
                await self.end(mark)
