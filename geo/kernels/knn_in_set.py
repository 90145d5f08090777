"""The k nearest of the place index among a set of rows. The tree and its proof are those of ``geo.kernels.knn``; rows
that are not in the set are passed over in the leaves."""

import math

import numpy as np
from numba import njit

from geo.kernels.knn import _STACK_SIZE, EARTH_RADIUS_M, _box_chord2, _insert, _metres, _vector

_TREE = "f8[:, ::1], u8[:, ::1], f8[:, ::1], u8[::1]"
_WORDS = "Array(u8, 1, 'C', readonly=True)"


@njit(
    f"i8(f8[:, ::1], u8[:, ::1], i8, i8, UniTuple(f8, 3), f8, f8, u8, {_WORDS}, i8[::1], f8[::1], i8)",
    cache=True,
    nogil=True,
)
def _scan_leaf(points, tags, low, high, query, max_m, min_m, required, words, rows, chords2, found):  # type: ignore[no-untyped-def]
    """Offer the qualifying points [low, high) to the best; returns how many there are now."""
    last = rows.size - 1
    for i in range(low, high):
        row = np.int64(tags[i, 0])
        if tags[i, 1] & required != required or words[row >> 6] >> np.uint64(row & 63) & np.uint64(1) == 0:
            continue
        dx, dy, dz = points[i, 0] - query[0], points[i, 1] - query[1], points[i, 2] - query[2]
        chord2 = dx * dx + dy * dy + dz * dz
        if found == rows.size and (chord2 > chords2[last] or (chord2 == chords2[last] and row > rows[last])):
            continue
        if not min_m <= _metres(chord2) <= max_m:
            continue
        _insert(rows, chords2, found, row, chord2)
        found = min(found + 1, rows.size)
    return found


@njit(
    f"Tuple((i8[::1], f8[::1]))({_TREE}, f8, f8, i8, f8, f8, u8, {_WORDS})",
    cache=True,
    nogil=True,
)
def nearest_in_set(points, tags, boxes, node_masks, lat, lon, k, max_m, min_m, required, words):  # type: ignore[no-untyped-def]
    """Rows and distances in metres of the at most k nearest points that have the required bits and are in the set (row
    r is bit r & 63 of word r >> 6), by (chord, row). k >= 1."""
    n, leaves = points.shape[0], boxes.shape[0] // 2
    rows, chords2 = np.empty(min(k, n), np.int64), np.empty(min(k, n), np.float64)
    if n == 0:
        return rows, chords2
    query = _vector(lat, lon)
    # Wider than max_m by more than rounding can be off, as in ``geo.kernels.knn``.
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
            found = _scan_leaf(points, tags, low, high, query, max_m, min_m, required, words, rows, chords2, found)
            continue
        near, far = 2 * node, 2 * node + 1
        near2, far2 = _box_chord2(boxes, near, query), _box_chord2(boxes, far, query)
        if far2 < near2:
            near, far, near2, far2 = far, near, far2, near2
        nodes[size], bounds[size] = far, far2
        nodes[size + 1], bounds[size + 1] = near, near2
        size += 2
    for i in range(found):
        chords2[i] = _metres(chords2[i])
    return rows[:found], chords2[:found]
