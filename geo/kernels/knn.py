"""Exact k nearest points on the sphere, in the tree of ``kdtree``: one query at a time, or many in order of place.

The chord of two unit vectors grows with their great-circle distance, so nearest by squared chord is nearest on the
sphere, with no special case at poles or the antimeridian. The order of an answer is by (squared chord, row).

Why no point is missed. A box's squared distance sums, over the axes, the square of how far the query lies outside; for
a point p inside, each of these differences is at most the one to p (a box is rounded outwards to whole grains, and
grains times a power of two are exact). Rounding is monotone and both sums add in the same order, so the computed box
value never exceeds the computed squared chord of a point inside. A node is skipped only if its value is strictly above
the k-th best, so equal chords are all seen and the lowest rows win.

Many queries. Neighbours mostly have the same answers, so one walk of the tree serves several of them: it collects every
qualifying point within a radius R of a centre c (the "pool"). For a query q at s from c let t be the distance of its
k-th best in the pool (where that has fewer: the limit on distances). If s + t <= R the answer is complete: a point at
most t from q is, by the triangle inequality of chords, at most s + t from c, so it is in the pool, equal chords
included. Else q is searched by itself, and becomes the centre of the next pool if the query after it is nearer to it
than its own k-th best. Both ways start with a bound: where the query before had k points, at most t from it, those are
at most t + (the step from it to q) from q. That holds without a least distance only, as with one they may not qualify.

Computed distances are off by less than 1e-15 of their value (all terms are positive) and 1e-150 (where squares
underflow); the comparisons with sums of two leave 1e-12 and 1e-100. Each chord is computed by the same operations from
the same numbers in every way, so that an answer does not depend on the way, on the queries beside it, or on threads.
"""

import math

import numpy as np
from numba import njit

from geo.kernels.inner import inner
from geo.kernels.kdtree import GRAINS, parts

EARTH_RADIUS_M = 6_371_008.8
_RADIANS = math.pi / 180.0
# Depth-first, both children of a node pushed: one more entry a level than are taken off.
_STACK_SIZE = 72
# Above every squared chord, which are at most 4 and rounding.
_FAR2 = 8.0
_GRAIN = 1.0 / GRAINS
_NO_ROW = 2**31 - 1

# Below it the arc sine by its series, of which the first term left out is below 1e-17 of the sum.
_SERIES_UNTIL = 0.01
_ASIN_OF_LIMIT = math.asin(_SERIES_UNTIL)

# Radius of a pool in distances of its centre's k-th best: 1 + this / sqrt(k). Wider ones answer more queries and hold
# more points, which each of them looks at.
_POOL_REACH = 2.0
# At least so much (6 cm), where the k-th best is at no distance.
_POOL_LEAST = 1e-8
_POOL_SLACK, _POOL_PER_NEIGHBOUR = 64, 16
_EXACTLY, _NOTHING = 1.0 + 1e-12, 1e-100

# Points, rows, masks, boxes, node masks, flags.
_POINTS = "f8[:, ::1], i4[::1], u8[::1]"
_TREE = f"{_POINTS}, i4[:, ::1], u8[::1], u2[::1]"
_STACK = "i8[::1], f8[::1]"
# max_m, min_m, reach2
_LIMITS = _VECTOR = "UniTuple(f8, 3)"
_BEST = "i8[::1], f8[::1]"
# x, y, z, row, squared chord from the query at hand
_POOL = "f8[:, ::1]"
_DEGREES = "Array(f8, 1, 'C', readonly=True)"


@inner("UniTuple(f8, 3)(f8, f8)")
def _vector(lat, lon):  # type: ignore[no-untyped-def]
    cos_lat = math.cos(lat * _RADIANS)
    return cos_lat * math.cos(lon * _RADIANS), cos_lat * math.sin(lon * _RADIANS), math.sin(lat * _RADIANS)


@inner("f8(f8)")
def _metres(chord2):  # type: ignore[no-untyped-def]
    """Great-circle distance of a squared chord: haversine is a quarter of it. Monotone, so that order and distance
    agree: so are all steps of the series, which is cut off at the arc sine of its end."""
    half = 0.5 * math.sqrt(chord2)
    if half >= _SERIES_UNTIL:
        return 2.0 * EARTH_RADIUS_M * math.asin(min(1.0, half))
    h2 = half * half
    series = 1.0 + h2 * (1.0 / 6.0 + h2 * (3.0 / 40.0 + h2 * (15.0 / 336.0 + h2 * (105.0 / 3456.0))))
    return 2.0 * EARTH_RADIUS_M * min(half * series, _ASIN_OF_LIMIT)


