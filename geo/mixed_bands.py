"""Distance bands between published cells of different resolutions: a pair is judged at the coarser of its two.

Between coarser cells the first band is wider, so that it is wider than the cell: < 10 km at resolution 6 (7.4 km
across), < 20 km at 5 (19.7 km). A radius covers at least the first band of every pair: who may be nearer is listed.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Final

import h3.api.basic_int as h3_int
import numpy as np
from numpy.typing import NDArray

from geo import cells as geo_cells
from geo.crowd import EMPTY_BAND, Joined, JoinedBands, coarse_cover, joined
from geo.privacy import STRANGER_BANDS_M, STRANGER_RESOLUTION, bands_within

Cells = NDArray[np.uint64]
Band = tuple[int, int]

_SMALL_M = 10_000
_PARENT_M = (
    12_000.0  # from a cell's centre to that of its parent of resolution 5, whose circumradius is 11.3 km at most
)

BANDS_M: Final[dict[int, tuple[int, ...]]] = {
    7: STRANGER_BANDS_M,
    6: (0, 10_000, 20_000, 50_000),
    5: (0, 20_000, 50_000),
}
"""Borders of the bands by the resolution at which a pair is judged."""


def first_band_m(resolution: int) -> int:
    """Where the first band of a resolution ends."""
    return BANDS_M[resolution][1]


def bands_of(resolution: int, radius_m: int) -> list[Band]:
    """The bands of a resolution within a radius, nearest first, the first always. ValueError as ``bands_within``."""
    borders = BANDS_M[resolution]
    bands_within(radius_m)
    return [band for band in pairwise(borders) if band[0] == 0 or band[1] <= radius_m]


class MixedBandsAround(JoinedBands):
    """The bands around a viewer's cell of any published resolution, as a sequence of the cells in each.

    ``limits`` are their borders, ordered by the outer, then by the inner one; bands of several resolutions that have
    the same borders are one, so that its members are merged by key whatever their cells.
    """

    __slots__ = ("_cell", "_small", "limits")

    def __init__(self, cell: int, radius_m: int) -> None:
        self._cell = cell
        own = geo_cells.resolution_of(cell)
        found = {band for resolution in BANDS_M if resolution <= own for band in bands_of(resolution, radius_m)}
        self.limits: list[Band] = sorted(found, key=lambda band: (band[1], band[0]))
        self._small = sum(band[1] <= _SMALL_M for band in self.limits)

    def __len__(self) -> int:
        return len(self.limits)

    def band(self, index: int) -> Cells:
        """As ``cells_of_band``."""
        return cells_of_band(self._cell, self.limits[index])

    def joined(self, first: int, anyone_in: Callable[[Cells], bool]) -> Joined:
        """All bands that end within ``_SMALL_M`` together, each other one alone."""
        if first < self._small:
            return _joined(self._cell, tuple(self.limits[first : self._small]))
        if not anyone_in(_coarse(self._cell, self.limits[first][1])):
            return EMPTY_BAND
        return _joined(self._cell, (self.limits[first],))


@lru_cache(maxsize=4096)
def _joined(cell: int, bands: tuple[Band, ...]) -> Joined:
    return joined([cells_of_band(cell, band) for band in bands])


def _coarse(cell: int, radius_m: int) -> Cells:
    """A pair is judged between parents of the two, whose centres each lie within ``_PARENT_M`` of theirs."""
    return coarse_cover(cell, radius_m + 2.0 * _PARENT_M)


@lru_cache(maxsize=1024)
def cells_of_band(cell: int, band: Band) -> Cells:
    """Published cells, uint64[n], of whoever is in a band seen from ``cell``; of any resolution from 5 to 7."""
    own = geo_cells.resolution_of(cell)
    judged_at = [resolution for resolution in BANDS_M if resolution <= own and band in _all(resolution)]
    found = np.concatenate([_cells_at(cell, resolution, band) for resolution in judged_at])
    found.flags.writeable = False
    return found


def _all(resolution: int) -> list[Band]:
    return bands_of(resolution, STRANGER_BANDS_M[-1])


def _cells_at(cell: int, resolution: int, band: Band) -> Cells:
    """Of the members that make a pair of ``resolution`` with ``cell``."""
    around, distances_m = geo_cells.disk(geo_cells.parent(cell, resolution), band[1])
    around = around[distances_m >= band[0]]
    return around if resolution < geo_cells.resolution_of(cell) else with_finer(around)


def with_finer(coarse: Cells) -> Cells:
    """Cells of one resolution and all of their descendants down to that of strangers."""
    finer = [
        child
        for cell in coarse.tolist()
        for resolution in range(geo_cells.resolution_of(cell) + 1, STRANGER_RESOLUTION + 1)
        for child in h3_int.cell_to_children(cell, resolution)
    ]
    return np.concatenate((coarse, np.array(finer, np.uint64)))


def pair(cell_a: int, cell_b: int) -> tuple[int, int]:
    """Two published cells at the coarser of their resolutions."""
    resolution = judged_at(cell_a, cell_b)
    return geo_cells.parent(cell_a, resolution), geo_cells.parent(cell_b, resolution)


def judged_at(cell_a: int, cell_b: int) -> int:
    """The resolution at which a pair of published cells is judged: the coarser of the two."""
    return min(geo_cells.resolution_of(cell_a), geo_cells.resolution_of(cell_b))
