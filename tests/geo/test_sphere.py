"""Distances, bearings and unit vectors against other formulas, and the keyed function against its paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo import sphere
from geo.kernels import keyed
from geo.kernels import sphere as kernels
from tests import naive_geo

LATS = st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0])
LONS = st.floats(-180, 180) | st.sampled_from([-180.0, 0.0, 180.0])


@given(LATS, LONS, LATS, LONS)
def test_distance_equals_vincentys(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    expected = naive_geo.distance_m(lat1, lon1, lat2, lon2)
    # The haversine loses digits towards the antipode: the error is eps * R / tan(angle / 2) there, 0.3 m at the worst.
    tolerance = 1e-6 if expected < 15e6 else 0.3
    assert sphere.great_circle_m(lat1, lon1, lat2, lon2) == pytest.approx(expected, rel=1e-9, abs=tolerance)


def test_scalar_and_array_distances_are_the_same_numbers(seed: int) -> None:
    random = np.random.default_rng(seed)
    lats, lons = random.uniform(-90, 90, (2, 50)), random.uniform(-180, 180, (2, 50))
    pairs = sphere.great_circle_m(lats[0], lons[0], lats[1], lons[1])
    assert [sphere.great_circle_m(lats[0, i], lons[0, i], lats[1, i], lons[1, i]) for i in range(50)] == pairs.tolist()
    table = sphere.great_circle_m(lats[0][:, None], lons[0][:, None], lats[1], lons[1])
    assert table.shape == (50, 50)
    assert np.diagonal(table).tolist() == pairs.tolist()


def points_and_special(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A quarter of them at poles, on the antimeridian, or at one point."""
    lats, lons = np.degrees(np.arcsin(random.uniform(-1, 1, n))), random.uniform(-180, 180, n)
    kind = random.integers(0, 12, n)
    lats[kind == 0] = random.choice([-90.0, 90.0], (kind == 0).sum())
    lons[kind == 1] = random.choice([-180.0, 180.0], (kind == 1).sum())
    lats[kind == 2], lons[kind == 2] = 12.5, -33.25
    return lats, lons


def test_many_distances_equal_vincentys(seed: int, scale: int) -> None:
    random = np.random.default_rng(seed)
    n = 100_000 * scale
    starts, ends = points_and_special(random, n), points_and_special(random, n)
    near = random.uniform(size=n) < 0.3
    for axis in range(2):
        ends[axis][near] = starts[axis][near] + random.normal(0, 1e-4, near.sum())
    ends[0].clip(-90, 90, out=ends[0])
    ends[1].clip(-180, 180, out=ends[1])
    pairs = zip(*(column.tolist() for column in (*starts, *ends)), strict=True)
    expected = np.array([naive_geo.distance_m(*pair) for pair in pairs])
    tolerance = np.where(expected < 15e6, 1e-6, 0.3) + 1e-9 * expected
    assert (np.abs(sphere.great_circle_m(*starts, *ends) - expected) <= tolerance).all()
    first = float(starts[0][0]), float(starts[1][0])
    found = kernels.distances_from_m(*first, *ends)
    expected = np.array([naive_geo.distance_m(*first, *at) for at in zip(*(e.tolist() for e in ends), strict=True)])
    assert (np.abs(found - expected) <= np.where(expected < 15e6, 1e-6, 0.3) + 1e-9 * expected).all()


def test_many_vectors_equal_the_twin(seed: int, scale: int) -> None:
    lats, lons = points_and_special(np.random.default_rng(seed), 10_000 * scale)
    expected = [naive_geo.vector(lat, lon) for lat, lon in zip(lats.tolist(), lons.tolist(), strict=True)]
    np.testing.assert_allclose(sphere.unit_vectors(lats, lons), expected, atol=4e-16)


