"""Bands between cells of different resolutions: against every pair, both ways."""

import random
from itertools import pairwise

import h3.api.basic_int as h3_int
import pytest

from geo import cells
from geo.mixed_bands import BANDS_M, MixedBandsAround, first_band_m, pair
from geo.privacy import STRANGER_BANDS_M

RADII_M = STRANGER_BANDS_M[1:]


def band_between(a: int, b: int, radius_m: int) -> tuple[int, int] | None:
    """The rule in words: both at the coarser resolution; a radius covers the first band always."""
    here, there = pair(a, b)
    distance_m = cells.distance_m(here, there)
    borders = BANDS_M[cells.resolution_of(here)]
    for low, high in pairwise(borders):
        if low <= distance_m < high:
            return (low, high) if high <= radius_m or low == 0 else None
    return None


@pytest.mark.parametrize("own", [5, 6, 7])
@pytest.mark.parametrize("lat_lon", [(48.8566, 2.3522), (64.7, 10.53), (10.4, 179.99)])  # the second is at a pentagon
def test_everybody_in_the_one_band_that_is_theirs(seed: int, own: int, lat_lon: tuple[float, float]) -> None:
    draws = random.Random(seed)
    viewer = cells.cell_of(*lat_lon, own)
    members = set()
    for _ in range(400):
        lat, lon = lat_lon[0] + draws.gauss(0, 0.25), lat_lon[1] + draws.gauss(0, 0.4)
        members.add(cells.cell_of(lat, (lon + 180) % 360 - 180, draws.choice([5, 6, 7])))
    members |= {cells.parent(viewer, resolution) for resolution in range(5, own + 1)}
    members |= {int(child) for child in h3_int.cell_to_children(viewer, 7)}
    for radius_m in RADII_M:
        around = MixedBandsAround(viewer, radius_m)
        assert around.limits == sorted(around.limits, key=lambda band: (band[1], band[0]))
        found: dict[int, tuple[int, int]] = {}
        for limits, band in zip(around.limits, around, strict=True):
            assert len(set(band.tolist())) == len(band)
            for cell in members.intersection(band.tolist()):
                assert cell not in found, "in two bands"
                found[cell] = limits
        expected = {cell: band_between(viewer, cell, radius_m) for cell in members}
        assert found == {cell: band for cell, band in expected.items() if band is not None}


def test_seen_from_either_side_the_band_is_the_same(seed: int) -> None:
    draws = random.Random(seed)
    for _ in range(40):
        a = cells.cell_of(48.8 + draws.gauss(0, 0.1), 2.3 + draws.gauss(0, 0.1), draws.choice([5, 6, 7]))
        b = cells.cell_of(48.8 + draws.gauss(0, 0.1), 2.3 + draws.gauss(0, 0.1), draws.choice([5, 6, 7]))
        limits = []
        for viewer, other in ((a, b), (b, a)):
            around = MixedBandsAround(viewer, 50_000)
            limits.append([at for at, band in zip(around.limits, around, strict=True) if other in band])
        assert limits[0] == limits[1]


def test_first_bands_are_wider_than_the_cell() -> None:
    """Two people in one cell of average size are never further apart than its first band says."""
    for resolution in BANDS_M:
        assert first_band_m(resolution) > 2 * h3_int.average_hexagon_edge_length(resolution, unit="m")


@pytest.mark.parametrize("radius_m", [0, 4000, 10_001])
def test_other_radii_are_refused(radius_m: int) -> None:
    with pytest.raises(ValueError, match="radius_m"):
        MixedBandsAround(cells.cell_of(0.0, 0.0, 6), radius_m)
