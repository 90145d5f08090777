"""Sparse areas: which cell strangers see where few people live, from a static table of residents.

The world is parted into published cells of the resolutions 7, 6 and 5, so that at least ``LEAST_RESIDENTS`` live in
each part. A part is what is left of its cell when the finer parts in it are taken away: who is shown in a cell of
resolution 6 is in none of its children that are parts themselves, and anybody can work out the table. So the rest
counts, not the cell: where it would hold too few, the part with the fewest residents joins it.

The floor is resolution 5, what `city` shows: where not even that has enough residents (the sea, deserts), it is shown
all the same. Nothing here ever depends on who uses the service: a crowd of accounts must not make anybody finer.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import h3.api.basic_int as h3_int
import numpy as np
from numpy.typing import ArrayLike, NDArray

from geo import cells, sphere
from geo.privacy import CITY_RESOLUTION, STRANGER_RESOLUTION, UNCERTAINTY_PER_SQRT_AREA

LEAST_RESIDENTS: Final = 1_500
"""Residents of a part. The size of a census tract, where home and work together leave about 21 people."""

MIDDLE_RESOLUTION: Final = 6

# The population of a place is one number at one point. It is laid over a disc of this density on average, of cities
# rather than suburbs (a wider one would claim residents for fields), twice as dense in the middle as at the rim.
_RESIDENTS_PER_M2: Final = 3_000 / 1e6
_NEXT_CENTRE_M: Final = 1_700.0  # no two centres of resolution 7 lie nearer (1,746 m, beside a pentagon)

Cells = NDArray[np.uint64]


class SparseAreas:
    """The parts: ``fine`` cells of resolution 7 and ``middle`` ones of 6, uint64[n] ascending; all else is of 5."""

    def __init__(self, fine: Cells, middle: Cells) -> None:
        self.fine = fine
        self.middle = middle

    def published(self, cell7: int) -> int:
        """The cell shown for one of resolution 7: itself or a parent."""
        if _has(self.fine, cell7):
            return cell7
        middle = cells.parent(cell7, MIDDLE_RESOLUTION)
        return middle if _has(self.middle, middle) else cells.parent(middle, CITY_RESOLUTION)

    def published_many(self, cells7: ArrayLike) -> Cells:
        """``published`` of n cells: uint64[n]."""
        array = np.asarray(cells7, dtype=np.uint64)
        middle = cells.parents(array, MIDDLE_RESOLUTION)
        coarser = np.where(_holds(self.middle, middle), middle, cells.parents(array, CITY_RESOLUTION))
        return np.where(_holds(self.fine, array), array, coarser)

    def uncertainty_m(self, cell: int) -> float:
        """Declared uncertainty of a published cell in metres: by the area of its part alone.

        No point is nearer to half of an area A than 0.399 sqrt(A) in the median, whatever its shape: the disc of half
        the area around it has that radius. ``ValueError`` for a cell that is no part.
        """
        area_m2 = sum(cells.area_m2(child) for child in self.part(cell))
        if not area_m2:
            raise ValueError("nobody is shown in that cell")
        return UNCERTAINTY_PER_SQRT_AREA * math.sqrt(area_m2)

    def part(self, cell: int) -> list[int]:
        """The cells of resolution 7 that are shown as ``cell``."""
        children = _children(cell, STRANGER_RESOLUTION)
        shown: list[int] = children[self.published_many(children) == np.uint64(cell)].tolist()

        return shown


def _has(ascending: Cells, value: int) -> bool:
    at = int(np.searchsorted(ascending, np.uint64(value)))
    return at < len(ascending) and int(ascending[at]) == value


def _holds(ascending: Cells, values: Cells) -> NDArray[np.bool_]:
    if not len(ascending):
        return np.zeros(values.shape, np.bool_)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.asarray(ascending[at] == values)


@lru_cache(maxsize=4096)
def _children(cell: int, resolution: int) -> Cells:
    found = np.array(h3_int.cell_to_children(cell, resolution), np.uint64)
    found.flags.writeable = False
    return found


# --- the table ---


def sparse_areas(residents: dict[int, float], least: float = LEAST_RESIDENTS) -> SparseAreas:
    """The parts for the residents of cells of resolution 7 (absent: none)."""
    cities: defaultdict[int, defaultdict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell, count in residents.items():
        middle = cells.parent(cell, MIDDLE_RESOLUTION)
        cities[cells.parent(middle, CITY_RESOLUTION)][middle][cell] = count
    parts = [part for city, by_middle in cities.items() for part in _parts_of(city, by_middle, least)]
    fine = sorted(part.cell for part in parts if cells.resolution_of(part.cell) == STRANGER_RESOLUTION)
    coarse = sorted(part.cell for part in parts if cells.resolution_of(part.cell) == MIDDLE_RESOLUTION)
    return SparseAreas(np.array(fine, np.uint64), np.array(coarse, np.uint64))


class _Part(NamedTuple):
    """A published cell and the residents of its part; by residents, then by cell."""

    residents: float
    cell: int


def _parts_of(city: int, by_middle: dict[int, dict[int, float]], least: float) -> list[_Part]:
    """The parts finer than resolution 5 in one cell of it."""
    totals = {middle: sum(inhabited.values()) for middle, inhabited in by_middle.items()}
    settled = [_parts_of_middle(middle, by_middle[middle], least) for middle in by_middle if totals[middle] >= least]
    parts = [part for middle_parts in settled for part in middle_parts]
    rest = sum(total for total in totals.values() if total < least)
    if parts and rest < least and len(settled) < _child_count(city):
        # The rest of a cell of resolution 6 comes last; where there is none, any child can join.
        parts.remove(min(part for of_middle in settled for part in _separable(of_middle)))
    return parts


def _separable(parts: list[_Part]) -> list[_Part]:
    """Which parts of a cell of resolution 6 are shown at 5 when they are no parts: not a child beside a rest."""
    last_is_rest = cells.resolution_of(parts[-1].cell) == MIDDLE_RESOLUTION
    return parts[-1:] if last_is_rest else parts


def _parts_of_middle(middle: int, inhabited: dict[int, float], least: float) -> list[_Part]:
    """The parts in a cell of resolution 6 that has residents enough: children, and the cell itself for the rest."""
    fine = sorted(_Part(count, cell) for cell, count in inhabited.items() if count >= least)
    rest = sum(count for count in inhabited.values() if count < least)
    if len(fine) == _child_count(middle):
        return fine
    if rest < least:
        rest += fine.pop(0).residents
    return [*fine, _Part(rest, middle)]


def _child_count(cell: int) -> int:
    return int(h3_int.cell_to_children_size(cell, cells.resolution_of(cell) + 1))


def residents_of(lats: ArrayLike, lons: ArrayLike, populations: ArrayLike) -> dict[int, float]:
    """Residents of cells of resolution 7, from n places in degrees with their populations.

    Where discs overlap the larger share counts, not the sum: GeoNames has cities and their districts side by side.
    """
    lat_array, lon_array = sphere.as_points(lats, lons)
    found: dict[int, float] = {}
    homes = cells.cells_of(lat_array, lon_array, STRANGER_RESOLUTION).tolist()
    for home, population in zip(homes, np.asarray(populations, np.float64).tolist(), strict=True):
        for cell, share in _shares(home, population):
            if share > found.get(cell, 0.0):
                found[cell] = share
    return found


def _shares(home: int, population: float) -> Iterable[tuple[int, float]]:
    """Cells over which a population is laid, and its share in each: those whose centre lies in its disc, its own at
    least."""
    radius_m = math.sqrt(max(population, 1.0) / (math.pi * _RESIDENTS_PER_M2))
    if radius_m < _NEXT_CENTRE_M:
        return [(home, population)]
    covered, distances_m = cells.disk(home, radius_m)
    weights = 2.0 - np.square(distances_m / radius_m)
    return zip(covered.tolist(), (population * weights / weights.sum()).tolist(), strict=True)
