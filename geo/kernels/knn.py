"""Exact k nearest points on the sphere: a balanced kd-tree with bounding boxes over unit vectors.

The chord of two unit vectors grows with their great-circle distance, so nearest by squared chord is nearest on the
sphere, with no special case at poles or the antimeridian.

Layout. The tree is complete and implicit: node 1 is the root, node i has children 2i and 2i + 1, the last ``leaves`` (a
power of two) nodes are leaves, and the node with number j of the m on its level holds the points [n * j // m, n * (j +
1) // m) of the tree's order. ``points`` f64[n, 3] and ``tags`` u64[n, 2] (row, mask) are in that order. ``boxes`` f64[2
* leaves, 6] are the least and greatest x, y, z of a node's points; ``node_masks`` u64[2 * leaves] the union of their
masks.

Why no point is missed. A box's squared distance sums, over the axes, the square of how far the query lies outside; for
a point p inside, each of these differences is at most the one to p. Rounding is monotone and both sums add in the same
order, so the computed box value never exceeds the computed squared chord of a point inside. A node is skipped only if
its value is strictly above the k-th best, so equal chords are all seen and the lowest rows win.
"""

import math

import numpy as np
from numba import njit

EARTH_RADIUS_M = 6_371_008.8
_RADIANS = math.pi / 180.0
# 25,000 points: 1.6 us a query with leaves of 4 to 8 points, 10 % more with half or twice as many.
_LEAF_SIZE = 8
# Depth-first, both children of a node pushed: one more entry a level than are taken off.
_STACK_SIZE = 72

# Points, tags, boxes, node masks. The read-only types accept writable arrays too.
_TREE = "f8[:, ::1], u8[:, ::1], f8[:, ::1], u8[::1]"
_LATS = _LONS = "Array(f8, 1, 'C', readonly=True)"
_POINT_MASKS = "Array(u8, 1, 'C', readonly=True)"


@njit("UniTuple(f8, 3)(f8, f8)", cache=True, nogil=True)
def _vector(lat, lon):  # type: ignore[no-untyped-def]
    cos_lat = math.cos(lat * _RADIANS)
    return cos_lat * math.cos(lon * _RADIANS), cos_lat * math.sin(lon * _RADIANS), math.sin(lat * _RADIANS)


@njit("f8(f8)", cache=True, nogil=True)
def _metres(chord2):  # type: ignore[no-untyped-def]
    """Great-circle distance of a squared chord: haversine is a quarter of it. Monotone, so that order and distance
    agree."""
    return 2.0 * EARTH_RADIUS_M * math.asin(min(1.0, 0.5 * math.sqrt(chord2)))


@njit("void(f8[:, ::1], u8[:, ::1], i8, i8)", cache=True, nogil=True)
def _swap(points, tags, i, j):  # type: ignore[no-untyped-def]
    for axis in range(3):
        points[i, axis], points[j, axis] = points[j, axis], points[i, axis]
    for column in range(2):
        tags[i, column], tags[j, column] = tags[j, column], tags[i, column]


@njit("void(f8[:, ::1], u8[:, ::1], i8, i8, i8, i8)", cache=True, nogil=True)
def _select(points, tags, low, high, place, axis):  # type: ignore[no-untyped-def]
    """Reorder [low, high) so that what lies before ``place`` is not greater, and what lies after is not less, on an
    axis.

    Hoare's quickselect with the middle element as pivot; stopping at equal values halves runs of duplicates.
    """
    high -= 1
    while low < high:
        pivot = points[(low + high) >> 1, axis]
        i, j = low, high
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                _swap(points, tags, i, j)
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            return


