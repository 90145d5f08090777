"""SciPy's cKDTree on unit vectors. It cannot be changed once built."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from loadtest.engine.peers import Asked, OnVectors, chord, vector
from loadtest.engine.worlds import Points


class CKDTree(OnVectors):
    name: ClassVar[str] = "cKDTree"

    def __init__(self, points: Points) -> None:
        super().__init__(points)
        self.tree = cKDTree(self.vectors)
        self._count = len(self.vectors)

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        return partial(self.tree.query, vector(lat, lon), k=k, distance_upper_bound=chord(radius_m))

    def ids(self, answer: Any) -> NDArray[np.int64]:
        _, rows = answer
        return np.asarray(rows[rows < self._count], np.int64)