def test_known_distances() -> None:
    quarter = math.pi / 2 * sphere.EARTH_RADIUS_M
    assert sphere.great_circle_m(0, 0, 0, 0) == 0
    assert sphere.great_circle_m(90, 12, 90, -170) == pytest.approx(0, abs=1e-8)
    assert sphere.great_circle_m(0, 180, 0, -180) == pytest.approx(0, abs=1e-8)
    assert sphere.great_circle_m(0, 179.5, 0, -179.5) == pytest.approx(quarter / 90)
    assert sphere.great_circle_m(90, 0, -90, 0) == pytest.approx(2 * quarter)
    # Berlin to Paris, 878 km by the great circle.
    assert sphere.great_circle_m(52.52, 13.405, 48.8566, 2.3522) == pytest.approx(877.5e3, abs=1e3)


@given(st.floats(-89, 89), LONS, st.floats(0, 359.99), st.floats(1, 1e6))
def test_bearing_leads_to_the_destination(lat: float, lon: float, bearing: float, distance: float) -> None:
    found = sphere.bearing_deg(lat, lon, *naive_geo.destination((lat, lon), bearing, distance))
    assert 0 <= found < 360
    assert abs((found - bearing + 180) % 360 - 180) < 1e-4


@given(LATS, LONS, LATS, LONS)
def test_bearing_is_below_360(lat1: float, lon1: float, lat2: float, lon2: float) -> None:
    assert 0 <= sphere.bearing_deg(lat1, lon1, lat2, lon2) < 360


def test_bearing_of_the_four_directions() -> None:
    ends = [(1, 0), (0, 1), (-1, 0), (0, -1), (0, 0), (1, -1e-300)]
    assert [sphere.bearing_deg(0, 0, *end) for end in ends] == [0, 90, 180, 270, 0, 0]


def test_unit_vectors() -> None:
    vectors = sphere.unit_vectors([0, 0, 90, -90, 12], [0, 90, 77, 5, -130])
    assert vectors.shape == (5, 3)
    np.testing.assert_allclose(vectors[:4], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, -1]], atol=1e-15)
    np.testing.assert_allclose(vectors[4], naive_geo.vector(12, -130), atol=1e-15)
    assert sphere.unit_vectors([], []).shape == (0, 3)


@pytest.mark.parametrize(
    ("lats", "lons", "named"),
    [
        ([math.nan], [0], "lats"),
        ([0], [math.inf], "lons"),
        ([90.1], [0], "lats"),
        ([0], [-180.1], "lons"),
        ([0, 0], [0], "length"),
        ([[0]], [[0]], "one-dimensional"),
    ],
)
def test_points_that_are_none(lats: list[float], lons: list[float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        sphere.as_points(lats, lons)


KEY = bytes(range(16))


def test_siphash_twin_gives_the_papers_vector() -> None:
    # Appendix A of the paper: the message 00 01 .. 0e under the key 00 01 .. 0f.
    assert naive_geo.siphash24(KEY, bytes(range(15))) == 0xA129CA6149BE45E5


def test_siphash_of_eight_bytes() -> None:
    # vectors_sip64[8] of the authors' reference implementation: 62 24 93 9a 79 f5 f5 93.
    words = [int.from_bytes(part, "little") for part in (KEY[:8], KEY[8:], bytes(range(8)))]
    assert keyed.siphash24(*words) == 0x93F5F5799A932462


@given(st.binary(min_size=16, max_size=16), st.lists(st.integers(0, 2**64 - 1), max_size=5))
def test_siphash_equals_the_twin(key: bytes, values: list[int]) -> None:
    k0, k1 = (np.uint64(int.from_bytes(half, "little")) for half in (key[:8], key[8:]))
    expected = [naive_geo.siphash24(key, value.to_bytes(8, "little")) for value in values]
    assert [keyed.siphash24(k0, k1, np.uint64(value)) for value in values] == expected
    assert keyed.siphash24_many(k0, k1, np.array(values, dtype=np.uint64)).tolist() == expected