@njit("i8(f8[:, ::1], i8, f8[:, ::1], u8[:, ::1], u8[::1], i8, i8)", cache=True, nogil=True)
def _summarise(points, node, boxes, tags, node_masks, low, high):  # type: ignore[no-untyped-def]
    """Box and mask of a node from its points; returns the axis on which they spread most."""
    for axis in range(3):
        boxes[node, axis], boxes[node, axis + 3] = np.inf, -np.inf
        for i in range(low, high):
            boxes[node, axis] = min(boxes[node, axis], points[i, axis])
            boxes[node, axis + 3] = max(boxes[node, axis + 3], points[i, axis])
    for i in range(low, high):
        node_masks[node] |= tags[i, 1]
    widest = 0
    for axis in range(1, 3):
        if boxes[node, axis + 3] - boxes[node, axis] > boxes[node, widest + 3] - boxes[node, widest]:
            widest = axis
    return widest


@njit(
    f"Tuple(({_TREE}))({_LATS}, {_LONS}, {_POINT_MASKS})",
    cache=True,
    nogil=True,
)
def build(lats, lons, masks):  # type: ignore[no-untyped-def]
    """Tree of n points in degrees with their masks: (points, tags, boxes, node_masks), see the module."""
    n = lats.size
    points, tags = np.empty((n, 3), np.float64), np.empty((n, 2), np.uint64)
    for i in range(n):
        points[i, 0], points[i, 1], points[i, 2] = _vector(lats[i], lons[i])
        tags[i, 0], tags[i, 1] = i, masks[i]
    leaves = 1
    while leaves * _LEAF_SIZE < n:
        leaves *= 2
    boxes, node_masks = np.empty((2 * leaves, 6), np.float64), np.zeros(2 * leaves, np.uint64)
    boxes[0] = 0.0
    level = 1
    while level <= leaves:
        for j in range(level):
            low, high = n * j // level, n * (j + 1) // level
            axis = _summarise(points, level + j, boxes, tags, node_masks, low, high)
            if level < leaves:
                _select(points, tags, low, high, n * (2 * j + 1) // (2 * level), axis)
        level *= 2
    return points, tags, boxes, node_masks


@njit("f8(f8[:, ::1], i8, UniTuple(f8, 3))", cache=True, nogil=True)
def _box_chord2(boxes, node, query):  # type: ignore[no-untyped-def]
    dx = max(boxes[node, 0] - query[0], 0.0, query[0] - boxes[node, 3])
    dy = max(boxes[node, 1] - query[1], 0.0, query[1] - boxes[node, 4])
    dz = max(boxes[node, 2] - query[2], 0.0, query[2] - boxes[node, 5])
    return dx * dx + dy * dy + dz * dz


@njit("void(i8[::1], f8[::1], i8, i8, f8)", cache=True, nogil=True)
def _insert(rows, chords2, found, row, chord2):  # type: ignore[no-untyped-def]
    """Insert a row into the ``found`` best, ordered by (chord, row); of a full list the last one drops out."""
    i = min(found, rows.size - 1)
    while i > 0 and (chords2[i - 1] > chord2 or (chords2[i - 1] == chord2 and rows[i - 1] > row)):
        rows[i], chords2[i] = rows[i - 1], chords2[i - 1]
        i -= 1
    rows[i], chords2[i] = row, chord2


@njit(
    "i8(f8[:, ::1], u8[:, ::1], i8, i8, UniTuple(f8, 3), f8, f8, u8, i8[::1], f8[::1], i8)",
    cache=True,
    nogil=True,
)
def _scan_leaf(points, tags, low, high, query, max_m, min_m, required, rows, chords2, found):  # type: ignore[no-untyped-def]
    """Offer the qualifying points [low, high) to the best; returns how many there are now."""
    last = rows.size - 1
    for i in range(low, high):
        if tags[i, 1] & required != required:
            continue
        dx, dy, dz = points[i, 0] - query[0], points[i, 1] - query[1], points[i, 2] - query[2]
        chord2 = dx * dx + dy * dy + dz * dz
        row = np.int64(tags[i, 0])
        if found == rows.size and (chord2 > chords2[last] or (chord2 == chords2[last] and row > rows[last])):
            continue
        # The limits are compared with the very distance that is answered.
        if (max_m < np.inf or min_m > 0.0) and not min_m <= _metres(chord2) <= max_m:
            continue
        _insert(rows, chords2, found, row, chord2)
        found = min(found + 1, rows.size)
    return found


@njit(
    "i8(f8[:, ::1], u8[:, ::1], f8[:, ::1], u8[::1], f8, f8, f8, f8, u8, i8[::1], f8[::1])",
    cache=True,
    nogil=True,
)
def _search(points, tags, boxes, node_masks, lat, lon, max_m, min_m, required, rows, chords2):  # type: ignore[no-untyped-def]
    """The best ``rows.size`` points of a query: fills rows and squared chords in order, returns how many were found."""
    n, leaves = points.shape[0], boxes.shape[0] // 2
    query = _vector(lat, lon)
    # Wider than max_m by more than rounding can be off (1e-12 relative, 1e-30 for 0 m): only a bound for skipping
    # boxes.
    half = math.sin(min(max_m / (2.0 * EARTH_RADIUS_M), 0.5 * math.pi))
    reach2 = 4.0 * half * half * (1.0 + 1e-9) + 1e-24 if max_m < EARTH_RADIUS_M else np.inf
    nodes, bounds = np.empty(_STACK_SIZE, np.int64), np.empty(_STACK_SIZE, np.float64)
    nodes[0], bounds[0] = 1, 0.0
    size, found = 1, 0
    while size > 0:
        size -= 1
        node = nodes[size]
        worst2 = chords2[found - 1] if found == rows.size else reach2
        if bounds[size] > worst2 or node_masks[node] & required != required:
            continue
        if node >= leaves:
            j = node - leaves
            low, high = n * j // leaves, n * (j + 1) // leaves
            found = _scan_leaf(points, tags, low, high, query, max_m, min_m, required, rows, chords2, found)
            continue
        near, far = 2 * node, 2 * node + 1
        near2, far2 = _box_chord2(boxes, near, query), _box_chord2(boxes, far, query)
        if far2 < near2:
            near, far, near2, far2 = far, near, far2, near2
        nodes[size], bounds[size] = far, far2
        nodes[size + 1], bounds[size + 1] = near, near2
        size += 2
    return found


@njit(
    "Tuple((i8[::1], f8[::1]))(f8[:, ::1], u8[:, ::1], f8[:, ::1], u8[::1], f8, f8, i8, f8, f8, u8)",
    cache=True,
    nogil=True,
)
def nearest(points, tags, boxes, node_masks, lat, lon, k, max_m, min_m, required):  # type: ignore[no-untyped-def]
    """Rows and distances in metres of the at most k nearest qualifying points, by (chord, row). k >= 1."""
    rows, distances = np.empty(min(k, points.shape[0]), np.int64), np.empty(min(k, points.shape[0]), np.float64)
    found = 0
    if points.shape[0] > 0:
        found = _search(points, tags, boxes, node_masks, lat, lon, max_m, min_m, required, rows, distances)
    for i in range(found):
        distances[i] = _metres(distances[i])
    return rows[:found], distances[:found]


@njit(
    f"void({_TREE}, {_LATS}, {_LONS}, f8, f8, u8, i8[:, ::1], f8[:, ::1])",
    cache=True,
    nogil=True,
)
def nearest_many(points, tags, boxes, node_masks, lats, lons, max_m, min_m, required, rows, distances):  # type: ignore[no-untyped-def]
    """``nearest`` of m points into rows i8[m, k] (-1 where there is none) and distances f8[m, k] (infinite). k >= 1, n
    >= 1."""
    for q in range(lats.size):
        found = _search(
            points, tags, boxes, node_masks, lats[q], lons[q], max_m, min_m, required, rows[q], distances[q]
        )
        for i in range(found):
            distances[q, i] = _metres(distances[q, i])
        rows[q, found:] = -1
        distances[q, found:] = np.inf
