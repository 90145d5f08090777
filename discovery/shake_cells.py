"""Rows of the shake cells in use, with the rows of the cells around each: the disk table of the matching kernel."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from geo import cells, privacy
from geo.kernels.matching import MAX_NEAR, NONE

NEAR_M: Final = float(privacy.STRANGER_BANDS_M[2])
"""Where band 1 ends, from cell centre to cell centre, exclusive."""

_FIRST_ROWS = 64


class ShakeCells:
    """Numbers cells as rows and keeps, for each row, the rows within 5 km and their bands.

    ``near_row`` int32[rows, 48] and ``near_band`` int8[rows, 48], -1 = unused; ``ends`` int32[rows, 2, 2], the first
    and last listed shake of each row and age band. All three have at least ``len(self)`` rows.
    """

    def __init__(self) -> None:
        self._row_of: dict[int, int] = {}
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
        self.near_row = np.full((rows, MAX_NEAR), NONE, np.int32)
        self.near_band = np.full((rows, MAX_NEAR), NONE, np.int8)
        self.ends = np.full((rows, 2, 2), NONE, np.int32)

    def _grow(self) -> None:
        rows = len(self)
        old = self.near_row, self.near_band, self.ends
        self._reserve(2 * rows)
        self.near_row[:rows], self.near_band[:rows], self.ends[:rows] = old

    def _add(self, cell: int) -> int:
        around, distances_m = cells.disk(cell, NEAR_M)
        row = len(self)
        if row == len(self.near_row):
            self._grow()
        self._row_of[cell] = row
        for other, distance_m in zip(around.tolist(), distances_m.tolist(), strict=True):
            other_row = self._row_of.get(other)
            if other_row is not None:
                self._link(row, other_row, privacy.band_of(distance_m))
        return row

    def _link(self, row: int, other: int, band: int) -> None:
        """Both ways: a distance between centres is the same to the last bit from either side."""
        for here, there in {(row, other), (other, row)}:
            column = int(np.count_nonzero(self.near_row[here] != NONE))
            self.near_row[here, column] = there
            self.near_band[here, column] = band
