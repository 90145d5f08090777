"""191,806 stores of 76 chains as files to import, and what an import of each must say, worked out the plain way."""

import csv
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.data.real import rows

SOURCE = "stores/us_chains_2024.csv.gz"
ALL = "all-chains"
EARTH_M = 6_371_008.8
_CONTENT = ("name", "address", "city", "postcode", "lat", "lon")
_UNFIT = re.compile(r"[^A-Za-z0-9._:@|=+-]")

Floats = NDArray[np.float64]


@dataclass
class Chain:
    """One file. ``rejected`` and ``warned`` (by field): line numbers, the header is line 1."""

    brand: str
    name: str
    path: Path
    read: int = 0
    ids: list[str] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)
    warned: dict[str, list[int]] = field(default_factory=lambda: {"store_id": [], "name": [], "lat": []})

    def nearest(self, lat: float, lon: float, count: int) -> list[float]:
        """Distances (m) of the ``count`` nearest, by looking at every store."""
        halves = self._halves(lat, lon, slice(None))
        return metres(np.sort(np.partition(halves, min(count, len(halves)) - 1)[:count]))

    def distances_m(self, lat: float, lon: float, ids: list[str]) -> list[float]:
        """Of the stores with these ids."""
        return metres(self._halves(lat, lon, np.array([self.row_of[store_id] for store_id in ids], np.intp)))

    @cached_property
    def row_of(self) -> dict[str, int]:
        return {store_id: row for row, store_id in enumerate(self.ids)}

    @cached_property
    def _radians(self) -> tuple[Floats, Floats, Floats]:
        lats, lons = np.radians(np.array(self.points)).T
        return lats, lons, np.cos(lats)

    def _halves(self, lat: float, lon: float, which: Any) -> Floats:
        """sin^2 of half the angle, which rises with distance."""
        lats, lons, cosines = (column[which] for column in self._radians)
        here_lat, here_lon = np.radians(lat), np.radians(lon)
        found: Floats = np.sin((lats - here_lat) / 2) ** 2
        found += np.cos(here_lat) * cosines * np.sin((lons - here_lon) / 2) ** 2
        return found


def metres(halves: Floats) -> list[float]:
    """Great circle distances by the haversine formula."""
    return [float(one) for one in 2 * EARTH_M * np.arcsin(np.sqrt(np.minimum(halves, 1.0)))]


def slug(brand: str) -> str:
    """Lower case, other runs become ``-``."""
    return re.sub(r"[^a-z0-9]+", "-", brand.lower())


def write_chains(folder: Path) -> list[Chain]:
    """One file per brand, and last that of all of them, whose ids begin with the slug of the brand."""
    source = list(rows(SOURCE))
    by_brand: dict[str, list[dict[str, str]]] = {}
    for row in source:
        by_brand.setdefault(row["brand"], []).append(row)
    chains = [_write(folder, slug(brand), brand, found) for brand, found in by_brand.items()]
    together = [row | {"store_id": _prefixed(row)} for row in source]
    return [*chains, _write(folder, ALL, "All chains", together)]


def _prefixed(row: dict[str, str]) -> str:
    return f"{slug(row['brand'])}-{row['store_id']}" if row["store_id"] else ""


def _write(folder: Path, brand: str, name: str, found: list[dict[str, str]]) -> Chain:
    chain = Chain(brand, name, folder / f"{brand}.csv")
    with chain.path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(found[0])
        writer.writerows(map(dict.values, found))
    _expect(chain, found)
    return chain


def _expect(chain: Chain, found: Iterable[dict[str, str]]) -> None:
    """Fill in what the import must make of ``found``: no value of the source spans two lines."""
    seen: set[str] = set()
    points: set[tuple[float, float]] = set()
    for line, row in enumerate(found, start=2):
        store_id = _id(row)
        if store_id != row["store_id"]:
            chain.warned["store_id"].append(line)
        if not row["name"].strip():
            chain.warned["name"].append(line)
        chain.read += 1
        if store_id in seen:
            chain.rejected.append(line)
            continue
        seen.add(store_id)
        chain.ids.append(store_id)
        chain.points.append((float(row["lat"]), float(row["lon"])))
        if chain.points[-1] in points:
            chain.warned["lat"].append(line)
        points.add(chain.points[-1])


def _id(row: dict[str, str]) -> str:
    if not row["store_id"].strip():
        content = "\x1f".join(row[name] for name in _CONTENT)
        return "x-" + hashlib.sha256(content.encode()).hexdigest()[:16]
    fit = _UNFIT.sub("-", row["store_id"].strip())
    return fit if fit[0].isalnum() else "x" + fit
