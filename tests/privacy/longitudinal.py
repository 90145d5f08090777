"""Whole populations over days on the rules themselves: where they are, what is published of them, what is seen."""

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from api.audit.oracle import Point
from api.audit.plane import moved, moved_each
from geo import cells
from geo.sphere import great_circle_m
from tests.privacy.stage import Stage

Cells = NDArray[np.uint64]
Floats = NDArray[np.float64]

GPS_SIGMA_M = 8.0
WALK_MS = 1.4


class Population:
    """People on a stage, reported all at once; what is published of each, in their order."""

    def __init__(self, count: int) -> None:
        self.stage = Stage()
        self.users = [f"u{number}" for number in range(count)]

    async def report(self, lats: Floats, lons: Floats) -> None:
        """One report each."""
        await self.stage.place(self.users, list(zip(lats.tolist(), lons.tolist(), strict=True)))

    @property
    def slots(self) -> NDArray[np.int32]:
        """Everybody's slot, int32[n]."""
        return np.array([self.stage.hive.people.slot(user) for user in self.users], np.int32)

    def published8(self) -> Cells:
        """What a friend at `near` sees, uint64[n]."""
        return np.array(self.stage.hive.presence.published[self.slots])

    def published7(self) -> Cells:
        """What strangers see or would see, uint64[n]."""
        return cells.parents(self.stage.hive.presence.stranger[self.slots], 7)


def static_points(count: int, origin: Point, draws: random.Random, reach_m: float = 8000.0) -> tuple[Floats, Floats]:
    """Homes, uniform in a square: latitudes and longitudes."""
    rng = np.random.default_rng(draws.getrandbits(32))
    return moved_each(origin, rng.uniform(-reach_m, reach_m, count), rng.uniform(-reach_m, reach_m, count))


def with_noise(
    lats: Floats, lons: Floats, rng: np.random.Generator, sigma_m: float = GPS_SIGMA_M
) -> tuple[Floats, Floats]:
    """What a phone says: each axis off by a normal error."""
    metres_per_deg = 111_195.0
    north = rng.normal(0, sigma_m, lats.size)
    east = rng.normal(0, sigma_m, lats.size)
    return lats + north / metres_per_deg, lons + east / (metres_per_deg * np.cos(np.radians(lats)))


def errors(lats: Floats, lons: Floats, guesses: Sequence[Point], shown: Cells) -> Floats:
    """err / sqrt(A) of each guess, A that of the cell shown."""
    found = [
        great_circle_m(lat, lon, *guess) / math.sqrt(cells.area_m2(int(cell)))
        for lat, lon, guess, cell in zip(lats.tolist(), lons.tolist(), guesses, shown, strict=True)
    ]
    return np.array(found)


def mean_center(seen: Sequence[int]) -> Point:
    """The mean of cells' centres; of a few that lie near each other."""
    first = cells.center(seen[0])
    points = np.array([cells.center(cell) for cell in seen])
    lons = first[1] + (points[:, 1] - first[1] + 540.0) % 360.0 - 180.0
    return float(points[:, 0].mean()), float(lons.mean())


def between(a: Point, b: Point, share: float) -> Point:
    """On the way from a to b, which lie a few km apart."""
    lon = a[1] + share * ((b[1] - a[1] + 540.0) % 360.0 - 180.0)
    return a[0] + share * (b[0] - a[0]), (lon + 540.0) % 360.0 - 180.0


class Walkers:
    """People who walk straight on, each in a direction of their own, from points uniform in a square."""

    def __init__(self, count: int, origin: Point, draws: random.Random) -> None:
        self.rng = np.random.default_rng(draws.getrandbits(32))
        reach_m = 8000.0
        self._origin = origin
        self._east, self._north = (self.rng.uniform(-reach_m, reach_m, count) for _ in range(2))
        heading = self.rng.uniform(0, 2 * math.pi, count)
        self._ve, self._vn = WALK_MS * np.sin(heading), WALK_MS * np.cos(heading)

    def at(self, time_s: float | Floats) -> tuple[Floats, Floats]:
        """Where everybody is."""
        return moved_each(self._origin, self._east + self._ve * time_s, self._north + self._vn * time_s)


def track_guess(seen: Sequence[int], step_s: float, rng: np.random.Generator) -> Point:
    """Where somebody is who walked straight on through the cells seen at one edge after the other: the mean of all
    tracks of that speed that explain them."""
    origin = cells.center(seen[-1])
    reach_m = 1.4 * math.sqrt(cells.area_m2(seen[-1]))
    east, north = rng.uniform(-reach_m / 2, reach_m / 2, (2, _ENDS))
    headings = np.repeat(np.linspace(0, 2 * math.pi, _HEADINGS, endpoint=False), _ENDS)
    east, north = np.tile(east, _HEADINGS), np.tile(north, _HEADINGS)
    fits = np.ones(east.size, np.bool_)
    resolution = cells.resolution_of(seen[-1])
    for back, cell in enumerate(reversed(seen)):
        way_m = WALK_MS * step_s * back
        at = np.flatnonzero(fits)
        lats, lons = moved_each(
            origin, east[at] - way_m * np.sin(headings[at]), north[at] - way_m * np.cos(headings[at])
        )
        fits[at] = cells.cells_of(lats, lons, resolution) == cell
        if not fits.any():
            return origin
    return moved(origin, float(east[fits].mean()), float(north[fits].mean()))


_ENDS, _HEADINGS = 150, 90
