"""shapely's STRtree. It is planar and has no k nearest: a box of degrees gives candidates, NumPy measures and sorts.

That is right away from the poles and the antimeridian only, so questions whose box would reach them are refused.
"""

from functools import partial
from typing import Any, ClassVar

import numpy as np
import shapely
from numpy.typing import NDArray

from geo import sphere
from loadtest.engine.peers import Asked, chord, vector
from loadtest.engine.worlds import Points


class BoxesSTRtree:
    name: ClassVar[str] = "STRtree"
    off_m: ClassVar[float] = 1e-3
    largest: ClassVar[int] = 1_000_000
    why_no_larger: ClassVar[str] = "it keeps a Python-visible geometry object for each point"

    def __init__(self, points: Points) -> None:
        lats, lons = points
        self.tree = shapely.STRtree(shapely.points(lons, lats))
        self._vectors = sphere.unit_vectors(lats, lons)

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        high = np.degrees(radius_m / sphere.EARTH_RADIUS_M)
        # Where a circle reaches farthest east: sin(width) = sin(radius) / cos(lat).
        wide = np.degrees(np.arcsin(np.sin(np.radians(high)) / np.cos(np.radians(lat))))
        if abs(lat) + high >= 90.0 or abs(lon) + wide >= 180.0:
            raise ValueError("a box of degrees does not reach around a pole or across the antimeridian")
        box = shapely.box(lon - wide, lat - high, lon + wide, lat + high)
        return partial(self._nearest, box, vector(lat, lon), k, chord(radius_m) ** 2)

    def _nearest(self, box: Any, towards: NDArray[np.float64], k: int, squared: float) -> NDArray[np.int64]:
        rows = self.tree.query(box)
        apart = self._vectors[rows] - towards
        chords = np.einsum("ij,ij->i", apart, apart)
        inside = chords <= squared
        rows, chords = rows[inside], chords[inside]
        if len(rows) > k:
            best = np.argpartition(chords, k - 1)[:k]
            rows, chords = rows[best], chords[best]
        return np.asarray(rows[np.argsort(chords)])

    def ids(self, answer: Any) -> NDArray[np.int64]:
        return np.asarray(answer, np.int64)
