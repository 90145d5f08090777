"""Pages of the people index against every pair of viewer and member: poles, the antimeridian, pentagons, one cell."""

import h3.api.basic_int as h3
import numpy as np
import pytest
from numpy.typing import NDArray

from geo import privacy, sphere
from geo.crowd import BandsAround, Crowd
from tests import naive_geo

NOW = 1_000
BORDERS_M = np.array(privacy.STRANGER_BANDS_M[1:], np.float64)


def cells_around(random: np.random.Generator, n: int, spread_m: float) -> list[int]:
    """Cells around both poles, three places of the antimeridian, a pentagon and a town, at one point, and anywhere."""
    pentagon = h3.cell_to_latlng(min(h3.get_pentagons(7)))
    places = [(90.0, 0.0), (-90.0, 0.0), (0.0, 180.0), (65.0, -180.0), (-17.0, 180.0), pentagon, (48.8, 2.3)]
    lats, lons = np.degrees(np.arcsin(random.uniform(-1, 1, n))), random.uniform(-180, 180, n)
    kind = random.integers(0, len(places) + 2, n)
    for number, place in enumerate(places):
        for i in np.flatnonzero(kind == number).tolist():
            away_m = abs(float(random.normal(0, spread_m)))
            lats[i], lons[i] = naive_geo.destination(place, float(random.uniform(0, 360)), away_m)
    lats[kind == len(places)], lons[kind == len(places)] = 48.8, 2.3
    return naive_geo.cells_of(lats.tolist(), lons.tolist(), 7)


def bands_of(viewer: int, centers: NDArray[np.float64], bands: int) -> NDArray[np.int64]:
    """The band of each centre (unit vectors) around a viewer's cell, ``bands`` where it is in none."""
    at = np.array(naive_geo.vector(*h3.cell_to_latlng(viewer)))
    chords = np.sqrt(((centers - at) ** 2).sum(axis=1))
    distances_m = 2 * sphere.EARTH_RADIUS_M * np.arcsin(np.minimum(1.0, chords / 2))
    found: NDArray[np.int64] = np.minimum(np.searchsorted(BORDERS_M, distances_m, side="right"), bands)
    return found


@pytest.mark.parametrize(("spread_m", "bands"), [(4_000.0, 3), (30_000.0, 5)])
def test_a_million_pairs_equal_brute_force(seed: int, scale: int, spread_m: float, bands: int) -> None:
    random = np.random.default_rng(seed)
    n = 1_000 * scale
    cells = np.array(cells_around(random, n, spread_m), np.uint64)
    keys = random.integers(0, 2**64, n, dtype=np.uint64)
    slots = random.permutation(n).astype(np.int32)
    crowd = Crowd(cells[: n // 2], keys[: n // 2], slots[: n // 2])
    for start in range(n // 2, n, 100):
        crowd.add_many(cells[start : start + 100], keys[start : start + 100], slots[start : start + 100])
    shown_until_ms = np.where(random.uniform(size=n) < 0.8, NOW + 1, NOW).astype(np.int64)
    excluded = np.unique(random.integers(0, n, n // 20)).astype(np.int32)
    may = (shown_until_ms[slots] > NOW) & ~np.isin(slots, excluded)
    centers = np.array([naive_geo.vector(*at) for at in naive_geo.centers(cells.tolist())])
    viewers = cells_around(random, 100 * scale, spread_m)
    found = 0
    for viewer in viewers:
        viewer_key = int(random.integers(0, 2**64, dtype=np.uint64))
        band = bands_of(viewer, centers, bands)
        inside = np.flatnonzero(may & (band < bands))
        offsets = keys[inside] - np.uint64(viewer_key)
        order = inside[np.lexsort((slots[inside], offsets, band[inside]))]
        page = crowd.page(BandsAround(viewer, bands), viewer_key, None, n, shown_until_ms, NOW, excluded)
        assert page[0].tolist() == slots[order].tolist()
        assert page[1].tolist() == band[order].tolist()
        assert page[2].tolist() == (keys[order] - np.uint64(viewer_key)).tolist()
        found += order.size
    assert found > n
