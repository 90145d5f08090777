"""Rows of the shake cells in use, with the rows of the cells around each: the disk table of the matching kernel."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo import cells, privacy
from geo.kernels.matching import MAX_NEAR, NONE
from geo.mixed_bands import first_band_m, with_finer

NEAR_M: Final = float(privacy.STRANGER_BANDS_M[2])
"""Where band 1 ends, from cell centre to cell centre, exclusive. Of coarser pairs only the first band is near."""

_FIRST_ROWS = 64


class ShakeCells:
    """Numbers cells as rows and keeps, for each row, the rows within 5 km and their bands.

    ``near_row`` int32[rows, w] and ``near_band`` int8[rows, w], -1 = unused; w = 48, more only where cells are coarser
    than resolution 7. ``ends`` int32[rows, 2, 2], the first and last listed shake of each row and age band. All three
    have at least ``len(self)`` rows.
    """

    def __init__(self) -> None:
        self._row_of: dict[int, int] = {}
        self._mixed = False  # whether any cell was coarser than resolution 7
        self._width = MAX_NEAR
        self._reserve(_FIRST_ROWS)

    def __len__(self) -> int:
        return len(self._row_of)

    def row(self, cell: int) -> int:
        """Row of a cell, made on first sight."""
        row = self._row_of.get(cell)
        return self._add(cell) if row is None else row

    def keep(self, used: NDArray[np.int32]) -> NDArray[np.int32]:
        """Drop all rows but ``used`` (ascending). Returns the new number of each old row, int32[rows], -1 = dropped."""
        renumbered = np.full(len(self) + 1, NONE, np.int32)  # its last element serves row -1
        renumbered[used] = np.arange(used.size, dtype=np.int32)
        near_row, near_band, ends = renumbered[self.near_row[used]], self.near_band[used], self.ends[used]
        # Gaps move to the right, so that new neighbours find their place after the others.
        order = np.argsort(near_row == NONE, axis=1, kind="stable")
        self._row_of = {cell: int(renumbered[row]) for cell, row in self._row_of.items() if renumbered[row] != NONE}
        self._reserve(max(_FIRST_ROWS, 2 * used.size))
        self.near_row[: used.size] = np.take_along_axis(near_row, order, axis=1)
        self.near_band[: used.size] = np.take_along_axis(near_band, order, axis=1)
        self.ends[: used.size] = ends
        return renumbered[:-1]

    def _reserve(self, rows: int) -> None:
        self.near_row = np.full((rows, self._width), NONE, np.int32)
        self.near_band = np.full((rows, self._width), NONE, np.int8)
        self.ends = np.full((rows, 2, 2), NONE, np.int32)

    def _grow(self) -> None:
        rows = len(self)
        old = self.near_row, self.near_band, self.ends
        self._reserve(2 * rows)
        self.near_row[:rows], self.near_band[:rows], self.ends[:rows] = old

    def _add(self, cell: int) -> int:
        self._mixed |= cells.resolution_of(cell) < privacy.STRANGER_RESOLUTION
        row = len(self)
        if row == len(self.near_row):
            self._grow()
        self._row_of[cell] = row
        for other, band in self._near_mixed(cell) if self._mixed else _near(cell):
            other_row = self._row_of.get(other)
            if other_row is not None:
                self._link(row, other_row, band)
        return row

    def _near_mixed(self, cell: int) -> list[tuple[int, int]]:
        """``_near`` with cells of every resolution: each pair by its own bands."""
        own = cells.resolution_of(cell)
        found = _near(cell) if own == privacy.STRANGER_RESOLUTION else []
        for resolution in range(privacy.CITY_RESOLUTION, min(own, privacy.STRANGER_RESOLUTION - 1) + 1):
            around, _ = cells.disk(cells.parent(cell, resolution), first_band_m(resolution))
            found += [(other, 0) for other in (with_finer(around) if resolution == own else around).tolist()]
        return found

    def _widen(self) -> None:
        self.near_row = np.concatenate((self.near_row, np.full_like(self.near_row, NONE)), axis=1)
        self.near_band = np.concatenate((self.near_band, np.full_like(self.near_band, NONE)), axis=1)
        self._width *= 2

    def _link(self, row: int, other: int, band: int) -> None:
        """Both ways: a distance between centres is the same to the last bit from either side."""
        for here, there in {(row, other), (other, row)}:
            column = int(np.count_nonzero(self.near_row[here] != NONE))
            if column == self._width:
                self._widen()
            self.near_row[here, column] = there
            self.near_band[here, column] = band


def _near(cell: int) -> list[tuple[int, int]]:
    """Cells of resolution 7 around one of them, with their bands."""
    around, distances_m = cells.disk(cell, NEAR_M)
    return list(zip(around.tolist(), map(privacy.band_of, distances_m.tolist()), strict=True))
