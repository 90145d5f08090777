"""Many queries in one call: every answer equal to brute force, whatever the way, the workers and the queries beside."""

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo import sphere
from geo.kernels import knn, morton
from geo.places import Places, bitmap
from tests import naive_geo

Floats = NDArray[np.float64]
GLOBE_M = math.pi * sphere.EARTH_RADIUS_M
SPECIAL = [(90.0, 0.0), (90.0, 55.0), (-90.0, 0.0), (0.0, 180.0), (0.0, -180.0), (1e-9, 179.9999999), (45.0, 10.0)]
# (k, least, greatest distance, required mask): radius 0, a town, half the globe, all of it; k larger than n.
ASKED = [
    (1, 0.0, math.inf, 0),
    (5, 0.0, math.inf, 0),
    (7, 0.0, math.inf, 3),
    (50, 0.0, 5_000.0, 0),
    (3, 0.0, 0.0, 0),
    (3, 2_000.0, 1e6, 1),
    (20, 0.0, GLOBE_M / 2, 2),
    (1_300, 0.0, GLOBE_M / 2, 0),
    (1_300, 0.0, math.inf, 0),
]


def world(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
    """A third anywhere, a third in a town that lies across the antimeridian, a third around a pole or at one point."""
    third = count // 3
    lat = [np.degrees(np.arcsin(random.uniform(-1, 1, third))), random.normal(0.0, 0.05, third)]
    lon = [random.uniform(-180, 180, third), (180 + random.normal(0.0, 0.05, third) + 180) % 360 - 180]
    rest = count - 2 * third - len(SPECIAL)
    lat += [np.where(random.uniform(size=rest) < 0.5, 90 - abs(random.normal(0, 0.1, rest)), 45.0)]
    lon += [np.where(lat[2] == 45.0, 10.0, random.uniform(-180, 180, rest))]
    lat, lon = [*lat, np.array([p[0] for p in SPECIAL])], [*lon, np.array([p[1] for p in SPECIAL])]
    return np.clip(np.concatenate(lat), -90, 90), np.clip(np.concatenate(lon), -180, 180)


def brute_force(points: Floats, queries: Floats, asked: tuple[int, float, float, int], fits: NDArray[np.bool_]) -> Any:
    """Rows [m, k] by (squared chord, row), -1 where there is no more."""
    k, least_m, most_m, _ = asked
    dx, dy, dz = (points[None, :, axis] - queries[:, None, axis] for axis in range(3))
    chords2 = dx * dx + dy * dy + dz * dz
    metres = 2 * sphere.EARTH_RADIUS_M * np.arcsin(np.minimum(1.0, 0.5 * np.sqrt(chords2)))
    chords2[(metres < least_m) | (metres > most_m) | ~fits[None, :]] = np.inf
    order = np.argsort(chords2, axis=1, kind="stable")[:, :k]
    rows = np.where(np.isinf(np.take_along_axis(chords2, order, axis=1)), -1, order)
    return np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1)


@pytest.mark.parametrize("asked", ASKED)
def test_a_million_pairs_equal_brute_force(seed: int, scale: int, asked: tuple[int, float, float, int]) -> None:
    random = np.random.default_rng(seed)
    k, least_m, most_m, required = asked
    lats, lons = world(random, 1_000)
    masks = random.integers(0, 4, lats.size).astype(np.uint64)
    allowed = random.uniform(size=lats.size) < 0.7
    index = Places(lats, lons, masks)
    points = sphere.unit_vectors(lats, lons)
    for _ in range(scale):
        q_lats, q_lons = world(random, 1_000)
        queries = sphere.unit_vectors(q_lats, q_lons)
        for places, may in ((index, np.ones(lats.size, np.bool_)), (index.subset(bitmap(allowed)), allowed)):
            rows, distances_m = places.nearest_many(q_lats, q_lons, k, most_m, least_m, required)
            fits = may & ((masks & np.uint64(required)) == required)
            np.testing.assert_array_equal(rows, brute_force(points, queries, asked, fits))
            assert (np.isinf(distances_m) == (rows == -1)).all()
            assert (distances_m[:, 1:] >= distances_m[:, :-1]).all()


