"""Which points are among the k nearest of some point of a region: by halving spherical triangles.

Let p be a point of a spherical triangle with corners a, b, c (unit vectors): p is a positive multiple of a sum of them
with weights >= 0. "t is nearer to p than s" is p . (t - s) > 0, which is linear in p: true at the three corners, it is
true in the whole triangle. So

- a point that k others are nearer than, at all three corners, is among the k nearest nowhere in the triangle;
- a point among the k nearest of a corner is proven to be wanted;
- where every other point is of the first kind, the triangle is done; else it is cut into four.

A triangle of less than ``least_chord`` that is not done gives all that is left: nothing wanted is ever missed, and what
is given without being wanted is among the k nearest within ``least_chord`` of the region.
"""

import numpy as np
from numba import njit

from geo.kernels.inner import inner

# Squared chords of unit vectors have rounding errors below 1e-15; "nearer" is taken for true only beyond that.
_ROUNDING = 4e-15
_MOST_PAIRS = 256  # above so many candidates a triangle is cut at once: comparing all pairs costs more


@inner("f8(f8[:, ::1], i8, f8[:, ::1], i8)")
def _chord2(points, i, corners, j):  # type: ignore[no-untyped-def]
    dx, dy, dz = points[i, 0] - corners[j, 0], points[i, 1] - corners[j, 1], points[i, 2] - corners[j, 2]
    return dx * dx + dy * dy + dz * dz


@inner("void(f8[::1], i8[::1], i8, b1[::1])")
def _choose_best(chords2, candidates, k, chosen):  # type: ignore[no-untyped-def]
    """Mark the k nearest by (chord, row); candidates are in order of row."""
    found = 0
    best = np.empty(k, np.int64)
    for i in range(candidates.size):
        if found == k and chords2[i] >= chords2[best[k - 1]]:
            continue
        place = min(found, k - 1)
        while place > 0 and chords2[best[place - 1]] > chords2[i]:
            best[place] = best[place - 1]
            place -= 1
        best[place] = i
        found = min(found + 1, k)
    for i in range(found):
        chosen[candidates[best[i]]] = True


@inner("f8(f8[:, ::1], i8)")
def _kth_least_maximum(chords2, k):  # type: ignore[no-untyped-def]
    """The k-th least, over the candidates, of the greatest distance to a corner: some k are nearer than that
    everywhere. Beyond 90 degrees the greatest distance may lie inside a triangle; the margin covers one of 100 km."""
    least = np.full(k, np.inf)
    for i in range(chords2.shape[1]):
        value = max(chords2[0, i], chords2[1, i], chords2[2, i])
        value += max(0.0, value - 2.0) * 1e-3
        place = k - 1
        if value >= least[place]:
            continue
        while place > 0 and least[place - 1] > value:
            least[place] = least[place - 1]
            place -= 1
        least[place] = value
    return least[k - 1]


@inner("b1(f8[:, ::1], i8[::1], i8, i8)")
def _is_beaten(chords2, kept, i, k):  # type: ignore[no-untyped-def]
    """Whether k of the kept are nearer than ``i`` at all corners, or at the same place before it."""
    beaten_by = 0
    for j in kept:
        apart0, apart1 = chords2[0, i] - chords2[0, j], chords2[1, i] - chords2[1, j]
        apart2 = chords2[2, i] - chords2[2, j]
        same = apart0 == 0.0 and apart1 == 0.0 and apart2 == 0.0 and j < i
        if same or (apart0 > _ROUNDING and apart1 > _ROUNDING and apart2 > _ROUNDING):
            beaten_by += 1
            if beaten_by == k:
                return True
    return False


@inner("f8[:, :, ::1](f8[:, ::1])")
def _quarters(corners):  # type: ignore[no-untyped-def]
    """The four triangles between the corners and the middles of the sides, f64[4, 3, 3]."""
    middles = np.empty((3, 3))
    for i in range(3):
        total = corners[i] + corners[(i + 1) % 3]
        middles[i] = total / np.sqrt(np.sum(total * total))
    parts = np.empty((4, 3, 3))
    for i in range(3):
        parts[i, 0], parts[i, 1], parts[i, 2] = corners[i], middles[i], middles[(i + 2) % 3]
    parts[3] = middles
    return parts


@inner("void(f8[:, ::1], f8[:, ::1], i8[::1], i8, f8, b1[::1])")
def _visit(corners, points, candidates, k, least_chord, chosen):  # type: ignore[no-untyped-def]
    m = candidates.size
    chords2 = np.empty((3, m))
    for j in range(3):
        for i in range(m):
            chords2[j, i] = _chord2(points, candidates[i], corners, j)
        _choose_best(chords2[j], candidates, k, chosen)
    side = 0.0
    for j in range(3):
        side = max(side, np.sqrt(_chord2(corners, j, corners, (j + 1) % 3)))
    bound = np.sqrt(_kth_least_maximum(chords2, k)) + _ROUNDING
    kept = np.empty(m, np.int64)
    size = 0
    for i in range(m):
        # Every point of the triangle lies within a side of the first corner.
        if np.sqrt(chords2[0, i]) - side <= bound:
            kept[size] = i
            size += 1
    kept = kept[:size]
    open_ones = 0
    left = np.empty(size, np.int64)
    count = 0
    for i in kept:
        if size <= _MOST_PAIRS and _is_beaten(chords2, kept, i, k):
            continue
        left[count] = candidates[i]
        count += 1
        if not chosen[candidates[i]]:
            open_ones += 1
    if open_ones == 0:
        return
    if side < least_chord:
        for i in range(count):
            chosen[left[i]] = True
        return
    parts = _quarters(corners)
    for part in range(4):
        _visit(parts[part], points, left[:count], k, least_chord, chosen)


@njit("b1[::1](f8[:, :, ::1], f8[:, ::1], i8, f8)", cache=True, nogil=True)
def nearest_of_some_point(triangles, points, k, least_chord):  # type: ignore[no-untyped-def]
    """Which of n points are among the k nearest of some point of the triangles, b1[n].

    ``triangles`` f64[m, 3, 3] corners as unit vectors, sides below 100 km; ``points`` f64[n, 3] unit vectors, equally
    near ones by row; ``least_chord`` > 0: see the module.
    """
    chosen = np.zeros(points.shape[0], np.bool_)
    if points.shape[0] == 0:
        return chosen
    every = np.arange(points.shape[0])
    for i in range(triangles.shape[0]):
        _visit(triangles[i], points, every, k, least_chord, chosen)
    return chosen
