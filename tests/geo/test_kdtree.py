"""The tree of the place index: its layout, and what it holds of every node."""

import numpy as np
import pytest
from numpy.typing import NDArray

from geo import sphere
from geo.kernels import kdtree
from geo.places import bitmap
from tests import naive_geo

SIZES = [1, 2, 11, 12, 13, 24, 25, 47, 48, 49, 200, 1_537]


def points_of(random: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Vectors, a quarter of them equal, and masks."""
    lats, lons = np.degrees(np.arcsin(random.uniform(-1, 1, n))), random.uniform(-180, 180, n)
    lats[: n // 4], lons[: n // 4] = 12.5, 30.25
    return sphere.unit_vectors(lats, lons), random.integers(0, 2**63, n).astype(np.uint64)


@pytest.mark.parametrize("n", SIZES)
def test_every_node_covers_its_points(seed: int, n: int) -> None:
    vectors, masks = points_of(np.random.default_rng(seed), n)
    points, rows, tree_masks, boxes, node_masks = kdtree.build(vectors, masks)
    assert sorted(rows.tolist()) == list(range(n))
    np.testing.assert_array_equal(points, vectors[rows])
    np.testing.assert_array_equal(tree_masks, masks[rows])
    leaves = len(boxes) // 2
    assert 2 ** boxes[0, 0] == leaves
    for node, (low, high) in naive_geo.tree_spans(n, leaves).items():
        assert high > low
        assert node < leaves or high - low <= kdtree.LEAF_SIZE
        grains = points[low:high] * kdtree.GRAINS
        assert boxes[node, :3].tolist() == [int(np.floor(v)) for v in grains.min(axis=0)]
        assert boxes[node, 3:].tolist() == [int(np.ceil(v)) for v in grains.max(axis=0)]
        assert int(node_masks[node]) == int(np.bitwise_or.reduce(tree_masks[low:high]))


@pytest.mark.parametrize("n", SIZES)
def test_flags_name_the_allowed_points(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    _, rows, _, boxes, _ = kdtree.build(*points_of(random, n))
    allowed = random.uniform(size=n) < random.choice([0.02, 0.5])
    flags = kdtree.flags_of(rows, bitmap(allowed))
    leaves = len(boxes) // 2
    spans = naive_geo.tree_spans(n, leaves)
    for node in range(leaves, 2 * leaves):
        low, high = spans[node]
        assert int(flags[node]) == sum(bool(allowed[row]) << i for i, row in enumerate(rows[low:high].tolist()))
    for node in range(1, leaves):
        assert int(flags[node]) == int(flags[2 * node]) | int(flags[2 * node + 1])


@pytest.mark.parametrize("n", [12 * 2**10, 12 * 2**10 + 1, 25_000])
def test_a_point_takes_at_most_48_bytes(seed: int, n: int) -> None:
    tree = kdtree.build(*points_of(np.random.default_rng(seed), n))
    flags = kdtree.flags_of(tree[1], bitmap(np.ones(n)))
    assert sum(array.nbytes for array in (*tree, flags)) <= 48 * n


def test_no_points() -> None:
    points, rows, _, boxes, node_masks = kdtree.build(np.empty((0, 3)), np.empty(0, np.uint64))
    assert (points.shape, rows.size, node_masks.tolist()) == ((0, 3), 0, [0, 0])
    assert boxes.tolist() == [[0] * 6] * 2
    assert kdtree.flags_of(rows, bitmap([])).tolist() == [0, 0]
