"""Whom moderation keeps from the sea: what a worker has folded, and the same set in the state, where scripts ask it.

The set in the state (``keys.sea_withheld``) carries the stamp of what it holds. A worker sends the stamp of its own set
with every script that brings people together; where the two differ, the script does nothing, the worker writes what
differs and asks again. So each act is judged by what its worker has folded, whatever a failover lost, an older copy of
the data brought back, or another worker has not folded yet. Nobody has to repair anything, and where the two agree an
act pays for one comparison, however many are withheld. Of somebody erased the name goes with the erasure.
"""

import heapq
from collections.abc import Set
from typing import NamedTuple

from discovery.sealed import Sealer

_STAMP_BITS = 128
_LEAST_STALE = 64  # ends that were changed since: so many more than people may wait before all are sorted anew


class WithheldNow(NamedTuple):
    """``users`` is not copied: it changes with what is folded. ``stamp``: the same for the same users in every worker
    of a deployment, '' for none."""

    users: Set[str]
    stamp: str


class Withheld:
    """Until when (hive ms) each is withheld.

    The stamp is the sum of a keyed 128-bit hash of each, modulo 2^128, so that order and history do not matter and one
    change costs one hash. Two sets of one stamp are found by chance alone, once in 2^128: who has not the secret knows
    no hash.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._until_ms: dict[str, int] = {}
        self._at_ms = 0  # the time at which the rest holds
        self._users: set[str] = set()
        self._sum = 0
        self._ends: list[tuple[int, str]] = []  # a heap: of each of them, and ends that do not count any more

    def put(self, user: str, until_ms: int) -> None:
        """0: not withheld. Microseconds, however many are."""
        if self._until_ms.get(user, 0) == until_ms:
            return
        if until_ms:
            self._until_ms[user] = until_ms
        else:
            del self._until_ms[user]
        self._refresh(user)

    def at(self, now_ms: int) -> WithheldNow:
        """Who is withheld at ``now_ms``. Time that runs back costs as much as all changes together."""
        if now_ms < self._at_ms:
            self._at_ms = now_ms
            for user in self._until_ms:
                self._refresh(user)
        self._at_ms = now_ms
        while self._ends and self._ends[0][0] <= now_ms:
            self._refresh(heapq.heappop(self._ends)[1])
        return WithheldNow(self._users, f"{self._sum:0{_STAMP_BITS // 4}x}" if self._users else "")

    def _refresh(self, user: str) -> None:
        """This person's end changed or passed."""
        until_ms = self._until_ms.get(user, 0)
        if (user in self._users) != (until_ms > self._at_ms):
            self._toggle(user)
        if user in self._users:
            heapq.heappush(self._ends, (until_ms, user))
            if len(self._ends) > 2 * len(self._users) + _LEAST_STALE:
                self._ends = [(self._until_ms[each], each) for each in self._users]
                heapq.heapify(self._ends)

    def _toggle(self, user: str) -> None:
        hashed = int(self._sealer.id128("withheld", user), 16)
        if user in self._users:
            self._users.remove(user)
            self._sum -= hashed
        else:
            self._users.add(user)
            self._sum += hashed
        self._sum %= 1 << _STAMP_BITS
