"""How often each person has looked at strangers today, from how many cells, and whom a new account was shown.

Counts, folded of what workers tell the feed some moments after they answered (``exposure_caps``). They make watching
costly and bound nothing: what is ever shown is a cell. So they need not be exact, and are kept small: no pair of people
is counted, but for the few strangers that an account of its first week may see, and of those a mark is kept instead of
the id (`People.marks`); and no cell is kept, only a keyed hash of the one from which the person looked last.

A day is one of UTC by the stranger epoch that it began in. Everything here only grows within a day, and the same fact
twice is one, so that a worker may count what it answered at once, and again when it comes back by the feed.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from discovery.people import People, Shown

DAY_MS = 86_400_000
_MOST = 255  # of a count of one byte; the caps are far below


class Look(NamedTuple):
    """One person asked who is near: in the stranger epoch that began at ``edge_ms``, ``looked`` at a list or, if not,
    shook; from the cell of ``mark``; ``others`` (ids) are strangers whom a new account was shown the first time."""

    user: str
    edge_ms: int
    looked: bool
    mark: int
    others: tuple[str, ...] = ()


def pack_looks(looks: Iterable[Look]) -> bytes:
    """The payload of one feed entry."""
    return orjson.dumps([tuple(look) for look in looks])


class Exposure:
    """Folds looks into the columns of ``People``; answers what one human has used up, with all of their accounts."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._day = 0  # all of earlier days is forgotten

    def fold(self, payload: bytes) -> None:
        """Apply what one worker told. Of somebody erased meanwhile nothing is kept."""
        for user, edge_ms, looked, mark, others in orjson.loads(payload):
            if not self._people.is_gone(user):
                self.count(Look(user, edge_ms, looked, mark, tuple(others)))

    def count(self, look: Look) -> None:
        """Apply one look."""
        slot = self._people.slot_or_new(look.user)
        if look.looked:
            self._count_epoch(slot, look.edge_ms)
        self._count_cell(slot, look.edge_ms // DAY_MS, look.mark)
        if look.others:
            self._count_shown(slot, look.edge_ms // DAY_MS, look.others)

    def _count_epoch(self, slot: int, edge_ms: int) -> None:
        people, last_ms = self._people, int(self._people.looked_ms[slot])
        if edge_ms > last_ms:
            same_day = edge_ms // DAY_MS == last_ms // DAY_MS
            people.looks[slot] = min(int(people.looks[slot]) + 1, _MOST) if same_day else 1
            people.looked_ms[slot] = edge_ms

    def _count_cell(self, slot: int, day: int, mark: int) -> None:
        people, last_day = self._people, int(self._people.cells_day[slot])
        if day < last_day or (day == last_day and mark == people.cell_mark[slot]):
            return
        people.cells[slot] = min(int(people.cells[slot]) + 1, _MOST) if day == last_day else 1
        people.cells_day[slot], people.cell_mark[slot] = day, mark

    def _count_shown(self, slot: int, day: int, others: tuple[str, ...]) -> None:
        """The arrays are replaced, never changed: a snapshot may hold them."""
        standing, marks = self._people.shown.get(slot), self._people.marks_of(others)
        slots = np.array([known for other in others if (known := self._people.slot(other)) is not None], np.int32)
        if standing is None or day > standing.day:
            self._people.shown[slot] = Shown(day, np.unique(marks), slots)
        elif day == standing.day:
            both = np.union1d(standing.marks, marks), np.union1d(standing.slots, slots)
            self._people.shown[slot] = Shown(day, *both)

    def meet(self, slot: int, day: int, others: NDArray[np.int32]) -> None:
        """``others`` are among those whom the human was shown on this day: their slots were not known, as after a
        start."""
        for account, today in self._today(slot, day):
            theirs = others[np.isin(self._people.marks(others), today.marks)]
            self._people.shown[account] = today._replace(slots=np.union1d(today.slots, theirs))

    def forget_before(self, day: int) -> None:
        """Whom new accounts were shown on earlier days counts no more; it takes 300 bytes for each."""
        if day > self._day:
            self._day = day
            for viewer in [viewer for viewer, today in self._people.shown.items() if today.day < day]:
                del self._people.shown[viewer]

    # --- questions ---

    def age_ms(self, slot: int, now_ms: int) -> int:
        """Since when the human behind an account has taken part, by the oldest of their accounts."""
        firsts = [int(self._people.first_ms[account]) for account in self._people.accounts(slot)]
        return now_ms - min((first for first in firsts if first), default=now_ms)

    def looked_before(self, slot: int, edge_ms: int) -> int:
        """In how many earlier stranger epochs of the day of ``edge_ms`` the human looked at a list."""
        people, day, found = self._people, edge_ms // DAY_MS, 0
        for account in people.accounts(slot):
            last_ms = int(people.looked_ms[account])
            if last_ms // DAY_MS == day:
                found += int(people.looks[account]) - (last_ms >= edge_ms)
        return found

    def has_looked(self, slot: int, edge_ms: int) -> bool:
        """Whether this account's look in this epoch is counted."""
        return int(self._people.looked_ms[slot]) >= edge_ms

    def cells(self, slot: int, day: int) -> int:
        """From how many cells the human asked on this day; a cell left and come back to counts twice."""
        people = self._people
        accounts = (account for account in people.accounts(slot) if people.cells_day[account] == day)
        return sum(int(people.cells[account]) for account in accounts)

    def is_in(self, slot: int, day: int, mark: int) -> bool:
        """Whether the account asked last, on this day, from the cell of ``mark``."""
        return bool(self._people.cells_day[slot] == day and self._people.cell_mark[slot] == mark)

    def shown(self, slot: int, day: int) -> NDArray[np.uint32]:
        """Strangers whom the human, as a new account, was shown on this day: their marks, ascending."""
        marks = [today.marks for _, today in self._today(slot, day)]
        return np.unique(np.concatenate(marks)) if marks else np.empty(0, np.uint32)

    def met(self, slot: int, day: int) -> NDArray[np.int32]:
        """Slots of those of :meth:`shown` whom this worker knows as such, ascending."""
        slots = [today.slots for _, today in self._today(slot, day)]
        return np.unique(np.concatenate(slots)) if slots else np.empty(0, np.int32)

    def _today(self, slot: int, day: int) -> list[tuple[int, Shown]]:
        """Whom each account of the human was shown on this day."""
        standing = [(account, self._people.shown.get(account)) for account in self._people.accounts(slot)]
        return [(account, today) for account, today in standing if today is not None and today.day == day]