@pytest.mark.parametrize(
    ("k", "most_m", "least_m"), [(1, math.inf, 0.0), (6, math.inf, 0.0), (6, 700.0, 0.0), (3, math.inf, 90.0)]
)
def test_many_close_queries_equal_single_ones_on_one_worker_and_on_two(
    seed: int, k: int, most_m: float, least_m: float
) -> None:
    """Dense enough for pools of candidates, and for three shares; many points twice, and queries at points."""
    random = np.random.default_rng(seed)
    lats, lons = (random.normal(45.0, 0.02, 600).round(4), random.normal(10.0, 0.02, 600).round(4))
    q_lats = np.concatenate((random.normal(45.0, 0.02, 20_000), np.repeat(lats, 3), [90.0, -90.0]))
    q_lons = np.concatenate((random.normal(10.0, 0.02, 20_000), np.repeat(lons, 3), [0.0, 180.0]))
    places = Places(lats, lons, np.arange(600, dtype=np.uint64)).subset(bitmap(np.arange(600) % 7 != 0))
    one = places.nearest_many(q_lats, q_lons, k, most_m, least_m, 1, workers=1)
    two = places.nearest_many(q_lats, q_lons, k, most_m, least_m, 1, workers=2)
    for mine, other in zip(one, two, strict=True):
        assert mine.tobytes() == other.tobytes()
    for i in [*range(0, q_lats.size, 40), q_lats.size - 1]:
        rows, distances_m = places.nearest(float(q_lats[i]), float(q_lons[i]), k, most_m, least_m, 1)
        missing = k - rows.size
        assert one[0][i].tolist() == rows.tolist() + [-1] * missing
        assert one[1][i].tolist() == distances_m.tolist() + [math.inf] * missing


def test_pools_answer_most_of_many_close_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way above is taken: the shares that the kernel gets are in order of place, and there is more than one."""
    shares: list[NDArray[np.int32]] = []
    kernel = knn.nearest_many
    assert len(kernel.signatures) == 1

    def counted(*arguments: Any) -> Any:
        shares.append(arguments[4])
        return kernel(*arguments)

    monkeypatch.setattr(knn, "nearest_many", counted)
    lats, lons = np.linspace(-80, 80, 20_000), np.linspace(-170, 170, 20_000)
    rows, _ = Places(lats, lons).nearest_many(lats, lons, 1, workers=1)
    assert rows.ravel().tolist() == list(range(20_000))
    assert len(shares) == 3
    assert np.concatenate(shares).tolist() == morton.in_order(lats, lons).tolist()


def test_more_queries_than_are_sorted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morton, "MOST_POINTS", 1_000)
    lats, lons = np.linspace(-80, 80, 2_500), np.linspace(-170, 170, 2_500)
    rows, distances_m = Places(lats, lons).nearest_many(lats, lons, 2)
    assert rows[:, 0].tolist() == list(range(2_500))
    assert (distances_m[:, 0] == 0).all()


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)) | st.sampled_from(SPECIAL), max_size=50))
def test_the_order_is_along_the_curve(points: list[tuple[float, float]]) -> None:
    lats, lons = [p[0] for p in points], [p[1] for p in points]
    order = morton.in_order(np.array(lats, np.float64), np.array(lons, np.float64))
    assert order.tolist() == naive_geo.morton_order(lats, lons)


def test_an_index_is_built_while_another_answers(seed: int) -> None:
    """The build leaves the interpreter free: 100,000 points take 50 ms at least, a question some microseconds."""
    random = np.random.default_rng(seed)
    lats, lons = random.uniform(-90, 90, 100_000), random.uniform(-180, 180, 100_000)
    small, built = Places(lats[:1_000], lons[:1_000]), []
    builder = threading.Thread(target=lambda: built.append(Places(lats, lons)))
    answered = 0
    builder.start()
    while builder.is_alive():
        assert small.nearest(1.0, 2.0, 3)[0].size == 3
        answered += 1
    builder.join()
    assert built[0].nearest(float(lats[77]), float(lons[77]), 1)[0].tolist() == [77]
    assert answered > 100


_WITHOUT_JIT = """
import numpy as np
from geo.kernels import knn
from tests.geo import test_places_many as many
from geo import sphere
from geo.places import Places, bitmap
assert not hasattr(knn.nearest, "signatures")
random = np.random.default_rng({seed})
lats, lons = many.world(random, 70)
q_lats, q_lons = many.world(random, 30)
masks = random.integers(0, 4, lats.size).astype(np.uint64)
allowed = random.uniform(size=lats.size) < 0.7
places = Places(lats, lons, masks).subset(bitmap(allowed))
points, queries = sphere.unit_vectors(lats, lons), sphere.unit_vectors(q_lats, q_lons)
for asked in many.ASKED[:-2]:
    k, least_m, most_m, required = asked
    fits = allowed & ((masks & np.uint64(required)) == required)
    expected = many.brute_force(points, queries, asked, fits)
    rows, _ = places.nearest_many(q_lats, q_lons, k, most_m, least_m, required)
    np.testing.assert_array_equal(rows, expected)
    for i in range(lats.size // 10):
        one, _ = places.nearest(q_lats[i], q_lons[i], k, most_m, least_m, required)
        assert one.tolist() == [row for row in expected[i].tolist() if row >= 0]
print("equal")
"""


def test_the_same_without_jit(seed: int) -> None:
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-c", _WITHOUT_JIT.format(seed=seed)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=80)
    assert (done.stdout.strip(), done.returncode) == ("equal", 0), done.stderr
