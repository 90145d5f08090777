"""``make bench``: people nearby and place lookups beside SciPy's cKDTree; a table, and ``docs/benchmarks.json``.

Ours and the peer take turns (so that a busy moment of the machine hits both), each row is the median of its turns, and
``ratio`` is peer / ours. The peer gets its query points as ready unit vectors and pays for no conversion.
"""

import argparse
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from geo import cells, sphere
from geo.crowd import BandsAround, Crowd
from geo.places import Places
from geo.privacy import STRANGER_RESOLUTION, bands_within

OUT = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.json"
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


def row(work: str, size: int, seconds: tuple[float, float], calls: int, unit: str, goal: str) -> dict[str, Any]:
    """One row of the file; ``goal`` is ``ratio >= x`` or ``ours <= x`` in the row's unit."""
    factor = {"us": 1e6, "ms": 1e3}[unit] / calls
    ours, peer = (round(value * factor, 3) for value in seconds)
    found = {"ratio": seconds[1] / seconds[0], "ours": ours}
    what, sign, limit = goal.split()
    met = found[what] >= float(limit) if sign == ">=" else found[what] <= float(limit)
    return {
        "work": work,
        "size": size,
        "ours": ours,
        "peer": peer,
        "peer_name": PEER,
        "unit": unit,
        "ratio": round(found["ratio"], 2),
        "goal": goal,
        "met": met,
    }


def place_rows(rng: np.random.Generator, turns: int) -> list[dict[str, Any]]:
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


def people_rows(rng: np.random.Generator, count: int, turns: int) -> list[dict[str, Any]]:
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


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "load_average_1min": round(os.getloadavg()[0], 2),  # the run itself is 1; more = a busy machine
    }


def commit() -> str:
    """Of the working tree, with ``-dirty`` if it holds more; empty outside a clone."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=OUT.parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip()


def show(rows: list[dict[str, Any]]) -> None:
    print(f"{'work':44} {'size':>9} {'ours':>10} {PEER:>10}  {'':2} {'ratio':>6}  goal")
    for one in rows:
        verdict = f"{one['goal']}: {'met' if one['met'] else 'NOT met'}"
        print(
            f"{one['work']:44} {one['size']:9,} {one['ours']:10.3f} {one['peer']:10.3f}  {one['unit']:2} "
            f"{one['ratio']:6.2f}  {verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--people", type=int, default=1_000_000)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    rows = [*place_rows(rng, given.turns), *people_rows(rng, given.people, given.turns)]
    show(rows)
    versions = {name: version(name) for name in ("nearhive", "numpy", "numba", "h3", "scipy")}
    report = {
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions},
        "commit": commit(),
        "seed": given.seed,
        "rows": rows,
    }
    OUT.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    print(f"written: {OUT.relative_to(Path.cwd()) if OUT.is_relative_to(Path.cwd()) else OUT}")


if __name__ == "__main__":
    main()
