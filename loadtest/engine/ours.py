"""Nearhive's own engine as a contender: the place index, and the people index under a page of strangers."""

from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from geo import cells
from geo.crowd import BandsAround, Crowd
from geo.places import Places
from geo.privacy import STRANGER_RESOLUTION, bands_within
from loadtest.engine.peers import Asked
from loadtest.engine.worlds import Points

NAME = "Nearhive"


class OurPlaces:
    """The place index."""

    name: ClassVar[str] = NAME
    off_m: ClassVar[float] = 1e-6
    largest: ClassVar[int] = 10_000_000
    why_no_larger: ClassVar[str] = ""

    def __init__(self, points: Points) -> None:
        self.places = Places(*points)

    def asked(self, lat: float, lon: float, k: int, radius_m: float) -> Asked:
        return partial(self.places.nearest, lat, lon, k, radius_m)

    def ids(self, answer: Any) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = answer[0]
        return rows


class OurPeople:
    """The people index: everybody shown, each with a key of the stranger epoch."""

    def __init__(self, points: Points, rng: np.random.Generator) -> None:
        count = len(points[0])
        self.cells = cells.cells_of(*points, STRANGER_RESOLUTION)
        self.keys = rng.integers(0, 2**64, count, dtype=np.uint64)
        self.slots = np.arange(count, dtype=np.int32)
        self.shown_until_ms = np.ones(count, np.int64)
        self.crowd = self.rebuilt()

    def rebuilt(self) -> Crowd:
        """The index of an epoch from its members."""
        return Crowd(self.cells, self.keys, self.slots)

    def asked(self, cell: int, key: int, limit: int, radius_m: float) -> Asked:
        """A page for a viewer in a cell, who is not one of the members."""
        return partial(self.page, BandsAround, cell, bands_within(radius_m), key, limit)

    def page(self, bands: type[BandsAround], cell: int, count: int, key: int, limit: int) -> NDArray[np.int32]:
        """Slots of the page; the sequence of bands is made within the call, as for each request."""
        found = self.crowd.page(bands(cell, count), key, None, limit, self.shown_until_ms, 0, _NOBODY)
        return found[0]


_NOBODY = np.empty(0, np.int32)
