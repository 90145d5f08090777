"""Rows of a set by rising distance from a point, in batches: as far as somebody asks for more."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from discovery.stores.filters import Filter, rows_of
from discovery.stores.row_set import Rows
from discovery.stores.store_set import StoreSet
from discovery.stores.subsets import FEW
from geo.kernels.open_hours import distances_of_rows
from geo.places import Places

Floats = NDArray[np.float64]

_GROWTH = 4  # a look that finds too few looks at so many times more next
# The index keeps its k best in order by insertion: 0.9 ms for k = 1,280 but 0.26 s for 20,480 and 20 s for 191,806; a
# scan of all takes 10 ms for 100,000.
_MOST_BY_INDEX = 2_500


class Ring(NamedTuple):
    """``min_m <= distance <= max_m`` from a point in degrees."""

    lat: float
    lon: float
    min_m: float
    max_m: float


def rising(stores: StoreSet, ring: Ring, fit: Filter, first: int) -> Iterator[tuple[Rows, Floats]]:
    """Batches of rows in the ring that pass the filter, and their distances in metres; all rising, ties by row.

    ``first``: how many are likely to be enough. Ends when there are no more.
    """
    if fit.subset is not None and fit.subset.rows.count <= FEW:
        yield _by_scan(stores, ring, fit)
        return
    # Rows given are remembered: of equally distant ones a larger answer may name others first.
    given = np.empty(0, dtype=np.int64)
    count = first
    places = stores.places if fit.subset is None else fit.subset.places()
    while count <= _MOST_BY_INDEX:
        rows, distances_m = _by_index(places, ring, fit.mask, count)
        yield _new(rows, distances_m, given)
        if len(rows) < count:
            return
        given = rows
        count *= _GROWTH
    yield _new(*_by_scan(stores, ring, fit), given)


def _by_index(places: Places, ring: Ring, mask: int, count: int) -> tuple[Rows, Floats]:
    lat, lon, min_m, max_m = ring
    return places.nearest(lat, lon, count, max_m, min_m, mask)


def _new(rows: Rows, distances_m: Floats, given: Rows) -> tuple[Rows, Floats]:
    if len(given) == 0:
        return rows, distances_m
    new = ~np.isin(rows, given)
    return rows[new], distances_m[new]


def _by_scan(stores: StoreSet, ring: Ring, fit: Filter) -> tuple[Rows, Floats]:
    """All rows that fit, by a look at each that the filter lets through."""
    rows = rows_of(stores, fit)
    chords2, distances_m = distances_of_rows(ring.lat, ring.lon, stores.lats, stores.lons, rows)
    order = np.lexsort((rows, chords2))
    order = order[(distances_m[order] >= ring.min_m) & (distances_m[order] <= ring.max_m)]
    return rows[order], distances_m[order]
