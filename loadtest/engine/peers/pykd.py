"""pykdtree on unit vectors: made for many points in one call, with OpenMP. A single call is given one thread."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pykdtree.kdtree import KDTree

from loadtest.engine.peers import Asked, OnVectors, chord, vector
from loadtest.engine.worlds import Points


class PyKDTree(OnVectors):
    name: ClassVar[str] = "pykdtree"

    def __init__(self, points: Points) -> None:
        super().__init__(points)
        self.tree = KDTree(self.vectors)
        self._count = len(self.vectors)

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        return partial(self.tree.query, vector(lat, lon)[None], k=k, distance_upper_bound=chord(radius_m))

    def ids(self, answer: Any) -> NDArray[np.int64]:
        rows = answer[1].ravel()
        return np.asarray(rows[rows < self._count], np.int64)
