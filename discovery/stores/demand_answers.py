"""Published days put together: a map of hexagons, the share unserved, missing services, where to open next.

All of it is computed from what is published and from where stores are, so that it tells nothing that the days do not.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from discovery.stores.demand_rows import DISTANCE_EDGES_M, bounds_of
from discovery.stores.store_set import StoreSet
from geo import cells
from geo.sphere import great_circle_m

COLUMNS = (
    *("cell", "lat", "lon", "days", "searches_min", "searches_max", "searchers_min", "searchers_max"),
    *("nearest_store_m", "beyond_10_km"),
)
MOST_CANDIDATES = 2_000


@dataclass(slots=True)
class Row:
    """Of one cell, or of all withheld ones: bounds summed over days; distance and share as of the last day."""

    days: int = 0
    searches_min: int = 0
    searches_max: int = 0
    searchers_min: int = 0
    searchers_max: int = 0
    distance: int = -1
    beyond: int | None = None

    def add(self, searches: int, searchers: int) -> None:
        """Bands of one more day."""
        least, most = bounds_of(searches)
        self.searches_min, self.searches_max = self.searches_min + least, self.searches_max + most
        least, most = bounds_of(searchers)
        self.searchers_min, self.searchers_max = self.searchers_min + least, self.searchers_max + most
        self.days += 1

    def properties(self) -> dict[str, Any]:
        """As the API shows them: "5-9" for a band; of several days, the sum of their bands."""
        return {
            "days": self.days,
            "searches": f"{self.searches_min}-{self.searches_max}",
            "searchers": f"{self.searchers_min}-{self.searchers_max}",
            "searches_min": self.searches_min,
            "searches_max": self.searches_max,
            "searchers_min": self.searchers_min,
            "searchers_max": self.searchers_max,
            "nearest_store_m": _distance_text(self.distance),
            "beyond_10_km": None if self.beyond is None else self.beyond / 10,
        }


@dataclass(slots=True)
class Map:
    """Rows by cell (hexadecimal), in order of cell; ``other``: what is withheld, None where that is below five."""

    rows: dict[str, Row]
    other: Row | None
    missing: list[dict[str, Any]]


def put_together(days: Iterable[Mapping[str, Any]], resolution: int) -> Map:
    """The map of published days, oldest first."""
    rows: dict[str, Row] = defaultdict(Row)
    other = Row()
    services: dict[str, Row] = defaultdict(Row)
    for day in days:
        level = day.get(str(resolution), {"cells": [], "other": None})
        for cell, searches, searchers, distance, beyond in level["cells"]:
            rows[cell].add(searches, searchers)
            rows[cell].distance, rows[cell].beyond = distance, beyond
        if level["other"] is not None:
            other.add(*level["other"])
        for service, searchers in day.get("missing", ()):
            services[service].add(0, searchers)
    ranked = sorted(services.items(), key=lambda item: (-item[1].searchers_min, item[0]))
    missing = [{"service": name, "searchers": row.properties()["searchers"]} for name, row in ranked]
    return Map(dict(sorted(rows.items())), other if other.days else None, missing)


def unserved_share(rows: Iterable[Row]) -> float | None:
    """Share of the searches shown that were made beyond 10 km of every store, in tenths; None when none are shown."""
    pairs = [(row.searches_min, row.beyond or 0) for row in rows]
    total = sum(searches for searches, _ in pairs)
    return round(sum(searches * beyond for searches, beyond in pairs) / total) / 10 if total else None


def geojson(found: Map, head: Mapping[str, Any]) -> bytes:
    """FeatureCollection of hexagons, with ``head`` and the sums as further members."""
    features = [
        {"type": "Feature", "id": cell, "geometry": _polygon(cell), "properties": {"cell": cell, **row.properties()}}
        for cell, row in found.rows.items()
    ]
    other = None if found.other is None else found.other.properties()
    sums = {"other": other, "unserved_share": unserved_share(found.rows.values()), "missing_services": found.missing}
    return orjson.dumps({"type": "FeatureCollection", **head, **sums, "features": features})


def as_csv(found: Map) -> bytes:
    """One line a cell; the cell ``other`` has what is withheld."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for cell, row in found.rows.items():
        lat, lon = cells.center(cells.from_hex(cell))
        writer.writerow([cell, round(lat, 6), round(lon, 6), *_values(row)])
    if found.other is not None:
        writer.writerow(["other", "", "", *_values(found.other)])
    return text.getvalue().encode()


def _values(row: Row) -> list[Any]:
    shown = row.properties()
    return ["" if shown[name] is None else shown[name] for name in COLUMNS[3:]]


def _polygon(cell: str) -> dict[str, Any]:
    return cells.polygon(cells.from_hex(cell))


def _distance_text(band: int) -> str | None:
    if band < 0:
        return None
    least = DISTANCE_EDGES_M[band]
    most = str(DISTANCE_EDGES_M[band + 1]) if band + 1 < len(DISTANCE_EDGES_M) else ""
    return f"{least}-{most}"


def where_next(found: Map, stores: StoreSet, limit: int) -> list[dict[str, Any]]:
    """Cells where one more store would bring most: metres that searches would be nearer to a store, the most first;
    each as if those before it were open. (The greedy answer to the p-median problem; searches count by the least of
    their band, from cell centres, as far as 10,000 km where there are no stores.)"""
    names = sorted(found.rows, key=lambda cell: (-found.rows[cell].searches_min, cell))[:MOST_CANDIDATES]
    if not names:
        return []
    lats, lons = cells.centers(np.array([cells.from_hex(name) for name in names], dtype=np.uint64))
    weights = np.array([found.rows[name].searches_min for name in names], dtype=np.float64)
    _, nearest = stores.places.nearest_many(lats, lons, 1)
    to_store = np.minimum(nearest[:, 0], 1e7)
    apart = great_circle_m(lats[:, None], lons[:, None], lats[None, :], lons[None, :])
    chosen: list[dict[str, Any]] = []
    for _ in range(min(limit, len(names))):
        gains = np.maximum(to_store[None, :] - apart, 0.0) @ weights
        best = int(np.argmax(gains))
        if gains[best] <= 0.0:
            break
        chosen.append(
            _candidate(names[best], len(chosen) + 1, float(gains[best]), to_store[best], weights, apart[best])
        )
        to_store = np.minimum(to_store, apart[best])
    return chosen


def _candidate(cell: str, rank: int, gain: float, to_store: float, weights: Any, apart: Any) -> dict[str, Any]:
    near = int(weights[apart <= 10_000.0].sum())
    return {
        "type": "Feature",
        "id": cell,
        "geometry": _polygon(cell),
        "properties": {
            "cell": cell,
            "rank": rank,
            "saved_m_per_search": round(gain / float(weights.sum()), 1),
            "nearest_store_m": round(float(to_store)),
            "searches_within_10_km_min": near,
        },
    }


def candidates_geojson(chosen: Sequence[Mapping[str, Any]], head: Mapping[str, Any]) -> bytes:
    """FeatureCollection of candidates, the best first."""
    return orjson.dumps({"type": "FeatureCollection", **head, "features": chosen})


def candidates_csv(chosen: Sequence[Mapping[str, Any]]) -> bytes:
    """One line a candidate, the best first."""
    columns = ("rank", "cell", "lat", "lon", "saved_m_per_search", "nearest_store_m", "searches_within_10_km_min")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for one in chosen:
        lat, lon = cells.center(cells.from_hex(one["id"]))
        writer.writerow({**one["properties"], "lat": round(lat, 6), "lon": round(lon, 6)})
    return text.getvalue().encode()
