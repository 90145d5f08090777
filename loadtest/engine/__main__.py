"""``make bench``: people nearby and place lookups beside SciPy's cKDTree; a table, and ``docs/benchmarks.json``.

Ours and the peer take turns (so that a busy moment of the machine hits both), each row is the median of its turns, and
``ratio`` is peer / ours. The peer gets its query points as ready unit vectors and pays for no conversion.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geo import cells, sphere
from geo.crowd import BandsAround, Crowd
from geo.places import Places
from geo.privacy import STRANGER_RESOLUTION, bands_within
from loadtest import report

PEER = "cKDTree"
STORES = 25_000
NEAREST = 50
RADIUS_M = 5_000.0
Floats = NDArray[np.float64]
Work = Callable[[], object]


def clustered(rng: np.random.Generator, count: int, towns: int = 400) -> tuple[Floats, Floats]:
    """Latitudes and longitudes of people in towns: places uniform on the sphere, sizes by Zipf, 8 km of spread."""
    town_lat = np.degrees(np.arcsin(rng.uniform(-0.85, 0.85, towns)))
    town_lon = rng.uniform(-179.0, 179.0, towns)
    weight = 1.0 / np.arange(1, towns + 1)
    town = rng.choice(towns, count, p=weight / weight.sum())
    spread_deg = 8_000.0 / 111_195.0
    lat = town_lat[town] + rng.normal(0.0, spread_deg, count)
    lon = town_lon[town] + rng.normal(0.0, spread_deg, count) / np.cos(np.radians(town_lat[town]))
    return np.clip(lat, -90.0, 90.0), np.clip(lon, -180.0, 180.0)


def in_turns(ours: Work, peer: Work, turns: int) -> tuple[float, float]:
    """Median seconds of each, after one unmeasured turn; who goes first alternates."""
    ours(), peer()
    spent: dict[Work, list[float]] = {ours: [], peer: []}
    for turn in range(turns):
        for work in (ours, peer) if turn % 2 else (peer, ours):
            started = time.perf_counter()
            work()
            spent[work].append(time.perf_counter() - started)
    return statistics.median(spent[ours]), statistics.median(spent[peer])


def row(work: str, size: int, seconds: tuple[float, float], calls: int, unit: str, goal: str) -> report.Row:
    """A row of two times for ``calls`` calls, in ``unit`` a call."""
    factor = {"us": 1e6, "ms": 1e3}[unit] / calls
    return report.row(work, size, seconds[0] * factor, seconds[1] * factor, PEER, unit, goal)


def place_rows(rng: np.random.Generator, turns: int) -> list[report.Row]:
    """k = 5 of 25,000 stores: one call a point, then many points in one call."""
    lats, lons = clustered(rng, STORES)
    places, tree = Places(lats, lons), cKDTree(sphere.unit_vectors(lats, lons))
    single, many = 2_000, 100_000
    q_lats, q_lons = clustered(rng, many)
    vectors = sphere.unit_vectors(q_lats, q_lons)
    _, distances_m = places.nearest_many(q_lats, q_lons, 5)
    chords, _ = tree.query(vectors, k=5, workers=-1)
    np.testing.assert_allclose(distances_m, 2 * sphere.EARTH_RADIUS_M * np.arcsin(chords / 2), rtol=1e-6, atol=1e-2)
    points = list(zip(q_lats[:single].tolist(), q_lons[:single].tolist(), strict=True))
    ready = list(vectors[:single])
    one = in_turns(
        lambda: [places.nearest(lat, lon, 5) for lat, lon in points], lambda: [tree.query(v, k=5) for v in ready], turns
    )
    all_at_once = in_turns(
        lambda: places.nearest_many(q_lats, q_lons, 5), lambda: tree.query(vectors, k=5, workers=-1), turns
    )
    return [
        row("5 nearest stores, one call a point", STORES, one, single, "us", "ratio >= 6"),
        row(f"5 nearest stores, {many:,} points in one call", STORES, all_at_once, many, "us", "ratio >= 2"),
    ]


def people_rows(rng: np.random.Generator, count: int, turns: int) -> list[report.Row]:
    """A page within 5 km (ours: bands of cells in keyed order; peer: by distance), and the rebuild of the index."""
    lats, lons = clustered(rng, count)
    member_cells = cells.cells_of(lats, lons, STRANGER_RESOLUTION)
    keys = rng.integers(0, 2**64, count, dtype=np.uint64)
    slots = np.arange(count, dtype=np.int32)
    vectors = sphere.unit_vectors(lats, lons)
    rebuild = in_turns(lambda: Crowd(member_cells, keys, slots), lambda: cKDTree(vectors), 3)
    crowd, tree = Crowd(member_cells, keys, slots), cKDTree(vectors)
    shown_until_ms = np.full(count, 1, np.int64)
    viewers = rng.choice(count, 1_000, replace=False)
    asked = [(int(member_cells[v]), int(keys[v]), slots[v : v + 1]) for v in viewers]
    ready = list(vectors[viewers])
    bands = bands_within(RADIUS_M)
    chord = 2 * np.sin(RADIUS_M / (2 * sphere.EARTH_RADIUS_M))
    page = in_turns(
        lambda: [
            crowd.page(BandsAround(cell, bands), key, None, NEAREST, shown_until_ms, 0, own) for cell, key, own in asked
        ],
        lambda: [tree.query(v, k=NEAREST, distance_upper_bound=chord) for v in ready],
        turns,
    )
    return [
        row(f"{NEAREST} people within 5 km, one call", count, page, len(asked), "us", "ours <= 8"),
        row("index rebuilt", count, rebuild, 1, "ms", "ours <= 120"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--people", type=int, default=1_000_000)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    rows = [*place_rows(rng, given.turns), *people_rows(rng, given.people, given.turns)]
    report.show(rows)
    report.write(rows, given.seed)


if __name__ == "__main__":
    main()
