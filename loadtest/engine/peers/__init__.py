"""The peers, one file each: how each is set up on the points of a world, and how it is asked at its best.

Nothing is converted inside a timed call that a caller could have ready: unit vectors, packed commands, prepared
statements.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from geo import sphere
from loadtest.engine.worlds import Points

Asked = Callable[[], Any]


class Contender(Protocol):
    """Finds the nearest of fixed points."""

    name: ClassVar[str]
    off_m: ClassVar[float]
    """How exactly it knows where points are."""
    largest: ClassVar[int]
    why_no_larger: ClassVar[str]

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        """One call that finds the ``k`` nearest within a radius, nearest first, ready to be made again and again."""
        ...

    def ids(self, answer: Any) -> NDArray[np.int64]:
        """Rows of the points in an answer."""
        ...


class OnVectors:
    """A contender that holds unit vectors, f64[n, 3]: the chord is a monotone function of the great-circle distance."""

    off_m: ClassVar[float] = 1e-3
    largest: ClassVar[int] = 10_000_000
    why_no_larger: ClassVar[str] = ""

    def __init__(self, points: Points) -> None:
        self.vectors = sphere.unit_vectors(*points)


def chord(radius_m: float) -> float:
    """Straight through the unit sphere."""
    return float(2.0 * np.sin(radius_m / (2.0 * sphere.EARTH_RADIUS_M)))


def vector(lat: float, lon: float) -> NDArray[np.float64]:
    """Unit vector f64[3]."""
    return sphere.unit_vectors([lat], [lon]).reshape(3)