@inner(f"{_LIMITS}(f8, f8)")
def _limits(max_m, min_m):  # type: ignore[no-untyped-def]
    """The limits and a squared chord that is wider than ``max_m`` by more than rounding can be off (1e-12 relative,
    1e-30 for 0 m): only a bound for what need not be looked at."""
    if max_m >= EARTH_RADIUS_M:
        return max_m, min_m, _FAR2
    half = math.sin(max(max_m, 0.0) / (2.0 * EARTH_RADIUS_M))
    return max_m, min_m, 4.0 * half * half * (1.0 + 1e-9) + 1e-24


@inner(f"f8(i4[:, ::1], i8, {_VECTOR})")
def _box_chord2(boxes, node, query):  # type: ignore[no-untyped-def]
    dx = max(boxes[node, 0] * _GRAIN - query[0], 0.0, query[0] - boxes[node, 3] * _GRAIN)
    dy = max(boxes[node, 1] * _GRAIN - query[1], 0.0, query[1] - boxes[node, 4] * _GRAIN)
    dz = max(boxes[node, 2] * _GRAIN - query[2], 0.0, query[2] - boxes[node, 5] * _GRAIN)
    return dx * dx + dy * dy + dz * dz


@inner(f"void({_BEST}, f8)")
def _clear(rows, chords2, bound2):  # type: ignore[no-untyped-def]
    """No points yet: whatever is within the bound is better."""
    for i in range(rows.size):
        rows[i], chords2[i] = _NO_ROW, bound2


@inner(f"i8({_BEST}, i8, i8, f8, {_LIMITS})")
def _offer(rows, chords2, found, row, chord2, limits):  # type: ignore[no-untyped-def]
    """Insert a point into the best, ordered by (chord, row), where it belongs; returns how many there are now."""
    i = rows.size - 1
    if chord2 > chords2[i] or (chord2 == chords2[i] and row > rows[i]):
        return found
    # The limits are compared with the very distance that is answered.
    if (limits[0] < np.inf or limits[1] > 0.0) and not limits[1] <= _metres(chord2) <= limits[0]:
        return found
    i = min(found, i)
    while i > 0 and (chords2[i - 1] > chord2 or (chords2[i - 1] == chord2 and rows[i - 1] > row)):
        rows[i], chords2[i] = rows[i - 1], chords2[i - 1]
        i -= 1
    rows[i], chords2[i] = row, chord2
    return min(found + 1, rows.size)


@inner(f"i8({_POINTS}, u2, i8, i8, {_VECTOR}, {_LIMITS}, u8, {_BEST}, i8)")
def _offer_leaf(  # type: ignore[no-untyped-def]
    points, tree_rows, masks, allowed, low, high, query, limits, required, rows, chords2, found
):
    """Offer the qualifying points [low, high) of a leaf; returns how many there are now."""
    last = rows.size - 1
    for i in range(low, high):
        if not (allowed >> (i - low)) & 1 or masks[i] & required != required:
            continue
        dx, dy, dz = points[i, 0] - query[0], points[i, 1] - query[1], points[i, 2] - query[2]
        chord2 = dx * dx + dy * dy + dz * dz
        if chord2 <= chords2[last]:
            found = _offer(rows, chords2, found, tree_rows[i], chord2, limits)
    return found


