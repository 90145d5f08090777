"""Services that break the promise, each in one way that real ones did: the attacks must find the victim in all of them.

An attack that does not proves nothing where it fails against the product (T8).
"""

import math
import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from api.audit.oracle import Observer, Point, Sighting
from api.audit.plane import moved, offset_m
from geo import cells
from geo.privacy import FRIEND_RESOLUTION, PRECISION_RESOLUTION, STRANGER_BANDS_M
from geo.sphere import EARTH_RADIUS_M, great_circle_m
from tests.privacy.stage import VICTIM

_SHAKE_M = 5000


class Exact:
    """Everything is computed from exact points, and shown as it is (Telegram, Momo, Tinder in 2013)."""

    victim = VICTIM

    def __init__(self, victim: Point) -> None:
        self._victim = victim
        self._listed: dict[str, Point] = {VICTIM: victim}
        self._made = 0

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        found = []
        for point in points:
            found.append(Observer(f"a{self._made}", *point))
            self._made += 1
        self._listed.update({one.user: one.point for one in found})
        return found

    async def retire(self, observers: Sequence[Observer]) -> None:
        for one in observers:
            self._listed.pop(one.user, None)

    async def nearby(self, observer: Observer, radius_m: int) -> Sighting | None:
        return self.shown(self.distance_m(observer), radius_m)

    async def listing(self, observer: Observer, radius_m: int, limit: int, pages: int) -> list[str]:
        ranked = sorted((great_circle_m(*observer.point, *point), user) for user, point in self._listed.items())
        return [user for distance_m, user in ranked if distance_m < radius_m and user != observer.user][: limit * pages]

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        distance_m = self.distance_m(observer)
        return Sighting(distance_m, distance_m) if distance_m <= radius_m else None

    async def shake(self, points: Sequence[Point]) -> list[tuple[Observer, Sighting | None]]:
        return [(one, self.shown(self.distance_m(one), _SHAKE_M)) for one in await self.observers(points)]

    def distance_m(self, observer: Observer) -> float:
        """To the true point."""
        return great_circle_m(*observer.point, *self._victim)

    def shown(self, distance_m: float, radius_m: int) -> Sighting | None:
        """What is shown of a distance."""
        return Sighting(distance_m, distance_m) if distance_m < radius_m else None


class FlooredKilometres(Exact):
    """The exact distance, rounded down to whole kilometres (Bumble in 2021 rounded to miles)."""

    def shown(self, distance_m: float, radius_m: int) -> Sighting | None:
        floor_m = 1000 * math.floor(distance_m / 1000)
        return Sighting(floor_m, floor_m + 1000) if distance_m < radius_m else None


class BandsOfExact(Exact):
    """The product's bands and radii, but between exact points (happn, and every filter on exact points)."""

    def shown(self, distance_m: float, radius_m: int) -> Sighting | None:
        if distance_m >= radius_m:
            return None
        end = next(i for i, end_m in enumerate(STRANGER_BANDS_M) if distance_m < end_m)
        return Sighting(STRANGER_BANDS_M[end - 1], STRANGER_BANDS_M[end])


class OrderOfExact(Exact):
    """No distance at all, but the list in order of the exact one (Grindr with distances hidden, WeChat)."""

    def shown(self, distance_m: float, radius_m: int) -> Sighting | None:
        return Sighting(0, radius_m) if distance_m < radius_m else None


class FreshNoise(Exact):
    """The exact distance with normal noise of 300 m, new in each answer (Whisper, Hornet)."""

    def __init__(self, victim: Point, draws: random.Random, sigma_m: float = 300.0) -> None:
        super().__init__(victim)
        self._draws = draws
        self._sigma_m = sigma_m

    def shown(self, distance_m: float, radius_m: int) -> Sighting | None:
        noisy_m = distance_m + self._draws.gauss(0.0, self._sigma_m)
        return Sighting(noisy_m, noisy_m) if distance_m < radius_m else None


class SnappedApart(Exact):
    """Radar shows cells, but each resolution is snapped from the exact point by itself."""

    def __init__(self, victim: Point) -> None:
        super().__init__(victim)
        self._precisions: dict[str, str] = {}

    async def radar(self, observer: Observer, radius_m: int) -> Sighting | None:
        precision = self._precisions[observer.user]
        return Sighting(0, 0, cells.cell_of(*self._victim, PRECISION_RESOLUTION[precision]))

    async def observers(self, points: Sequence[Point], precision: str | None = None) -> list[Observer]:
        found = await super().observers(points, precision)
        self._precisions.update({one.user: precision for one in found if precision is not None})
        return found


def fresh_lattice(victim: Point, origin: Point, sessions: int, side_m: float, draws: random.Random) -> list[Point]:
    """Centres of the squares that a lattice laid anew each session shows of one place (Strava's zones in reverse)."""
    east, north = offset_m(origin, victim)
    shown = []
    for _ in range(sessions):
        shift = draws.uniform(0.0, side_m), draws.uniform(0.0, side_m)
        square = [
            math.floor((at - by) / side_m) * side_m + by + side_m / 2
            for at, by in zip((east, north), shift, strict=True)
        ]
        shown.append(moved(origin, *square))
    return shown


def flapping_cells(victim: Point, reports: int, sigma_m: float, draws: np.random.Generator) -> NDArray[np.uint64]:
    """The cells of resolution 8, uint64[reports], of noisy reports of somebody who does not move, snapped without
    hysteresis."""
    degrees_m = math.radians(1.0) * EARTH_RADIUS_M
    lats = victim[0] + draws.normal(0.0, sigma_m / degrees_m, reports)
    lons = victim[1] + draws.normal(0.0, sigma_m / degrees_m / math.cos(math.radians(victim[0])), reports)
    return cells.cells_of(lats, (lons + 180.0) % 360.0 - 180.0, FRIEND_RESOLUTION)
