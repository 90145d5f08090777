"""The people index of one stranger epoch, and the cells of each distance band around a viewer's cell."""

from collections.abc import Sequence
from functools import lru_cache
from typing import overload

import numpy as np
from numpy.typing import NDArray

from geo import cells as geo_cells
from geo.kernels import ranking as kernels
from geo.privacy import STRANGER_BANDS_M

Cells = NDArray[np.uint64]
Slots = NDArray[np.int32]

_LAST_OFFSET = (1 << 64) - 1
# Fresh members are folded into the flat arrays when they fill their room: an insertion moves at most n / 16 of them,
# and a rebuild of n members is paid by n / 16 insertions.
_LEAST_ROOM = 256
_ROOM_SHARE = 16

# The bands up to 10 km around one cell hold about 60 cells, the other two about 1,600.
_LAST_SMALL_BAND = 2


def band_cells(cell: int, band: int) -> Cells:
    """Cells of a band around a cell of the same resolution, uint64[n], read-only and cached.

    Those whose centre lies at ``STRANGER_BANDS_M[band] <= distance < STRANGER_BANDS_M[band + 1]``, nearest first; band
    0 holds the cell itself. ``ValueError`` for another band or what is not a cell.
    """
    if not 0 <= band < len(STRANGER_BANDS_M) - 1:
        raise ValueError(f"band must be from 0 to {len(STRANGER_BANDS_M) - 2}, not {band}")
    cached = _small_band if band <= _LAST_SMALL_BAND else _large_band
    return cached(cell, band)


def _band(cell: int, band: int) -> Cells:
    cells, distances_m = geo_cells.disk(cell, STRANGER_BANDS_M[band + 1])
    return cells[np.searchsorted(distances_m, STRANGER_BANDS_M[band]) :]


_small_band = lru_cache(maxsize=3 * 8192)(_band)
_large_band = lru_cache(maxsize=2 * 512)(_band)


class BandsAround(Sequence[Cells]):
    """The first ``count`` bands around a cell as a sequence that computes a band when it is asked for it."""

    __slots__ = ("_cell", "_count")

    def __init__(self, cell: int, count: int) -> None:
        self._cell = cell
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Cells: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cells]: ...
    def __getitem__(self, index: int | slice) -> Cells | list[Cells]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return band_cells(self._cell, index)


