"""scikit-learn's BallTree with its haversine metric. It has no k nearest within a radius: the radius is cut after."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import BallTree

from geo import sphere
from loadtest.engine.peers import Asked
from loadtest.engine.worlds import Points


class HaversineBallTree:
    name: ClassVar[str] = "BallTree"
    off_m: ClassVar[float] = 1e-3
    largest: ClassVar[int] = 1_000_000
    why_no_larger: ClassVar[str] = "building it for 10 million takes about half a minute a world"

    def __init__(self, points: Points) -> None:
        self.tree = BallTree(np.radians(np.column_stack(points)), metric="haversine")
        self._count = len(points[0])

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        place, radius = np.radians([[lat, lon]]), radius_m / sphere.EARTH_RADIUS_M
        return partial(self._nearest, place, min(k, self._count), radius)

    def _nearest(self, place: NDArray[np.float64], k: int, radius: float) -> NDArray[np.int64]:
        angles, rows = self.tree.query(place, k=k)
        return np.asarray(rows[0][angles[0] <= radius])

    def ids(self, answer: Any) -> NDArray[np.int64]:
        return np.asarray(answer, np.int64)
