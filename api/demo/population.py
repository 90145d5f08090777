"""Who lives in the demo and where at home: the same people at every start, drawn from a fixed seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api.demo.cities import Places
from api.demo.plane import moved
from geo import sphere

SEED = 20_261_122
PEOPLE = 20_000
NEAR = 300

YOU = "you"
YOU_LAT, YOU_LON = 48.8566, 2.3522  # Paris

# Walks end 3 km from home: homes inside 17 km stay within the promised 20 km of `you`, homes beyond 23 km stay out.
NEAR_RADIUS_M = 20_000.0
_WALK_M = 3_000.0
_INNER_M = NEAR_RADIUS_M - _WALK_M
_OUTER_M = NEAR_RADIUS_M + _WALK_M
_NEAR_SIGMA_M = 6_000.0
_FRIENDS_EAST_M = (900.0, 3_500.0)  # the two friends live east of `you`, at these distances

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Population:
    """Columns by person. The first ``near`` live around `you`; the rest are ordered by city, so that neighbours in the
    columns mostly are neighbours."""

    ids: list[str]
    lats: Floats
    lons: Floats
    near: int

    def __len__(self) -> int:
        return len(self.ids)


def build(places: Places, people: int = PEOPLE, near: int = NEAR, seed: int = SEED) -> Population:
    """Draw ``people`` simulated people, ``near`` of them around `you`, the others in cities by population.

    ``ValueError`` unless 2 <= near <= people <= 99,999.
    """
    if not len(_FRIENDS_EAST_M) <= near <= people <= 99_999:
        raise ValueError("near must be at least 2, and people at least near and at most 99,999")
    rng = np.random.default_rng(seed)
    near_lats, near_lons = _around_you(near, rng)
    far_lats, far_lons = _in_cities(places, people - near, rng)
    ids = [f"sim-{number:05d}" for number in range(1, people + 1)]
    return Population(ids, np.concatenate((near_lats, far_lats)), np.concatenate((near_lons, far_lons)), near)


def distances_to_you_m(lats: Floats, lons: Floats) -> Floats:
    """f64[n]: great-circle distances to `you`."""
    return sphere.great_circle_m(lats, lons, YOU_LAT, YOU_LON)


def _around_you(near: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    east_m, north_m = rng.normal(0.0, _NEAR_SIGMA_M, (2, near))
    while (outside := np.hypot(east_m, north_m) > _INNER_M).any():
        east_m[outside], north_m[outside] = rng.normal(0.0, _NEAR_SIGMA_M, (2, int(outside.sum())))
    friends = len(_FRIENDS_EAST_M)
    east_m[:friends], north_m[:friends] = _FRIENDS_EAST_M, 0.0
    return moved(np.full(near, YOU_LAT), np.full(near, YOU_LON), east_m, north_m)


def _in_cities(places: Places, people: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    homes = np.sort(rng.choice(len(places.lats), people, p=weights(places)))
    lats, lons = _homes(places, homes, rng)
    while (close := distances_to_you_m(lats, lons) < _OUTER_M).any():
        lats[close], lons[close] = _homes(places, homes[close], rng)
    return lats, lons


def weights(places: Places) -> Floats:
    """f64[n], summing to 1: the share of each city by population, 0 for cities around `you`."""
    outside = distances_to_you_m(places.lats, places.lons) > _OUTER_M
    share = np.where(outside, places.populations, 0.0)
    return np.asarray(share / share.sum())


def _homes(places: Places, chosen: NDArray[np.int64], rng: np.random.Generator) -> tuple[Floats, Floats]:
    east_m, north_m = rng.normal(0.0, 1.0, (2, len(chosen))) * places.sigmas_m[chosen]
    return moved(places.lats[chosen], places.lons[chosen], east_m, north_m)
