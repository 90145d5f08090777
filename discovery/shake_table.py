"""Columns of the shake fold: one slot a shake in stream order, growing at the end and forgotten from the front."""

from bisect import bisect_left
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discovery.shake_cells import ShakeCells
from discovery.shake_entries import ANYWHERE, MAX_WINDOW_MS, Shake
from geo.kernels.matching import MAX_MATCHES, NONE, SHAKE, drop_oldest, fold_newcomers, state_digest

_FIRST_SLOTS: Final = 64
_SPARE_ROWS: Final = 1024
_CHANGED_PER_SHAKE: Final = MAX_MATCHES + 2  # its matches, itself, and the earlier shake it ended


class ShakeTable:
    """Shakes, their match lists and the lists of the open ones. A *position* counts all shakes ever added."""

    def __init__(self) -> None:
        self.cells = ShakeCells()
        self.persons: list[str] = []
        self.cell7: list[int] = []
        self.shakes: NDArray[Any] = np.zeros(_FIRST_SLOTS, SHAKE)
        self.match_slot = np.full((_FIRST_SLOTS, MAX_MATCHES), NONE, np.int32)
        self.match_band = np.full((_FIRST_SLOTS, MAX_MATCHES), NONE, np.int8)
        self.forgotten = 0
        self._links = np.full((2, 2, _FIRST_SLOTS), NONE, np.int32)
        self._queue_ends = np.full((2, 2), NONE, np.int32)
        self._excluded = np.zeros(_FIRST_SLOTS, np.uint64)
        self._excluded_base = 0
        self._excluded_count = 0

    def __len__(self) -> int:
        return len(self.persons)

    def first_since(self, hive_ms: int) -> int:
        """First slot whose hive time is at least ``hive_ms``; ``len(self)`` if none."""
        times = self.shakes["hive_ms"]
        return bisect_left(range(len(self)), hive_ms, key=lambda slot: int(times[slot]))

    def add(self, shake: Shake, hive_ms: int, epoch: int, order_key: int, earlier: int | None) -> int:
        """Append an open shake without matches; its position. ``earlier`` is the position of the person's last one."""
        row = self.cells.row(shake.cell7)
        slot = len(self)
        if slot == self.shakes.size:
            self._grow()
        earlier_slot = NONE if earlier is None else max(earlier - self.forgotten, NONE)
        self.shakes[slot] = (
            shake.shake_hash,
            shake.person_hash,
            order_key,
            epoch,
            hive_ms,
            shake.window_ms,
            hive_ms + shake.window_ms,
            self._add_excluded(shake.excluded, hive_ms),
            len(shake.excluded),
            row,
            earlier_slot,
            NONE,
            shake.limit,
            0,
            shake.reach == ANYWHERE,
            shake.adult,
            False,
            False,
        )
        self.persons.append(shake.person)
        self.cell7.append(shake.cell7)
        return self.forgotten + slot

    def match(self, first: int, key: tuple[int, int]) -> NDArray[np.int32]:
        """Fold the slots from ``first`` on; the slots whose lists changed or that were ended, with repeats."""
        end = len(self)
        changed = np.empty((end - first) * _CHANGED_PER_SHAKE, np.int32)
        written = fold_newcomers(
            *self._lists(),
            self.match_slot,
            self.match_band,
            self.cells.near_row,
            self.cells.near_band,
            self._excluded,
            self._excluded_base,
            first,
            end,
            np.uint64(key[0]),
            np.uint64(key[1]),
            changed,
        )
        return changed[:written]

    def digest(self, first: int) -> int:
        """Hash of the slots from ``first`` on and their match lists, whatever their slot numbers."""
        return int(state_digest(self.shakes, self.match_slot, self.match_band, first, len(self)))

    def forget(self, count: int) -> None:
        """Drop the ``count`` oldest shakes; the rows of cells nobody uses any more go too."""
        drop_oldest(*self._lists(), self.match_slot, self.match_band, count, len(self))
        del self.persons[:count]
        del self.cell7[:count]
        self.forgotten += count
        rows = self.shakes["cell_row"][: len(self)]
        used = np.unique(rows)
        if len(self.cells) > 2 * used.size + _SPARE_ROWS:
            rows[:] = self.cells.keep(used)[rows]

    def _lists(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self.shakes, self._links, self.cells.ends, self._queue_ends

    def _grow(self) -> None:
        slots = self.shakes.size
        self.shakes = np.concatenate((self.shakes, np.zeros(slots, SHAKE)))
        self.match_slot = np.concatenate((self.match_slot, np.full_like(self.match_slot, NONE)))
        self.match_band = np.concatenate((self.match_band, np.full_like(self.match_band, NONE)))
        self._links = np.concatenate((self._links, np.full_like(self._links, NONE)), axis=2)

    def _add_excluded(self, excluded: tuple[int, ...], hive_ms: int) -> int:
        """Absolute position of the hashes just appended."""
        if self._excluded_count + len(excluded) > self._excluded.size:
            self._make_room(len(excluded), hive_ms)
        start = self._excluded_count
        self._excluded_count += len(excluded)
        self._excluded[start : self._excluded_count] = excluded
        return self._excluded_base + start

    def _make_room(self, count: int, hive_ms: int) -> None:
        """Drop the exclusions of shakes no newcomer can meet any more; double the array if it stays half full."""
        oldest_open = self.first_since(hive_ms - MAX_WINDOW_MS)
        dropped = self._excluded_count
        if oldest_open < len(self):
            dropped = int(self.shakes["excluded_at"][oldest_open]) - self._excluded_base
        kept = self._excluded[dropped : self._excluded_count]
        size = self._excluded.size
        while size < 2 * (kept.size + count):
            size *= 2
        room = np.zeros(size, np.uint64)
        room[: kept.size] = kept
        self._excluded, self._excluded_base, self._excluded_count = room, self._excluded_base + dropped, kept.size