class Crowd:
    """Members of one epoch, each a resolution-7 cell, a key on the keyed circle and a slot number; none is ever
    removed.

    A page costs O(cells of its bands) look-ups and O(limit + members skipped) steps, however many members there are.
    Keys are pseudo-random 64-bit values; of equal ones the lower slot comes first, and a page that ends between two of
    them drops the rest.
    """

    def __init__(self, cells: Cells, keys: NDArray[np.uint64], slots: Slots) -> None:
        """``cells`` uint64[n], ``keys`` uint64[n], ``slots`` int32[n], in any order; copied. ``ValueError`` if they
        differ in length, or a slot is negative or occurs twice, or a cell is 0."""
        cells = np.ascontiguousarray(cells, dtype=np.uint64)
        keys = np.ascontiguousarray(keys, dtype=np.uint64)
        slots = np.ascontiguousarray(slots, dtype=np.int32)
        if cells.ndim != 1 or cells.shape != keys.shape or cells.shape != slots.shape:
            raise ValueError("cells, keys and slots must be one-dimensional and of one length")
        if slots.size and slots.min() < 0:
            raise ValueError("slots must not be negative")
        if not cells.all():
            raise ValueError("0 is not a cell")
        self._known = np.zeros(int(slots.max(initial=-1)) + 1, dtype=np.bool_)
        self._known[slots] = True
        if int(np.count_nonzero(self._known)) != slots.size:
            raise ValueError("a slot occurs twice")
        self._build(cells, keys, slots)

    def _build(self, cells: Cells, keys: NDArray[np.uint64], slots: Slots) -> None:
        self._table: NDArray[np.uint64] = kernels.cell_table(cells)
        self._keys = np.empty_like(keys)
        self._slots = np.empty_like(slots)
        kernels.group_by_cell(cells, keys, slots, np.argsort(keys), self._table, self._keys, self._slots)
        room = max(_LEAST_ROOM, cells.size // _ROOM_SHARE)
        self._fresh = np.empty((3, room), dtype=np.uint64)
        self._fresh_count = 0

    def add(self, cell: int, key: int, slot: int) -> None:
        """Add a member that appears after the build, at its key. ``ValueError`` if the slot is one already."""
        if slot < 0 or slot in self:
            raise ValueError(f"slot {slot} is negative or already in the crowd")
        if self._fresh_count == self._fresh.shape[1]:
            self._fold_fresh()
        kernels.insert_fresh(self._fresh, self._fresh_count, cell, key, slot)
        self._fresh_count += 1
        self._remember(slot)

    def _remember(self, slot: int) -> None:
        if slot >= self._known.size:
            self._known = np.concatenate((self._known, np.zeros(slot + 1, dtype=np.bool_)))
        self._known[slot] = True

    def _fold_fresh(self) -> None:
        used = self._table[self._table[:, 1] < self._table[:, 2]]
        used = used[np.argsort(used[:, 1])]
        cells = np.repeat(used[:, 0], (used[:, 2] - used[:, 1]).astype(np.int64))
        fresh = self._fresh[:, : self._fresh_count]
        self._build(
            np.concatenate((cells, fresh[0])),
            np.concatenate((self._keys, fresh[1])),
            np.concatenate((self._slots, fresh[2].astype(np.int32))),
        )

    def __len__(self) -> int:
        return self._keys.size + self._fresh_count

    def __contains__(self, slot: object) -> bool:
        return isinstance(slot, int | np.integer) and bool(0 <= slot < self._known.size) and bool(self._known[slot])

    def page(
        self,
        bands: Sequence[Cells],
        viewer_key: int,
        after: tuple[int, int] | None,
        limit: int,
        shown_until_ms: NDArray[np.int64],
        now_ms: int,
        excluded: Slots,
    ) -> tuple[Slots, NDArray[np.int32], NDArray[np.uint64]]:
        """The next ``limit`` members around a viewer: slots int32[k], bands int32[k] and circle offsets uint64[k].

        Order: band; in it, all its cells merged, the offset ``(member key - viewer_key) mod 2^64``. ``bands[i]`` are
        the cells of band i, uint64, disjoint; a band is taken from the sequence only when the nearer ones did not fill
        the page (``BandsAround``). ``after`` = (band, offset) of the last member seen resumes behind it. A member is
        shown if ``shown_until_ms[slot] > now_ms`` and its slot is not in ``excluded``, int32[m] in ascending order
        (which is to hold the viewer's own); a slot beyond ``shown_until_ms`` is not shown. ``ValueError`` for a limit
        below 1.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        slots_out = np.empty(limit, dtype=np.int32)
        bands_out = np.empty(limit, dtype=np.int32)
        offsets_out = np.empty(limit, dtype=np.uint64)
        band, offset = _resumed(after)
        filled = 0
        while band < len(bands) and filled < limit:
            begin = filled
            filled = kernels.rank_band(
                self._table, self._keys, self._slots, self._fresh, self._fresh_count, bands[band], viewer_key, offset,
                shown_until_ms, now_ms, excluded, filled, slots_out, offsets_out,
            )  # fmt: skip
            bands_out[begin:filled] = band
            band, offset = band + 1, 0
        return slots_out[:filled], bands_out[:filled], offsets_out[:filled]


def _resumed(after: tuple[int, int] | None) -> tuple[int, int]:
    """First (band, offset) behind a place."""
    if after is None:
        return 0, 0
    band, offset = after
    return (band, offset + 1) if offset < _LAST_OFFSET else (band + 1, 0)
