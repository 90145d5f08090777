"""h3's own test vectors: points with the cells that hold them, and the golden file of disks, parents and areas."""

import hashlib
from collections import defaultdict
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest

from geo import cells
from tests.data.real import objects, rows

PAIRS = 118_876
GOLDEN = 582


def test_every_point_is_in_its_cell() -> None:
    by_resolution: defaultdict[int, list[tuple[float, float, int]]] = defaultdict(list)
    for row in rows("vectors/h3_latlng_cell_pairs.csv.gz"):
        lon = float(row["lon"])
        point = float(row["lat"]), lon - 360.0 if lon > 180.0 else lon
        by_resolution[int(row["res"])].append((*point, cells.from_hex(row["cell"])))
    assert sum(map(len, by_resolution.values())) == PAIRS
    for resolution, found in by_resolution.items():
        lats, lons, expected = zip(*found, strict=True)
        assert cells.cells_of(lats, lons, resolution).tolist() == list(expected), resolution
        assert [cells.cell_of(lat, lon, resolution) for lat, lon, _ in found[:500]] == list(expected[:500])


@pytest.fixture(scope="module")
def golden() -> list[dict[str, Any]]:
    found = list(objects("vectors/h3_grid_golden.jsonl.gz"))
    assert len(found) == GOLDEN
    return found


def test_centres_areas_and_parents(golden: list[dict[str, Any]]) -> None:
    every = [cells.from_hex(row["cell"]) for row in golden]
    lats, lons = cells.centers(every)
    assert np.allclose(lats, [row["center"][0] for row in golden], rtol=0, atol=1e-9)
    turns = (lons - [row["center"][1] for row in golden]) % 360.0
    assert np.minimum(turns, 360.0 - turns).max() < 1e-9
    for cell, row in zip(every, golden, strict=True):
        assert cells.resolution_of(cell) == row["res"]
        assert cells.area_m2(cell) == pytest.approx(row["area_m2"], rel=1e-9)
        if "parent" in row:
            assert cells.to_hex(cells.parent(cell, row["res"] - 1)) == row["parent"]
        for child in row.get("children", ()):
            assert cells.parent(cells.from_hex(child), row["res"]) == cell
            assert int(cells.parents([cells.from_hex(child)], row["res"])[0]) == cell


def test_cells_up_to_twenty_steps_away(golden: list[dict[str, Any]]) -> None:
    for row in golden:
        cell = cells.from_hex(row["cell"])
        found, steps = cells._grid_disk(cell, 20)
        for rings in (1, 2, 3):
            assert sorted(map(cells.to_hex, found[steps <= rings].tolist())) == row[f"disk{rings}"], row["cell"]
        for rings in (5, 10, 20):
            names = sorted(map(cells.to_hex, found[steps <= rings].tolist()))
            assert len(names) == row[f"disk{rings}_n"]
            assert hashlib.sha256("\n".join(names).encode()).hexdigest() == row[f"disk{rings}_sha256"]


def test_disks_by_distance_hold_what_the_rings_hold(golden: list[dict[str, Any]]) -> None:
    """In order of distance, and all of it: against the golden disk of 10 steps, cut at a radius that lies within it."""
    for row in golden:
        cell = cells.from_hex(row["cell"])
        radius_m = 7.0 * h3.average_hexagon_edge_length(row["res"], unit="m")
        if row["res"] < 3:
            continue  # 10 steps go around the globe
        around, distances_m = cells.disk(cell, radius_m)
        every = np.array(h3.grid_disk(cell, 10), np.uint64)
        within = every[cells.distances_m(cell, every) < radius_m]
        assert sorted(around.tolist()) == sorted(within.tolist())
        assert (np.diff(distances_m) >= 0.0).all()
