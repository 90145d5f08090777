"""`precise`: who shows one friend their cell of resolution 11, live, for 24 hours at most. A channel of its own.

A share stands beside the half of the friendship, which it leaves as it is: when it ends, the friend sees again what
the half says. It has one direction, and its cell feeds no other: not the state machine of ``presence``, nor anything
that others see. While somebody has a share, each of their reports that comes to lie in another cell tells the feed; it
is shown at once, by no epoch.

A share and its cell belong to the shard of who shows. They end with ``until``, when the half is changed (which is also
how a block and an unfriending end them), when the owner hides, clears, or is no adult. What the other person does is
of another shard: ``Friendships.shows_precisely`` asks whether the friendship is still that in which the share was
given, and so a share that one of them ended never comes back. To who is no adult it shows nothing, and the owner is not
told so.
"""

from typing import NamedTuple

import orjson

from discovery.owned_rows import OwnedRows
from discovery.people import People

LONGEST_SHARE_MS = 24 * 3_600_000


class Share(NamedTuple):
    """Until when (hive time in ms), and since when the friend had asked for the friendship in which it was given."""

    until_ms: int
    friend_since_ms: int


class Shown(NamedTuple):
    """What one person shows precisely: the cell, 0 when there was no report yet, and to whom (slots)."""

    cell: int
    shares: dict[int, Share]


def share_record(owner: str, other: str, share: Share) -> list[object]:
    """The feed record of one share."""
    return [owner, other, *share]


class PreciseShares:
    """Folded shares and cells, each part of the shard of who shows."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._shares: OwnedRows[int, Share] = OwnedRows()  # owner -> other
        self._cells: dict[int, int] = {}

    def fold_share(self, payload: bytes, now_ms: int) -> None:
        """Apply one share record."""
        owner, other, until_ms, friend_since_ms = orjson.loads(payload)
        slots = self._people.slot_or_new(owner), self._people.slot_or_new(other)
        self._end_lapsed(slots[0], now_ms)  # the cell of an earlier share is not this one's
        self._shares.put(*slots, Share(until_ms, friend_since_ms))

    def fold_cells(self, payload: bytes, now_ms: int) -> None:
        """Apply ``[[user, cell], ...]``, cell 0 in a quiet zone; of no one whose shares ended since the report came."""
        for user, cell in orjson.loads(payload):
            slot = self._people.slot_or_new(user)
            self._end_lapsed(slot, now_ms)
            if cell and self._shares.of(slot):
                self._cells[slot] = cell
            else:
                self._cells.pop(slot, None)

    def end(self, owner: int, other: int) -> None:
        """``owner`` no longer shows ``other`` the cell."""
        self._shares.remove(owner, other)
        if not self._shares.of(owner):
            self._cells.pop(owner, None)

    def end_all(self, owner: int) -> None:
        """``owner`` hides, clears, is no adult or is erased."""
        self._shares.drop(owner)
        self._cells.pop(owner, None)

    def fold_zones(self, owner: int) -> None:
        """``owner`` may have set quiet zones: a cell in one goes."""
        if self.cell(owner) == 0:
            self._cells.pop(owner, None)

    def expire(self, now_ms: int) -> None:
        """Forget what has ended: nobody is shown it any more, so it makes no difference when."""
        for owner in list(self._shares.owners()):
            self._end_lapsed(owner, now_ms)

    def _end_lapsed(self, owner: int, now_ms: int) -> None:
        for other in [other for other, share in self._shares.of(owner).items() if share.until_ms <= now_ms]:
            self.end(owner, other)

    # --- a shard's part ---

    def standing(self, now_ms: int) -> dict[int, Shown]:
        """What each owner of shares that have not ended shows, as it stands now and will in this answer."""
        self.expire(now_ms)
        return {owner: Shown(self._cells.get(owner, 0), shares) for owner, shares in self._shares.standing().items()}

    def drop(self, shard: int) -> None:
        """Forget what a shard's people show."""
        for owner in [slot for slot in self._shares.owners() if self._people.shard[slot] == shard]:
            self.end_all(owner)

    def restore(self, owner: int, shown: Shown) -> None:
        """Put back what one person shows."""
        self._shares.put_back(owner, shown.shares)
        if shown.cell:
            self._cells[owner] = shown.cell

    # --- questions ---

    def share(self, owner: int, other: int, now_ms: int) -> Share | None:
        """The share of ``owner`` with ``other`` that has not ended."""
        share = self._shares.of(owner).get(other)
        return None if share is None or share.until_ms <= now_ms else share

    def others(self, owner: int) -> list[int]:
        """Whom ``owner`` gave a share that may not have ended."""
        return list(self._shares.of(owner))

    def told(self, owner: int) -> int:
        """The cell that the feed was told last, 0 when none stands."""
        return self._cells.get(owner, 0)

    def cell(self, owner: int) -> int:
        """The cell of resolution 11 as of the last report; 0 when there was none since the first share, or it lies in a
        quiet zone: there everybody who may see the owner sees `city`."""
        cell = self.told(owner)
        return 0 if self._people.quiet_zones.hold(owner, cell) else cell
