"""People on foot: positions around their homes, moved together as arrays."""

import numpy as np
from numpy.typing import NDArray

from api.demo.plane import moved, offsets_m

SPEED_M_S = 1.4
RANGE_M = 3_000.0
_TURN_RAD = 0.5  # standard deviation of the change of direction at each step
_LONGEST_STEP_S = 60.0  # after a pause of the process nobody jumps

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


class Walkers:
    """Everybody starts at home. ``now_s`` are seconds of any clock that does not run back."""

    def __init__(self, home_lats: Floats, home_lons: Floats, rng: np.random.Generator, now_s: float) -> None:
        people = len(home_lats)
        self._home_lats, self._home_lons = home_lats, home_lons
        self._rng = rng
        self._east_m = np.zeros(people)
        self._north_m = np.zeros(people)
        self._heading = rng.uniform(-np.pi, np.pi, people)
        self._moved_s = np.full(people, now_s)

    def resume(self, who: Indices, lats: Floats, lons: Floats, scatter_m: float) -> None:
        """Go on from within ``scatter_m`` of where these people were last seen, unless that is far from home."""
        east_m, north_m = offsets_m(self._home_lats[who], self._home_lons[who], lats, lons)
        away_m = scatter_m * np.sqrt(self._rng.random(len(who)))  # uniform over the disc
        towards = self._rng.uniform(-np.pi, np.pi, len(who))
        east_m, north_m = east_m + away_m * np.sin(towards), north_m + away_m * np.cos(towards)
        inside = np.hypot(east_m, north_m) <= RANGE_M
        self._east_m[who[inside]], self._north_m[who[inside]] = east_m[inside], north_m[inside]

    def where(self, who: Indices) -> tuple[Floats, Floats]:
        """Latitudes and longitudes f64[n] of these people as of their last step."""
        return moved(self._home_lats[who], self._home_lons[who], self._east_m[who], self._north_m[who])

    def walk(self, who: Indices, now_s: float) -> tuple[Floats, Floats]:
        """Move these people by what they walked since their last step; returns where they are."""
        step_m = SPEED_M_S * np.clip(now_s - self._moved_s[who], 0.0, _LONGEST_STEP_S)
        self._moved_s[who] = now_s
        heading = self._heading[who] + self._rng.normal(0.0, _TURN_RAD, len(who))
        east_m, north_m = self._east_m[who], self._north_m[who]
        turning_back = np.hypot(east_m, north_m) > RANGE_M - _LONGEST_STEP_S * SPEED_M_S
        heading = np.where(turning_back, np.arctan2(-east_m, -north_m), heading)
        self._heading[who] = heading
        self._east_m[who] = east_m + step_m * np.sin(heading)
        self._north_m[who] = north_m + step_m * np.cos(heading)
        return self.where(who)
