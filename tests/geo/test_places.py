"""The place index against brute force: same rows, same order, same distances, everywhere on the globe."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo import sphere
from geo.kernels import knn
from geo.places import Places, bitmap
from tests import naive_geo

SPECIAL = [
    (90.0, 0.0),
    (90.0, 55.0),
    (-90.0, 0.0),
    (0.0, 180.0),
    (0.0, -180.0),
    (1e-9, 179.9999999),
    (52.5, 13.4),
    (52.5, 13.4),
]
POINTS = st.tuples(st.floats(-90, 90), st.floats(-180, 180)) | st.sampled_from(SPECIAL)
LIMITS = st.sampled_from([(0.0, math.inf), (0.0, 5e6), (1e5, 1e7), (0.0, 0.0), (1.0, math.inf), (2e7, 1e9), (5.0, 1.0)])


def vector_of(lat: float, lon: float) -> naive_geo.Vector:
    """The product's own vector, so that equal chords are equal for both."""
    x, y, z = sphere.unit_vectors([lat], [lon])[0].tolist()
    return x, y, z


def check(
    places: Places,
    vectors: list[naive_geo.Vector],
    masks: list[int],
    lat: float,
    lon: float,
    k: int,
    limits: tuple[float, float],
    required: int,
) -> None:
    expected = naive_geo.nearest(vectors, vector_of(lat, lon), k, limits, masks, required)
    rows, distances = places.nearest(
        lat, lon, k, max_distance_m=limits[1], min_distance_m=limits[0], required_mask=required
    )
    assert rows.dtype == np.int64
    assert distances.dtype == np.float64
    assert rows.tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(distances, [distance for _, distance in expected], rtol=1e-12, atol=1e-9)
    assert (np.diff(distances) >= 0).all()


@given(
    st.lists(st.tuples(POINTS, st.integers(0, 7)), max_size=60),
    POINTS,
    st.integers(1, 70),
    LIMITS,
    st.sampled_from([0, 0, 1, 5, 8]),
)
def test_nearest_equals_brute_force(
    points: list[tuple[tuple[float, float], int]],
    at: tuple[float, float],
    k: int,
    limits: tuple[float, float],
    required: int,
) -> None:
    lats, lons, masks = [p[0] for p, _ in points], [p[1] for p, _ in points], [mask for _, mask in points]
    places = Places(lats, lons, np.array(masks, dtype=np.uint64))
    check(places, [vector_of(*p) for p, _ in points], masks, *at, k, limits, required)


def test_many_clustered_points_with_duplicates(seed: int) -> None:
    random = np.random.default_rng(seed)
    lats = np.concatenate(
        (45 + random.normal(0, 3, 1500), np.degrees(np.arcsin(random.uniform(-1, 1, 500))), np.full(300, 45.5))
    )
    lons = np.concatenate((10 + random.normal(0, 3, 1500), random.uniform(-180, 180, 500), np.full(300, 10.5)))
    # Rounded, so that many points coincide.
    lats, lons = lats.round(1), lons.round(1)
    masks = random.integers(0, 8, lats.size).astype(np.uint64)
    places, vectors = Places(lats, lons, masks), [tuple(v) for v in sphere.unit_vectors(lats, lons).tolist()]
    for lat, lon in [
        (45.5, 10.5),
        (45.31, 10.52),
        (90, 0),
        (-90, 0),
        (0, 180),
        *zip(lats[:10], lons[:10], strict=True),
    ]:
        for k, limits, required in (
            (1, (0, math.inf), 0),
            (50, (0, math.inf), 0),
            (310, (0, math.inf), 5),
            (20, (1.0, 9e4), 2),
            (9, (0, 0), 0),
        ):
            check(places, vectors, masks.tolist(), float(lat), float(lon), k, limits, required)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 16, 17, 63, 64, 65, 1000])