@inner(f"i8({_TREE}, {_VECTOR}, {_LIMITS}, f8, u8, {_STACK}, {_BEST})")
def _search(  # type: ignore[no-untyped-def]
    points, tree_rows, masks, boxes, node_masks, flags, query, limits, bound2, required, nodes, bounds, rows, chords2
):
    """The best ``rows.size`` points of a query: fills rows and squared chords in order, returns how many were found."""
    n, leaves, levels, last = tree_rows.size, boxes.shape[0] >> 1, boxes[0, 0], rows.size - 1
    _clear(rows, chords2, bound2)
    nodes[0], bounds[0] = 1, 0.0
    size, found = 1, 0
    while size > 0:
        size -= 1
        node = nodes[size]
        if (
            bounds[size] > chords2[last]
            or flags[node] == 0
            or (required != 0 and node_masks[node] & required != required)
        ):
            continue
        if node >= leaves:
            low, high = n * (node - leaves) >> levels, n * (node - leaves + 1) >> levels
            found = _offer_leaf(
                points, tree_rows, masks, flags[node], low, high, query, limits, required, rows, chords2, found
            )
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
    "i8(u8[::1], u2[::1], f8, f8, f8, f8, u8, i8[::1], f8[::1])",
    cache=True,
    nogil=True,
)
def nearest(tree, flags, lat, lon, max_m, min_m, required, rows, distances):  # type: ignore[no-untyped-def]
    """In a tree as ``kdtree.packed`` makes it: fill rows i64[k] and distances f64[k] in metres with the nearest
    qualifying points; returns how many there are.

    -1: the point is not finite or out of range; -2: a limit is NaN. Both are found here, as two comparisons cost ten
    times more in Python.
    """
    if not (-90.0 <= lat <= 90.0 and -180.0 <= lon <= 180.0):
        return -1
    if math.isnan(max_m) or math.isnan(min_m):
        return -2
    if rows.size == 0:
        return 0
    nodes, bounds = np.empty(_STACK_SIZE, np.int64), np.empty(_STACK_SIZE, np.float64)
    limits = _limits(max_m, min_m)
    points, tree_rows, masks, boxes, node_masks = parts(tree)
    found = _search(
        points,
        tree_rows,
        masks,
        boxes,
        node_masks,
        flags,
        _vector(lat, lon),
        limits,
        limits[2],
        required,
        nodes,
        bounds,
        rows,
        distances,
    )
    for i in range(found):
        distances[i] = _metres(distances[i])
    return found


@inner(f"i8({_TREE}, i8, {_VECTOR}, f8, u8, {_POOL}, i8)")
def _collect_leaf(points, tree_rows, masks, boxes, node_masks, flags, node, centre, radius2, required, pool, size):  # type: ignore[no-untyped-def]
    """Add the qualifying points of a leaf within the radius to the pool; returns its size, -1 where it overflows."""
    n, leaves, levels = tree_rows.size, boxes.shape[0] >> 1, boxes[0, 0]
    low, high = n * (node - leaves) >> levels, n * (node - leaves + 1) >> levels
    allowed = flags[node]
    for i in range(low, high):
        if not (allowed >> (i - low)) & 1 or masks[i] & required != required:
            continue
        dx, dy, dz = points[i, 0] - centre[0], points[i, 1] - centre[1], points[i, 2] - centre[2]
        if dx * dx + dy * dy + dz * dz > radius2:
            continue
        if size == pool.shape[1]:
            return -1
        pool[0, size], pool[1, size], pool[2, size], pool[3, size] = (
            points[i, 0],
            points[i, 1],
            points[i, 2],
            tree_rows[i],
        )
        size += 1
    return size


@inner(f"i8({_TREE}, {_VECTOR}, f8, u8, {_STACK}, {_POOL})")
def _collect(points, tree_rows, masks, boxes, node_masks, flags, centre, radius2, required, nodes, bounds, pool):  # type: ignore[no-untyped-def]
    """Every qualifying point within a squared chord of the centre into the pool; returns its size, -1 if too many."""
    leaves = boxes.shape[0] >> 1
    nodes[0] = 1
    size, taken = 1, 0
    while size > 0:
        size -= 1
        node = nodes[size]
        if (
            flags[node] == 0
            or (required != 0 and node_masks[node] & required != required)
            or _box_chord2(boxes, node, centre) > radius2
        ):
            continue
        if node >= leaves:
            taken = _collect_leaf(
                points, tree_rows, masks, boxes, node_masks, flags, node, centre, radius2, required, pool, taken
            )
            if taken < 0:
                return -1
            continue
        nodes[size], nodes[size + 1] = 2 * node, 2 * node + 1
        size += 2
    return taken


@inner(f"i8({_POOL}, i8, {_VECTOR}, {_LIMITS}, f8, {_BEST})")
def _offer_pool(pool, size, query, limits, bound2, rows, chords2):  # type: ignore[no-untyped-def]
    """The best of the pool; returns how many."""
    _clear(rows, chords2, bound2)
    for i in range(size):
        dx, dy, dz = pool[0, i] - query[0], pool[1, i] - query[1], pool[2, i] - query[2]
        pool[4, i] = dx * dx + dy * dy + dz * dz
    found, last = 0, rows.size - 1
    for i in range(size):
        if pool[4, i] <= chords2[last]:
            found = _offer(rows, chords2, found, np.int64(pool[3, i]), pool[4, i], limits)
    return found


