"""Whom moderation keeps from the sea: what a worker has folded, and the same set in the state, where scripts ask it.

The set in the state (``keys.sea_withheld``) carries the stamp of what it holds. A worker sends the stamp of its own set
with every script that brings people together; where the two differ, the script does nothing, the worker writes what
differs and asks again. So each act is judged by what its worker has folded, whatever a failover lost, an older copy of
the data brought back, or another worker has not folded yet. Nobody has to repair anything, and where the two agree an
act pays for one comparison, however many are withheld. Of somebody erased the name goes with the erasure.
"""

from typing import NamedTuple

from discovery.sealed import Sealer

_FOR_EVER = 1 << 63


class WithheldNow(NamedTuple):
    """``stamp``: the same for the same users in every worker of a deployment, '' for none."""

    users: frozenset[str]
    stamp: str


_NOBODY = WithheldNow(frozenset(), "")


class Withheld:
    """Until when (hive ms) each is withheld. The set of a moment is made once, then kept until a change or an end."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._until_ms: dict[str, int] = {}
        self._now = _NOBODY
        self._from_ms, self._to_ms = 0, _FOR_EVER  # times at which _now holds

    def put(self, user: str, until_ms: int) -> None:
        """0: not withheld."""
        if self._until_ms.get(user, 0) == until_ms:
            return
        if until_ms:
            self._until_ms[user] = until_ms
        else:
            del self._until_ms[user]
        self._to_ms = self._from_ms  # holds at no time: to be made again

    def at(self, now_ms: int) -> WithheldNow:
        """Who is withheld at ``now_ms``; microseconds, but 1 ms a thousand of them after a change."""
        if not self._from_ms <= now_ms < self._to_ms:
            ends = self._until_ms.values()
            self._from_ms = max((end for end in ends if end <= now_ms), default=0)
            self._to_ms = min((end for end in ends if end > now_ms), default=_FOR_EVER)
            users = frozenset(user for user, until_ms in self._until_ms.items() if until_ms > now_ms)
            self._now = WithheldNow(users, self._sealer.id128("withheld", *sorted(users))) if users else _NOBODY
        return self._now