def test_every_size_gives_every_row(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    lats, lons = np.degrees(np.arcsin(random.uniform(-1, 1, n))), random.uniform(-180, 180, n)
    places = Places(lats, lons)
    rows, distances = places.nearest(12.0, 34.0, n + 5)
    assert len(places) == n
    assert sorted(rows.tolist()) == list(range(n))
    np.testing.assert_allclose(distances, np.sort(sphere.great_circle_m(12.0, 34.0, lats, lons)), rtol=1e-8, atol=1e-6)


def test_distances_are_great_circles_near_and_far() -> None:
    places = Places([52.5, 52.5, -52.5], [13.4, 13.40001, -166.5])
    rows, distances = places.nearest(52.5, 13.4, 3)
    expected = [naive_geo.distance_m(52.5, 13.4, *at) for at in ((52.5, 13.4), (52.5, 13.40001), (-52.5, -166.5))]
    assert rows.tolist() == [0, 1, 2]
    assert distances.tolist() == pytest.approx(expected, abs=1e-6, rel=1e-8)
    assert distances[0] == 0


def test_one_point_many_times() -> None:
    places = Places(np.full(500, 10.0), np.full(500, 20.0), np.arange(500, dtype=np.uint64))
    assert places.nearest(50.0, 60.0, 7)[0].tolist() == list(range(7))
    assert places.nearest(10.0, 20.0, 3, max_distance_m=0.0, required_mask=256)[0].tolist() == [256, 257, 258]
    assert places.nearest(10.0, 20.0, 3, min_distance_m=1e-6)[0].tolist() == []


def test_limits_are_inclusive() -> None:
    places = Places([0.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    distance = float(places.nearest(0.0, 0.0, 2)[1][1])
    assert places.nearest(0.0, 0.0, 9, max_distance_m=distance)[0].tolist() == [0, 1]
    assert places.nearest(0.0, 0.0, 9, max_distance_m=math.nextafter(distance, 0))[0].tolist() == [0]
    assert places.nearest(0.0, 0.0, 9, min_distance_m=distance)[0].tolist() == [1, 2]
    assert places.nearest(0.0, 0.0, 9, min_distance_m=math.nextafter(distance, 1e9))[0].tolist() == [2]


def test_no_masks_have_no_property() -> None:
    places = Places([1.0], [2.0])
    assert places.nearest(0.0, 0.0, 1)[0].tolist() == [0]
    assert places.nearest(0.0, 0.0, 1, required_mask=1)[0].tolist() == []
    all_bits = Places([1.0], [2.0], np.array([2**64 - 1], dtype=np.uint64))
    assert all_bits.nearest(0.0, 0.0, 1, required_mask=2**64 - 1)[0].tolist() == [0]
    assert all_bits.nearest(0.0, 0.0, 1, required_mask=2**63)[0].tolist() == [0]


def test_the_arrays_are_copied() -> None:
    lats, lons, masks = np.array([1.0, 2.0]), np.array([1.0, 2.0]), np.array([1, 1], dtype=np.uint64)
    places = Places(lats, lons, masks)
    lats[:], lons[:], masks[:] = 50.0, 50.0, 0
    assert places.nearest(1.0, 1.0, 2, max_distance_m=1.0, required_mask=1)[0].tolist() == [0]


def test_read_only_arrays_are_welcome() -> None:
    lats, masks = np.array([1.0, 2.0]), np.array([1, 1], dtype=np.uint64)
    lats.flags.writeable = masks.flags.writeable = False
    assert Places(lats, lats, masks).nearest_many(lats, lats, 1)[0].tolist() == [[0], [1]]


@given(
    st.lists(st.tuples(POINTS, st.integers(0, 3), st.booleans()), max_size=60),
    POINTS,
    st.integers(1, 30),
    LIMITS,
    st.sampled_from([0, 1, 3]),
)
def test_a_subset_equals_brute_force(
    points: list[tuple[tuple[float, float], int, bool]],
    at: tuple[float, float],
    k: int,
    limits: tuple[float, float],
    required: int,
) -> None:
    masks, allowed = [mask for _, mask, _ in points], [may for _, _, may in points]
    places = Places([p[0] for p, _, _ in points], [p[1] for p, _, _ in points], np.array(masks, dtype=np.uint64))
    vectors = [vector_of(*p) for p, _, _ in points]
    expected = naive_geo.nearest(vectors, vector_of(*at), k, limits, masks, required, allowed)
    subset = places.subset(bitmap(allowed))
    assert len(subset) == len(points)
    assert subset.nearest(*at, k, limits[1], limits[0], required)[0].tolist() == [row for row, _ in expected]
    check(places, vectors, masks, *at, k, limits, required)


def test_subsets_take_a_bit_for_each_row() -> None:
    places = Places(np.zeros(65), np.arange(65.0))
    words = np.array([0, 1], np.uint64)
    words.flags.writeable = False
    assert places.subset(words).nearest(0.0, 0.0, 3)[0].tolist() == [64]
    assert places.subset(np.append(words, words)).nearest(0.0, 0.0, 3)[0].tolist() == [64]
    for bad in (words[:1], words.astype(np.int64), words.reshape(1, 2)):
        with pytest.raises(ValueError, match="allowed"):
            places.subset(bad)  # type: ignore[arg-type]


def test_distances_rise_where_the_way_to_compute_them_changes() -> None:
    """At a half chord of 0.01, about 127.4 km."""
    limit_deg = math.degrees(2 * math.asin(0.01))
    lons = limit_deg * (1 + np.arange(-2_000, 2_000) * 2e-16)
    _, distances_m = Places(np.zeros(lons.size), lons).nearest(0.0, 0.0, lons.size)
    assert (np.diff(distances_m) >= 0).all()
    np.testing.assert_allclose(distances_m, sphere.EARTH_RADIUS_M * math.radians(limit_deg), rtol=2e-12)
    for lon in (0.001, 0.1, 1.0, 1.14, 1.15, 2.0):
        found = float(Places([0.0], [lon]).nearest(0.0, 0.0, 1)[1][0])
        assert found == pytest.approx(sphere.EARTH_RADIUS_M * math.radians(lon), rel=1e-12)


@given(st.lists(POINTS, max_size=30), st.lists(POINTS, max_size=10), st.integers(1, 35), LIMITS)
def test_many_queries_equal_single_ones(
    points: list[tuple[float, float]], queries: list[tuple[float, float]], k: int, limits: tuple[float, float]
) -> None:
    places = Places([p[0] for p in points], [p[1] for p in points])
    rows, distances = places.nearest_many([q[0] for q in queries], [q[1] for q in queries], k, limits[1], limits[0])
    assert rows.shape == distances.shape == (len(queries), k)
    for i, (lat, lon) in enumerate(queries):
        one_rows, one_distances = places.nearest(lat, lon, k, limits[1], limits[0])
        missing = k - one_rows.size
        assert rows[i].tolist() == one_rows.tolist() + [-1] * missing
        assert distances[i].tolist() == one_distances.tolist() + [math.inf] * missing


def test_bad_queries_are_refused() -> None:
    places = Places([1.0], [2.0])
    for lat, lon in ((math.nan, 0.0), (0.0, math.nan), (91.0, 0.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="lat"):
            places.nearest(lat, lon, 1)
        with pytest.raises(ValueError, match="must be finite"):
            places.nearest_many([lat], [lon], 1)
        with pytest.raises(ValueError, match="must be finite"):
            Places([lat], [lon])
    with pytest.raises(ValueError, match="k must be"):
        places.nearest(0.0, 0.0, 0)
    with pytest.raises(ValueError, match="max_distance_m"):
        places.nearest_many([0.0], [0.0], 1, max_distance_m=math.nan)
    with pytest.raises(ValueError, match="masks"):
        Places([1.0], [2.0], [])


def test_the_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = knn.nearest
    assert len(kernel.signatures) == 1

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return kernel(*arguments)

    monkeypatch.setattr(knn, "nearest", counted)
    assert Places([1.0], [2.0]).nearest(0.0, 0.0, 1)[0].tolist() == [0]
    assert calls == [1]
