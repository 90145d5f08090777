"""Cells against h3 itself and disks against brute force, with pentagons, poles and the antimeridian."""

import ctypes
import json
import math
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pytest
import shapely
from h3._cy import latlng
from hypothesis import given
from hypothesis import strategies as st

from geo import cells, warm
from geo.kernels import h3_capi
from tests import naive_geo

EDGE_POINTS = [
    (90.0, 0.0),
    (-90.0, 0.0),
    (90.0, -180.0),
    (0.0, 180.0),
    (0.0, -180.0),
    (-0.0, -0.0),
    (65.0, 180.0),
    (-17.0, -180.0),
]
RESOLUTIONS = (0, 1, 5, 7, 8, 15)


def random_points(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Points uniform by area, with every special one among them."""
    random = np.random.default_rng(seed)
    lats, lons = np.degrees(np.arcsin(random.uniform(-1, 1, n))), random.uniform(-180, 180, n)
    special = np.array([*EDGE_POINTS, *(h3.cell_to_latlng(cell) for cell in h3.get_pentagons(7))])
    return np.concatenate((lats, special[:, 0])), np.concatenate((lons, special[:, 1]))


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_cells_agree_with_h3(seed: int, scale: int, resolution: int) -> None:
    lats, lons = random_points(seed, 17_000 * scale)
    expected = naive_geo.cells_of(lats.tolist(), lons.tolist(), resolution)
    found = cells.cells_of(lats, lons, resolution)
    assert found.dtype == np.uint64
    assert found.tolist() == expected
    assert [cells.cell_of(lat, lon, resolution) for lat, lon in zip(lats[-30:], lons[-30:], strict=True)] == expected[
        -30:
    ]


def test_the_kernel_is_bound_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = h3_capi.latlng_to_cells
    assert kernel is not None
    assert len(kernel.signatures) == 1

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return kernel(*arguments)

    monkeypatch.setattr(h3_capi, "latlng_to_cells", counted)
    assert cells.cells_of([1.0], [2.0], 7).tolist() == [h3.latlng_to_cell(1.0, 2.0, 7)]
    assert len(calls) == 1


def test_fallback_gives_the_same_cells(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lats, lons = random_points(seed, 500)
    compiled = cells.cells_of(lats, lons, 8)
    monkeypatch.setattr(h3_capi, "latlng_to_cells", None)
    fallback = cells.cells_of(lats, lons, 8)
    assert fallback.dtype == np.uint64
    assert fallback.tolist() == compiled.tolist()
    with pytest.raises(ValueError, match="resolution"):
        cells.cells_of(lats, lons, 16)


def test_fallback_gives_the_same_centres_and_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    around = [h3.latlng_to_cell(52.5, 13.4, 7), next(iter(h3.get_pentagons(7))), h3.latlng_to_cell(-90, 0, 7)]
    compiled = [cells._disk(cell, 9_000.0) for cell in around], cells.centers(around)
    monkeypatch.setattr(h3_capi, "cells_to_latlngs", None)
    monkeypatch.setattr(h3_capi, "disk_rings", None)
    fallback = [cells._disk(cell, 9_000.0) for cell in around], cells.centers(around)
    for ours, theirs in zip(compiled[0], fallback[0], strict=True):
        assert [part.tolist() for part in ours] == [part.tolist() for part in theirs]
    assert [part.tolist() for part in compiled[1]] == [part.tolist() for part in fallback[1]]
    assert cells.centers([])[0].shape == (0,)


def test_another_library_of_h3_is_not_bound() -> None:
    library = ctypes.CDLL(latlng.__file__)
    assert h3_capi.bind(library, "4.5.0") is not None
    assert h3_capi.bind(library, "5.0.0") is None
    assert h3_capi.bind(object(), "4.5.0") is None


SECOND_PROCESS = """
import json
import sys
from geo.kernels import h3_capi, knn, ranking
from geo.warm import compile_kernels

steps = []
compile_kernels(lambda *step: steps.append(step))
stats = [kernel.stats for kernel in (h3_capi.latlng_to_cells, knn.nearest, ranking.rank_bands)]
print(json.dumps([steps, *([sum(counts.values()) for counts in part] for part in (
    [s.cache_hits for s in stats], [s.cache_misses for s in stats]
)), len(knn._search.signatures), "scipy.linalg" in sys.modules]))
"""


def test_a_second_process_loads_every_kernel_from_the_cache() -> None:
    warm.compile_kernels(lambda *step: None)
    answer = subprocess.run([sys.executable, "-c", SECOND_PROCESS], capture_output=True, text=True, check=True)
    steps, hits, misses, inner, scipy = json.loads(answer.stdout)
    assert (hits, misses) == ([1, 1, 1], [0, 0, 0])
    assert (inner, scipy) == (0, False), "neither is needed, and both take time"
    assert [step[1] for step in steps] == list(range(len(steps)))
    assert {step[2] for step in steps} == {len(steps) - 1}
    assert "ranking" in {step[0] for step in steps}


def test_another_processor_has_its_kernels_compiled_anew(tmp_path: Path) -> None:
    """One cache directory, as an image that runs on several machines has."""
    program = (
        "import numpy as np; from geo.kernels import polygon as p; k = p.distance_to_ring_m; "
        "print(k(1.0, 2.0, np.array([[0.0, 0.0], [0.0, 1.0]])), sum(k.stats.cache_hits.values()))"
    )
    answers = []
    for processor in ("generic", "x86-64-v2", "generic"):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": processor}
        environment |= {"NUMBA_CPU_FEATURES": ""}
        ran = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        answers.append(ran.stdout.split())
    assert len({distance for distance, _ in answers}) == 1
    assert [hits for _, hits in answers] == ["0", "0", "1"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_bad_coordinates_are_refused(bad: float) -> None:
    for lat, lon, named in ((bad, 0.0, "lat"), (0.0, bad, "lon")):
        with pytest.raises(ValueError, match=named):
            cells.cell_of(lat, lon, 7)
        with pytest.raises(ValueError, match=named):
            cells.cells_of([0.0, lat], [0.0, lon], 7)


@pytest.mark.parametrize("resolution", [-1, 16])
def test_bad_resolutions_are_refused(resolution: int) -> None:
    for call in (
        lambda: cells.cell_of(0, 0, resolution),
        lambda: cells.cells_of([0.0], [0.0], resolution),
        lambda: cells.parents([h3.latlng_to_cell(0, 0, 15)], resolution),
    ):
        with pytest.raises(ValueError, match="resolution"):
            call()


def test_no_points() -> None:
    assert cells.cells_of([], [], 7).tolist() == []
    assert cells.parents(np.empty(0, np.uint64), 5).tolist() == []
    assert cells.distances_m(h3.latlng_to_cell(0, 0, 7), []).tolist() == []


@pytest.mark.parametrize("own", [0, 5, 7, 8, 15])
def test_parents_agree_with_h3(seed: int, own: int) -> None:
    found = cells.cells_of(*random_points(seed, 200), own)
    found = np.concatenate((found, np.array(list(h3.get_pentagons(own)), dtype=np.uint64)))
    for resolution in range(own + 1):
        expected = [h3.cell_to_parent(cell, resolution) for cell in found.tolist()]
        assert cells.parents(found, resolution).tolist() == expected
        assert cells.parent(int(found[0]), resolution) == expected[0]
    assert cells.parents(found, own).tolist() == found.tolist()


def test_a_finer_parent_is_refused() -> None:
    fine, coarse = h3.latlng_to_cell(1, 2, 8), h3.latlng_to_cell(1, 2, 5)
    with pytest.raises(ValueError, match="no parent of resolution 7"):
        cells.parent(coarse, 7)
    with pytest.raises(ValueError, match="coarser than resolution 7"):
        cells.parents([fine, coarse], 7)


def test_text_and_validity() -> None:
    cell = h3.latlng_to_cell(52.5, 13.4, 7)
    assert cells.from_hex(cells.to_hex(cell)) == cell
    assert cells.to_hex(cell) == h3.int_to_str(cell)
    assert cells.resolution_of(cell) == 7
    assert cells.is_cell(cell)
    edge = next(iter(h3.origin_to_directed_edges(cell)))
    assert [cells.is_cell(value) for value in (0, -1, 1 << 64, cell + 1, edge)] == [False] * 5


@pytest.mark.parametrize(
    "text",
    ["", "0", "zz", "871f1d489ffffff ", "0x871f1d489ffffff", "871F1D489FFFFFF", "-1", "8_71f1d489ffffff", "f" * 40],
)
def test_text_that_is_no_cell(text: str) -> None:
    with pytest.raises(ValueError, match="not the text of an H3 cell"):
        cells.from_hex(text)


@pytest.mark.parametrize("function", ["center", "boundary", "polygon", "area_m2", "resolution_of", "to_hex"])
def test_what_is_no_cell_is_refused(function: str) -> None:
    with pytest.raises(ValueError, match="H3 cell"):
        getattr(cells, function)(12345)


def test_centers_and_distances(seed: int, scale: int) -> None:
    found = cells.cells_of(*random_points(seed, 10_000 * scale), 7)
    lats, lons = cells.centers(found)
    assert list(zip(lats.tolist(), lons.tolist(), strict=True)) == naive_geo.centers(found.tolist())
    found = found[-100:]
    first = int(found[0])
    assert cells.distances_m(first, found).tolist() == [cells.distance_m(first, cell) for cell in found.tolist()]
    assert cells.distance_m(first, first) == 0
    with pytest.raises(ValueError, match="not H3 cells"):
        cells.centers([first, 7])


def special_cells(resolution: int) -> list[int]:
    """Pentagons and their surroundings, both poles, the antimeridian."""
    pentagons = list(h3.get_pentagons(resolution))
    near = [sorted(h3.grid_disk(pentagon, 4))[i] for i, pentagon in enumerate(pentagons)]
    return [*pentagons, *near, *(h3.latlng_to_cell(lat, lon, resolution) for lat, lon in EDGE_POINTS)]


@pytest.mark.parametrize("resolution", [1, 5, 7, 8])
def test_polygons_hold_their_centre_and_their_area(resolution: int) -> None:
    for cell in special_cells(resolution):
        shape = cells.polygon(cell)
        (ring,) = shape["coordinates"]
        assert shape["type"] == "Polygon"
        assert ring[0] == ring[-1]
        assert all(-90 <= lat <= 90 and -180 <= lon <= 540 for lon, lat in ring)
        # Nothing but the line along a pole jumps.
        assert all(abs(b[0] - a[0]) <= 180 or abs(a[1]) == 90 for a, b in pairwise(ring))
        polygon = shapely.Polygon(ring)
        assert polygon.is_valid
        assert shapely.LinearRing(ring).is_ccw
        lat, lon = h3.cell_to_latlng(cell)
        assert any(polygon.covers(shapely.Point(lon + turn, lat)) for turn in (0, 360))


@pytest.mark.parametrize("pole", [90.0, -90.0])
@pytest.mark.parametrize("resolution", [0, 5, 7, 8])
def test_a_polar_cell_reaches_the_pole_everywhere(pole: float, resolution: int) -> None:
    polygon = shapely.Polygon(cells.polygon(h3.latlng_to_cell(pole, 0, resolution))["coordinates"][0])
    west = polygon.bounds[0]
    assert polygon.bounds[2] - west == pytest.approx(360)
    assert all(polygon.covers(shapely.Point(west + turn, pole)) for turn in (0, 77, 180, 300, 360))


def test_boundary_and_area() -> None:
    for cell in special_cells(8):
        assert cells.boundary(cell).tolist() == [list(vertex) for vertex in h3.cell_to_boundary(cell)]
        assert cells.area_m2(cell) == h3.cell_area(cell, unit="m^2")
    with pytest.raises(ValueError, match="read-only"):
        cells.boundary(special_cells(8)[0])[0, 0] = 1


def disk_matches_brute_force(cell: int, radius_m: float) -> None:
    found, distances = cells.disk(cell, radius_m)
    # Sides of neighbouring cells are at least 0.6 average edges apart from their middle, so that every ring adds as
    # much; twice the rings of the product and more are searched.
    edge_m = math.sqrt(cells.area_m2(cell) / 2.6)
    expected = naive_geo.disk(cell, radius_m, math.ceil(radius_m / edge_m) + 6)
    assert set(found.tolist()) == {other for _, other in expected}
    np.testing.assert_allclose(distances, [distance for distance, _ in expected], rtol=1e-9, atol=1e-6)
    pairs = list(zip(distances.tolist(), found.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert pairs[0] == (0.0, cell)


@pytest.mark.parametrize("resolution", [7, 8])
@pytest.mark.parametrize("radius_m", [1, 3000, 5000, 10000])
def test_disks_at_pentagons_poles_and_the_antimeridian(resolution: int, radius_m: float) -> None:
    for cell in special_cells(resolution):
        disk_matches_brute_force(cell, radius_m)


def test_wide_disks() -> None:
    for cell in special_cells(7)[:2] + special_cells(7)[-8::4]:
        disk_matches_brute_force(cell, 50_000)


@given(st.floats(-1, 1), st.floats(-180, 180), st.floats(1, 12_000), st.sampled_from([7, 8]))
def test_disks_anywhere(sine: float, lon: float, radius_m: float, resolution: int) -> None:
    disk_matches_brute_force(h3.latlng_to_cell(math.degrees(math.asin(sine)), lon, resolution), radius_m)


def test_a_disk_can_be_the_globe() -> None:
    cell = h3.latlng_to_cell(10, 10, 1)
    assert set(cells.disk(cell, 21e6)[0].tolist()) == {
        c for base in h3.get_res0_cells() for c in h3.cell_to_children(base, 1)
    }


def test_circumradius_stays_below_the_bound_that_disks_use() -> None:
    from h3 import average_hexagon_edge_length

    for resolution in (0, 1, 2):
        worst = 0.0
        for base in h3.get_res0_cells():
            for cell in h3.cell_to_children(base, resolution):
                lat, lon = h3.cell_to_latlng(cell)
                worst = max(worst, *(naive_geo.distance_m(lat, lon, *vertex) for vertex in h3.cell_to_boundary(cell)))
        assert 1.0 < worst / average_hexagon_edge_length(resolution, unit="m") < cells._CIRCUMRADIUS_PER_EDGE


def test_disks_are_shared_and_read_only() -> None:
    cell = h3.latlng_to_cell(52.5, 13.4, 7)
    found, distances = cells.disk(cell, 5000)
    assert cells.disk(cell, 5000.0)[0] is found
    for array in (found, distances):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@pytest.mark.parametrize("radius_m", [0, -1, math.nan, math.inf, 1e9])
def test_a_disk_needs_a_sane_radius(radius_m: float) -> None:
    with pytest.raises(ValueError, match="radius_m"):
        cells.disk(h3.latlng_to_cell(0, 0, 7), radius_m)
