"""The people index of one stranger epoch, and the cells of each distance band around a viewer's cell."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from geo import cells as geo_cells
from geo.kernels import ranking as kernels
from geo.privacy import STRANGER_BANDS_M

Cells = NDArray[np.uint64]
Slots = NDArray[np.int32]
Page = tuple[Slots, NDArray[np.int32], NDArray[np.uint64]]

_LAST_OFFSET = (1 << 64) - 1
# Members added since the build stand apart until they fill their room: an insertion moves at most all of those, 3 us
# at this number, and n / 16 insertions pay for a build of n members.
_LEAST_ROOM = 256
_MOST_ROOM = 16_384
_ROOM_SHARE = 16
# A cell's centre lies at most this far from that of its parent of resolution 4: the parent's circumradius (25.9 km on
# average, 29.8 km at most) and what logical containment adds to it.
_COARSE_REACH_M = 33_000.0
_INT32, _UINT64 = np.dtype(np.int32), np.dtype(np.uint64)

# The bands up to 10 km around one cell hold about 60 cells, the other two about 1,600.
_LAST_SMALL_BAND = 2


class Joined(NamedTuple):
    """Successive bands: band i holds ``cells[ends[i - 1]:ends[i]]``; uint64[n] and int64[bands]."""

    cells: Cells
    ends: NDArray[np.int64]


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


class JoinedBands(Sequence[Cells]):
    """Bands around a cell, nearest first, as a sequence of the cells in each, worked out when they are asked for."""

    __slots__ = ()

    @overload
    def __getitem__(self, index: int) -> Cells: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cells]: ...
    def __getitem__(self, index: int | slice) -> Cells | list[Cells]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.band(index)

    @abstractmethod
    def band(self, index: int) -> Cells:
        """The cells of one band."""

    @abstractmethod
    def joined(self, first: int, anyone_in: Callable[[Cells], bool]) -> Joined:
        """Band ``first``, and those behind it that are small enough to be taken with it.

        A large one comes without its cells if there is nobody ``anyone_in`` cells of resolution ``COARSE`` that hold it
        all.
        """


class BandsAround(JoinedBands):
    """The first ``count`` bands around a cell."""

    __slots__ = ("_cell", "_count", "_small")

    def __init__(self, cell: int, count: int) -> None:
        self._cell = cell
        self._count = count
        self._small = count if count <= _LAST_SMALL_BAND else _LAST_SMALL_BAND + 1

    def __len__(self) -> int:
        return self._count

    def band(self, index: int) -> Cells:
        """As ``band_cells``."""
        return band_cells(self._cell, index)

    def joined(self, first: int, anyone_in: Callable[[Cells], bool]) -> Joined:
        """The bands up to 10 km together, each other one alone."""
        if first <= _LAST_SMALL_BAND:
            return _small_bands(self._cell, first, self._small)
        if not anyone_in(coarse_cover(self._cell, STRANGER_BANDS_M[first + 1])):
            return EMPTY_BAND
        return joined([self.band(first)])


EMPTY_BAND = Joined(np.empty(0, np.uint64), np.zeros(1, np.int64))


def joined(bands: Sequence[Cells]) -> Joined:
    """Several bands as one."""
    return Joined(np.concatenate(bands), np.cumsum([band.size for band in bands]))


@lru_cache(maxsize=16_384)
def _small_bands(cell: int, first: int, end: int) -> Joined:
    cells, distances_m = geo_cells.disk(cell, STRANGER_BANDS_M[end])
    ends = np.searchsorted(distances_m, STRANGER_BANDS_M[first : end + 1])
    return Joined(cells[ends[0] :].copy(), ends[1:] - ends[0])


@lru_cache(maxsize=16_384)
def coarse_cover(cell: int, radius_m: float) -> Cells:
    """Parents of resolution ``COARSE`` of all cells, of that resolution or finer ones, whose centre lies within
    ``radius_m`` of that of ``cell``; and others near them."""
    return _coarse_cover(geo_cells.parent(cell, kernels.COARSE), radius_m)


@lru_cache(maxsize=4096)
def _coarse_cover(parent: int, radius_m: float) -> Cells:
    return geo_cells.disk(parent, radius_m + 2.0 * _COARSE_REACH_M)[0]


class Crowd:
    """Members of one epoch, each a cell of resolution 4 to 15, a key on the keyed circle and a slot number.

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
        if kernels.flag_all(self._known, slots) != slots.size:
            raise ValueError("a slot occurs twice")
        self._removed = 0
        self._build(cells, keys, slots)

    def _build(self, cells: Cells, keys: NDArray[np.uint64], slots: Slots) -> None:
        room = min(max(_LEAST_ROOM, cells.size // _ROOM_SHARE), _MOST_ROOM)
        table = kernels.cell_table(cells)
        self._index = _new_index(table, cells.size + room, room)
        self._table, _, _, self._fresh_cells, self._keys, self._slots = kernels.views(self._index)
        kernels.group_by_cell(cells, keys, slots, self._table, self._keys, self._slots)
        kernels.mark_all(self._index, self._table[:, 0].copy())
        self._built = cells.size
        self._fresh_count = 0

    def add(self, cell: int, key: int, slot: int) -> None:
        """Add one member as ``add_many`` does."""
        self.add_many(np.array([cell], np.uint64), np.array([key], np.uint64), np.array([slot], np.int32))

    def add_many(self, cells: Cells, keys: NDArray[np.uint64], slots: Slots) -> None:
        """Add n members that appear after the build, each at its key. ``ValueError`` if a slot is one already, negative
        or twice among them."""
        if not slots.size:
            return
        if slots.min() < 0 or self._knows(slots).any() or np.unique(slots).size < slots.size:
            raise ValueError("a slot is negative or already in the crowd")
        if self._fresh_count + slots.size > self._fresh_cells.size:
            self._fold_fresh(cells, keys, slots)
        else:
            order = np.lexsort((slots, keys, cells))
            kernels.merge_fresh(
                self._fresh_cells, self._fresh_count, self._keys, self._slots, cells, keys, slots, order
            )
            kernels.mark_all(self._index, cells)
            self._fresh_count += slots.size
            self._index[kernels.ADDED] = self._fresh_count
        self._remember(slots)

    def _knows(self, slots: Slots) -> NDArray[np.bool_]:
        return self._known[slots[slots < self._known.size]]

    def _remember(self, slots: Slots) -> None:
        last = int(slots.max())
        if last >= self._known.size:
            self._known = np.concatenate((self._known, np.zeros(last + 1, dtype=np.bool_)))
        self._known[slots] = True

    def remove(self, cell: int, key: int, slot: int) -> None:
        """Take out a member, of whom cell and key are as they were given. ``ValueError`` if there is none."""
        if not kernels.remove(
            self._table, self._keys, self._slots, self._fresh_cells, self._fresh_count, cell, key, slot
        ):
            raise ValueError(f"slot {slot} is not in the crowd at that cell and key")
        self._known[slot] = False
        self._removed += 1

    @property
    def added(self) -> int:
        """How many members came after the build: each costs what is added a few ns more."""
        return self._fresh_count

    def _fold_fresh(self, cells: Cells, keys: NDArray[np.uint64], slots: Slots) -> None:
        """Build anew with some more."""
        starts, ends = self._table[:, 1] >> np.uint64(32), self._table[:, 1] & np.uint64(0xFFFF_FFFF)
        used = np.flatnonzero(starts < ends)
        used = used[np.argsort(starts[used])]
        built_cells = np.repeat(self._table[used, 0], (ends[used] - starts[used]).astype(np.int64))
        old_cells = np.concatenate((built_cells, self._fresh_cells[: self._fresh_count]))
        kept = self._slots[: old_cells.size] >= 0
        old_keys, old_slots = self._keys[: old_cells.size][kept], self._slots[: old_cells.size][kept]
        self._removed = 0
        self._build(
            np.concatenate((old_cells[kept], cells)),
            np.concatenate((old_keys, keys)),
            np.concatenate((old_slots, slots)),
        )

    def __len__(self) -> int:
        return self._built + self._fresh_count - self._removed

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
    ) -> Page:
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
        band, offset = (0, 0) if after is None else _behind(*after)
        next_bands = getattr(bands, "joined", None) or partial(_alone, bands)
        pages: list[Page] = []
        while band < len(bands):
            cells, ends = next_bands(band, self._anyone_in)
            if not cells.size:
                band, offset = band + ends.size, 0
                continue
            page = _room(limit)
            filled = kernels.rank_bands(
                self._index, cells, ends, viewer_key, offset, shown_until_ms, now_ms, excluded, *page
            )
            if band:
                page[1][:filled] += band
            if filled == limit and not pages:
                return page
            pages.append((page[0][:filled], page[1][:filled], page[2][:filled]))
            limit -= filled
            if not limit:
                break
            band, offset = band + ends.size, 0
        return pages[0] if len(pages) == 1 else _one_page(pages)

    def _anyone_in(self, coarse: Cells) -> bool:
        return bool(kernels.anyone_in(self._index, coarse))


def _new_index(table: NDArray[np.uint64], places: int, room: int) -> NDArray[np.uint64]:
    """With this table and places for so many members, ``room`` of them for those added; nobody is marked."""
    rows = len(table)
    sets = kernels.HEADER + 2 * rows
    members = sets + (rows * kernels.MARKS_PER_ROW + kernels.COARSE_BITS) // 64
    # NumPy asks for huge pages, which spare a look-up in a large table a second miss.
    index = np.empty(members + room + places + (places + 1) // 2, np.uint64)
    index[: kernels.HEADER] = rows, places, room, 0, 0, 0, 0, 0
    index[kernels.HEADER : sets] = table.ravel()
    index[sets:members] = 0
    return index


def _room(limit: int) -> Page:
    return np.empty(limit, _INT32), np.empty(limit, _INT32), np.empty(limit, _UINT64)


def _one_page(pages: list[Page]) -> Page:
    if not pages:
        return _room(0)
    slots, bands, offsets = (np.concatenate(column) for column in zip(*pages, strict=True))
    return slots, bands, offsets


def _alone(bands: Sequence[Cells], band: int, _: Callable[[Cells], bool]) -> Joined:
    return joined([bands[band]])


def _behind(band: int, offset: int) -> tuple[int, int]:
    """First (band, offset) behind a place."""
    return (band, offset + 1) if offset < _LAST_OFFSET else (band + 1, 0)