@inner(f"f8({_VECTOR}, {_VECTOR})")
def _chord(a, b):  # type: ignore[no-untyped-def]
    dx, dy, dz = a[0] - b[0], a[1] - b[1], a[2] - b[2]
    return math.sqrt(dx * dx + dy * dy + dz * dz)


@inner(f"void({_DEGREES}, {_DEGREES}, i4[::1], f8[:, ::1])")
def _vectors_in_order(lats, lons, order, queries):  # type: ignore[no-untyped-def]
    """Two passes: the fetches from anywhere overlap only where no arithmetic stands between them."""
    for i in range(order.size):
        q = order[i]
        queries[i, 0], queries[i, 1] = lats[q], lons[q]
    for i in range(order.size):
        queries[i, 0], queries[i, 1], queries[i, 2] = _vector(queries[i, 0], queries[i, 1])


@inner("f8(f8[:, ::1], i8, f8, f8)")
def _warm_bound2(chords2, i, step, reach2):  # type: ignore[no-untyped-def]
    """Bound of query i from the k-th best of the one before, which is a step away; see the module."""
    bound = (math.sqrt(chords2[i - 1, chords2.shape[1] - 1]) + step) * _EXACTLY + _NOTHING
    return min(reach2, bound * bound)


@inner(f"void({_TREE}, f8[:, ::1], {_LIMITS}, u8, i8[:, ::1], f8[:, ::1])")
def _answer_in_order(  # type: ignore[no-untyped-def]
    points, tree_rows, masks, boxes, node_masks, flags, queries, limits, required, rows, chords2
):
    """Rows (``_NO_ROW`` where there is no more) and squared chords of every query, from a pool where that is enough."""
    tree = (points, tree_rows, masks, boxes, node_masks, flags)
    m, k = rows.shape
    nodes, bounds = np.empty(_STACK_SIZE, np.int64), np.empty(_STACK_SIZE, np.float64)
    pool = np.empty((5, _POOL_SLACK + _POOL_PER_NEIGHBOUR * k), np.float64)
    centre, radius, size = (0.0, 0.0, 0.0), -1.0, 0
    step, found, reach = np.inf, 0, 1.0 + _POOL_REACH / math.sqrt(k)
    for i in range(m):
        query = queries[i, 0], queries[i, 1], queries[i, 2]
        bound2 = limits[2]
        if found == k and limits[1] <= 0.0:
            bound2 = _warm_bound2(chords2, i, step, bound2)
        away, complete = _chord(query, centre), False
        if away < radius:
            found = _offer_pool(pool, size, query, limits, bound2, rows[i], chords2[i])
            complete = (away + math.sqrt(chords2[i, k - 1])) * _EXACTLY + _NOTHING <= radius
        step = _chord(query, (queries[i + 1, 0], queries[i + 1, 1], queries[i + 1, 2])) if i + 1 < m else np.inf
        if complete:
            continue
        found = _search(*tree, query, limits, bound2, required, nodes, bounds, rows[i], chords2[i])
        worst = max(math.sqrt(chords2[i, k - 1]), _POOL_LEAST)
        if step < worst:
            centre, radius = query, reach * worst
            size = _collect(*tree, centre, radius * radius, required, nodes, bounds, pool)
            radius = radius if size >= 0 else -1.0


@njit(
    f"void(u8[::1], u2[::1], {_DEGREES}, {_DEGREES}, i4[::1], f8, f8, u8, i8[:, ::1], f8[:, ::1])",
    cache=True,
    nogil=True,
)
def nearest_many(tree, flags, lats, lons, order, max_m, min_m, required, rows, distances):  # type: ignore[no-untyped-def]
    """``nearest`` of the queries that ``order`` numbers, neighbours one after the other, into their rows i64[m, k] (-1
    where there is no more) and distances f64[m, k] (infinite). k >= 1; all arguments valid."""
    points, tree_rows, masks, boxes, node_masks = parts(tree)
    shape = order.size, rows.shape[1]
    queries, best, chords2 = np.empty((order.size, 3)), np.empty(shape, np.int64), np.empty(shape)
    _vectors_in_order(lats, lons, order, queries)
    _answer_in_order(
        points, tree_rows, masks, boxes, node_masks, flags, queries, _limits(max_m, min_m), required, best, chords2
    )
    for i in range(order.size):
        q = order[i]
        for j in range(rows.shape[1]):
            found = best[i, j] != _NO_ROW
            rows[q, j] = best[i, j] if found else -1
            distances[q, j] = _metres(chords2[i, j]) if found else np.inf
