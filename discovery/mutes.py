"""Mutes: one-sided. What the muter is not shown; the muted one notices nothing.

They act on what the muter is shown without asking for it: nearby, radar, friend requests, and bottles picked. A shake
is mutual (B is in A's list exactly when A is in B's), and dropping somebody there would be noticed by their absence:
who wants that blocks.
"""

from collections.abc import Iterable

MAX_MUTES = 1000


class Mutes:
    """Folded mutes by the muter's slot, oldest first: ids, since who is muted need not be known."""

    def __init__(self) -> None:
        self._muted: dict[int, tuple[str, ...]] = {}

    def fold(self, slot: int, other: str, *, muted: bool) -> None:
        """Apply one record."""
        others = tuple(name for name in self.of(slot) if name != other)
        self.put(slot, (*others, other) if muted else others)

    def put(self, slot: int, others: Iterable[str]) -> None:
        """All of one person's mutes; none: the person is forgotten."""
        found = tuple(others)
        if found:
            self._muted[slot] = found
        else:
            self._muted.pop(slot, None)

    def of(self, slot: int) -> tuple[str, ...]:
        """Whom this account muted, oldest first."""
        return self._muted.get(slot, ())

    def standing(self) -> dict[int, tuple[str, ...]]:
        """All mutes as they stand now and will in this answer."""
        return dict(self._muted)
