"""The demo brand: about 2,000 generated stores in real cities, as one CSV file."""

import csv
import io

import numpy as np
from numpy.typing import NDArray

from api.demo.cities import Cities
from api.demo.plane import moved
from api.demo.population import SEED, YOU_LAT, YOU_LON, distances_to_you_m

BRAND = "demo-coffee"
BRAND_NAME = "Demo Coffee (simulated)"
WEBSITE = "https://example.com/demo-coffee"
STORES = 2_000

_IN_PARIS = 15
_PARIS_SIGMA_M = 3_000.0
_COLUMNS = (
    "store_id",
    "name",
    "lat",
    "lon",
    "address",
    "city",
    "country",
    "website",
    "opening_hours",
    "timezone",
    "services",
    "tags",
)
_HOURS = (  # opening hours and how many of 20 stores keep them
    ("Mo-Fr 07:00-19:00; Sa-Su 08:00-18:00", 6),
    ("Mo-Su 06:30-22:00", 4),
    ("24/7", 2),
    ("Mo-Su 18:00-04:00", 2),
    ("Mo-Fr 08:00-12:30,14:00-19:00; Sa 09:00-13:00", 3),
    ("Mo-Sa 09:00-21:00; Su off", 2),
    ("", 1),  # unknown
)
_SERVICES = (("wifi", 0.8), ("parking", 0.4), ("drive-through", 0.25), ("wheelchair", 0.6))


def stores_csv(cities: Cities, stores: int = STORES, seed: int = SEED) -> bytes:
    """A CSV file of ``stores`` stores: 15 around `you`, the others in cities by the root of their population."""
    rng = np.random.default_rng(seed)
    where, lats, lons = _places(cities, stores, rng)
    hours = rng.permutation(np.resize(np.repeat(np.arange(len(_HOURS)), [share for _, share in _HOURS]), stores))
    offered = rng.random((stores, len(_SERVICES))) < np.array([share for _, share in _SERVICES])
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for number in range(stores):
        city, row = int(where[number]), number + 1
        writer.writerow(
            (
                f"demo-{row:04d}",
                f"Demo Coffee {row} (simulated), {cities.names[city]}",
                f"{lats[number]:.6f}",
                f"{lons[number]:.6f}",
                f"{row} Simulated Street",
                cities.names[city],
                cities.countries[city],
                f"{WEBSITE}/{row}",
                _HOURS[int(hours[number])][0],
                cities.timezones[city],
                ";".join(name for (name, _), has in zip(_SERVICES, offered[number], strict=True) if has),
                "simulated=yes",
            )
        )
    return text.getvalue().encode()


def _places(
    cities: Cities, stores: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """City, latitude and longitude of each store."""
    centres = cities.places
    share = np.sqrt(centres.populations)
    where = np.asarray(rng.choice(len(share), stores, p=share / share.sum()), np.int64)
    sigmas_m = centres.sigmas_m[where] / 2  # shops are nearer to the centre than homes
    lats, lons = centres.lats[where], centres.lons[where]
    in_paris = min(_IN_PARIS, stores)
    around_you = distances_to_you_m(centres.lats, centres.lons) < _PARIS_SIGMA_M
    where[:in_paris] = int(np.argmax(np.where(around_you, centres.populations, 0.0)))
    lats[:in_paris], lons[:in_paris], sigmas_m[:in_paris] = YOU_LAT, YOU_LON, _PARIS_SIGMA_M
    east_m, north_m = rng.normal(0.0, 1.0, (2, stores)) * sigmas_m
    return where, *moved(lats, lons, east_m, north_m)
