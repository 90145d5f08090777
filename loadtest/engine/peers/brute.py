"""Brute force: all distances by NumPy, then a partition. What one writes first."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from loadtest.engine.peers import Asked, OnVectors, chord, vector


class BruteForce(OnVectors):
    name: ClassVar[str] = "NumPy"
    largest: ClassVar[int] = 1_000_000
    why_no_larger: ClassVar[str] = "time and memory of a call grow with the points"

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        # Squared chord = 2 - 2 cos(angle); the dot product loses 1e-16 of 1, which is 0.1 m: hence differences.
        return partial(self._nearest, vector(lat, lon), k, chord(radius_m) ** 2)

    def _nearest(self, towards: NDArray[np.float64], k: int, squared: float) -> NDArray[np.int64]:
        apart = self.vectors - towards
        chords = np.einsum("ij,ij->i", apart, apart)
        rows = np.flatnonzero(chords <= squared)
        if len(rows) > k:
            rows = rows[np.argpartition(chords[rows], k - 1)[:k]]
        return np.asarray(rows[np.argsort(chords[rows])])

    def ids(self, answer: Any) -> NDArray[np.int64]:
        return np.asarray(answer, np.int64)
