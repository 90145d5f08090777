"""Quiet zones: cells of resolution 5 inside which strangers do not see a person and friends see `city`.

Both ways: who is in one of their own is answered no list of strangers either (``nearby.py``), so that nobody watches
from behind it.

Never finer: a hole in what is published shows its own outline. Where people hid a finer zone around the home, 14 days
of looking found that home's cell for 78-91 % of them; with whole cells of resolution 5, for 16 % (14 % is chance).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geo import cells
from geo.privacy import CITY_RESOLUTION

MAX_ZONES = 16
_FIRST_ROWS = 256
_FEW = 64  # people looked up one by one; of more, all rows are compared at once (5 ns each)


class QuietZones:
    """Each person's zones by slot, as rows (slot, cell) too, so that a crowd is judged without a Python step each."""

    def __init__(self) -> None:
        self._zones: dict[int, tuple[int, ...]] = {}
        self._rows: dict[int, list[int]] = {}
        self._free: list[int] = []
        self._slots = np.zeros(_FIRST_ROWS, np.int32)
        self._cells = np.zeros(_FIRST_ROWS, np.uint64)  # 0 = a free row
        self._used = 0

    def of(self, slot: int) -> tuple[int, ...]:
        """The zones of one person, as given."""
        return self._zones.get(slot, ())

    def set(self, slot: int, zones: Sequence[int]) -> None:
        """Replace the zones of one person."""
        for row in self._rows.pop(slot, ()):
            self._cells[row] = 0
            self._free.append(row)
        self._zones.pop(slot, None)
        if zones:
            self._zones[slot] = tuple(zones)
            self._rows[slot] = [self._written(slot, zone) for zone in zones]

    def _written(self, slot: int, zone: int) -> int:
        if self._free:
            row = self._free.pop()
        else:
            row = self._used
            self._used += 1
            if row == len(self._cells):
                self._slots = np.concatenate((self._slots, np.zeros_like(self._slots)))
                self._cells = np.concatenate((self._cells, np.zeros_like(self._cells)))
        self._slots[row], self._cells[row] = slot, zone
        return row

    def hold(self, slot: int, cell: int) -> bool:
        """Whether a cell (0: none) lies in one of the person's zones."""
        zones = self._zones.get(slot)
        return bool(zones and cell and cells.parent(cell, CITY_RESOLUTION) in zones)

    def inside(self, slots: NDArray[np.int32], cells8: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Which of ``slots`` are in one of their zones; ``cells8`` uint64 by slot says where each is.

        Few are looked up one by one, each in at most ``MAX_ZONES`` zones. For more, all rows are looked through once,
        whoever's they are: one for each zone of anybody, at most ``MAX_ZONES`` a person.
        """
        if not self._zones:
            return slots[:0]
        if len(slots) <= _FEW:
            return slots[[self.hold(slot, int(cells8[slot])) for slot in slots.tolist()]]
        quiet = np.zeros(len(cells8), np.bool_)
        quiet[self.all_inside(cells8)] = True
        return slots[quiet[slots]]

    def all_inside(self, cells8: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Slots of all who are in one of their zones, perhaps some twice; ``cells8`` uint64 by slot says where each
        is."""
        owners, zones = self._slots[: self._used], self._cells[: self._used]
        placed = (zones != 0) & (owners < len(cells8))
        owners, zones = owners[placed], zones[placed]
        at = cells8[owners]
        within = (at != 0) & (cells.parents(np.where(at != 0, at, zones), CITY_RESOLUTION) == zones)
        return np.asarray(owners[within])

    def standing(self) -> dict[int, tuple[int, ...]]:
        """All zones by slot: a copy."""
        return dict(self._zones)
