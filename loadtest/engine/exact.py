"""What is right: brute force over all points in NumPy, and the check that every timed answer passes on a sample."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geo import sphere
from loadtest.engine.worlds import Points

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


class Unequal(Exception):
    """A contender answered otherwise than brute force: its times would mean nothing."""


class Exact:
    """All points of one world, and their distances from any place by the law of cosines' safe form: the chord."""

    def __init__(self, points: Points) -> None:
        self.vectors = _vectors(*points)

    def distances_m(self, lat: float, lon: float) -> Floats:
        """Great-circle distances in metres from a place, f64[n]."""
        towards = _vectors(np.array([lat]), np.array([lon]))
        squared = np.zeros(len(self.vectors))
        for axis in range(3):
            apart = self.vectors[:, axis] - towards[0, axis]
            squared += apart * apart
        return np.asarray(2.0 * sphere.EARTH_RADIUS_M * np.arcsin(np.minimum(1.0, np.sqrt(squared) / 2.0)))


def _vectors(lats: Floats, lons: Floats) -> Floats:
    """Unit vectors by NumPy alone, so that no kernel of ours is checked by itself."""
    lat, lon = np.radians(lats), np.radians(lons)
    return np.column_stack((np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))


def check_nearest(
    who: str, ids: Sequence[int] | Ids, distances_m: Floats, k: int, radius_m: float, off_m: float
) -> None:
    """``ids`` must be the ``k`` nearest within a radius, nearest first, given the exact distances of all points.

    ``off_m``: how far a contender's own distances may be off (positions in a geohash of 52 bits, a rounded sphere), so
    that neighbours less apart may change places. Raises Unequal.
    """
    got = distances_m[np.asarray(ids, np.int64)]
    within = distances_m[distances_m <= radius_m + off_m]
    best = np.sort(np.partition(within, k - 1)[:k] if len(within) > k else within)
    sure = min(k, int(np.count_nonzero(within <= radius_m - off_m)))
    if len(set(map(int, ids))) != len(got):
        raise Unequal(f"{who}: one point twice in an answer")
    if not sure <= len(got) <= len(best):
        raise Unequal(f"{who}: {len(got)} points, brute force finds {sure} to {len(best)}")
    if (got < best[: len(got)] - off_m).any() or (got > best[: len(got)] + off_m).any():
        raise Unequal(f"{who}: up to {np.abs(got - best[: len(got)]).max():g} m from the answer of brute force")
