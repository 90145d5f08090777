"""All points that somebody anywhere in an H3 cell could be answered with when asking for the k nearest."""

import math

import numpy as np
from numpy.typing import NDArray

from geo import cells, sphere
from geo.kernels import cell_nearest as kernels
from geo.places import Places

_LEAST_M = 1.0
# Cells are given by corners in degrees, to about 1e-9; the sides are moved out by a millionth, 1 mm at resolution 7.
_OUTWARD = 1.0 + 1e-6

Rows = NDArray[np.int64]


def nearest_in_cell(places: Places, lats: NDArray[np.float64], lons: NDArray[np.float64], cell: int, k: int) -> Rows:
    """Every row of ``places`` that is among the ``k`` nearest of some point of the cell, ascending, i64.

    Complete by the proof in ``geo.kernels.cell_nearest``; a row more can be among them only if it is one of the k
    nearest of a point within 1 m of the cell. ``lats, lons``: what ``places`` was built from. ``ValueError`` for what
    is no cell, or one of more than 100 km.

    The k-th nearest of the centre is at D; from a point of the cell, at most r from the centre, k are within D + r; so
    whatever is wanted lies within D + 2 r of the centre, and only that is looked at.
    """
    lat, lon = cells.center(cell)
    corners = _outward(cell)
    middle = sphere.unit_vectors([lat], [lon])
    reach_m = max(sphere.great_circle_m(lat, lon, *_point(corner)) for corner in corners)
    if reach_m > 50_000.0:
        raise ValueError("the cell is too large")
    _, distances_m = places.nearest(lat, lon, k)
    if len(distances_m) < k:
        return np.arange(len(places))
    bound_m = float(distances_m[-1]) + 2.0 * reach_m + 1.0
    all_m = sphere.great_circle_m(lat, lon, lats, lons)
    candidates = np.flatnonzero(all_m <= bound_m)
    turns = np.roll(corners, -1, axis=0)
    triangles = np.stack([np.broadcast_to(middle[0], corners.shape), corners, turns], axis=1)
    points = sphere.unit_vectors(lats[candidates], lons[candidates])
    chosen = kernels.nearest_of_some_point(np.ascontiguousarray(triangles), points, k, _LEAST_M / sphere.EARTH_RADIUS_M)
    found: Rows = candidates[chosen]
    return found


def _outward(cell: int) -> NDArray[np.float64]:
    """Corners of a cell as unit vectors, f64[m, 3], moved away from its centre by a millionth."""
    boundary = cells.boundary(cell)
    corners = sphere.unit_vectors(boundary[:, 0], boundary[:, 1])
    lat, lon = cells.center(cell)
    middle = sphere.unit_vectors([lat], [lon])[0]
    moved = middle + (corners - middle) * _OUTWARD
    outward: NDArray[np.float64] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return outward


def _point(vector: NDArray[np.float64]) -> tuple[float, float]:
    x, y, z = (float(one) for one in vector)
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))
