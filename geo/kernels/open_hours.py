"""Which stores are open: timelines of states, and sets of rows as bits.

A timeline is a run of ``starts`` i64 (ms, rising) with a state each: from ``starts[i]`` on it is ``states[i]`` (u8: 0
closed, 1 open, 2 unknown), up to the next. Timeline k is [offsets[k], offsets[k + 1]), never empty, and begins at the
window's start. ``hours_rows`` i32[n] names the timeline of each row, -1 where there is none (its state is unknown).
In a set of rows, row r is bit r & 63 of word r >> 6.
"""

import numpy as np
from numba import njit

from geo.kernels.inner import inner
from geo.kernels.knn import _metres, _vector

_OPEN, _UNKNOWN = 1, 2
_LONGS = "Array(i8, 1, 'C', readonly=True)"
_BYTES = "Array(u1, 1, 'C', readonly=True)"
_INTS = "Array(i4, 1, 'C', readonly=True)"
_FLOATS = "Array(f8, 1, 'C', readonly=True)"
_TIMELINES = f"{_LONGS}, {_LONGS}, {_BYTES}"


@inner(f"i8({_LONGS}, i8, i8, i8)")
def _entry_at(starts, low, high, at_ms):  # type: ignore[no-untyped-def]
    """The last entry of [low, high) that starts at or before ``at_ms``; ``low`` when none does."""
    while high - low > 1:
        middle = (low + high) >> 1
        if starts[middle] <= at_ms:
            low = middle
        else:
            high = middle
    return low


@njit(f"UniTuple(i8, 2)({_TIMELINES}, i8, i8, u1[::1])", cache=True, nogil=True)
def states_at(offsets, starts, states, at_ms, end_ms, out):  # type: ignore[no-untyped-def]
    """State of every timeline at ``at_ms`` into ``out`` u8[timelines]; returns (from, until): within from <= t < until
    no state changes. ``end_ms``: the window's end."""
    since, until = np.int64(-(2**62)), end_ms
    for k in range(offsets.size - 1):
        entry = _entry_at(starts, offsets[k], offsets[k + 1], at_ms)
        out[k] = states[entry]
        since = max(since, starts[entry])
        if entry + 1 < offsets[k + 1]:
            until = min(until, starts[entry + 1])
    return since, until


@njit(f"i8({_BYTES}, {_INTS}, u8[::1])", cache=True, nogil=True)
def open_rows(states, hours_rows, words):  # type: ignore[no-untyped-def]
    """Sets in ``words`` (zeros) the bit of every row whose timeline is open; returns how many there are."""
    count = 0
    for row in range(hours_rows.size):
        k = hours_rows[row]
        if k >= 0 and states[k] == _OPEN:
            words[row >> 6] |= np.uint64(1) << np.uint64(row & 63)
            count += 1
    return count


@njit(f"void({_TIMELINES}, {_INTS}, {_LONGS}, {_LONGS}, u1[::1])", cache=True, nogil=True)
def states_of_rows(offsets, starts, states, hours_rows, rows, times_ms, out):  # type: ignore[no-untyped-def]
    """State of each of m rows at an instant of its own, into ``out`` u8[m]."""
    for i in range(rows.size):
        k = hours_rows[rows[i]]
        out[i] = _UNKNOWN if k < 0 else states[_entry_at(starts, offsets[k], offsets[k + 1], times_ms[i])]


@njit(f"Tuple((f8[::1], f8[::1]))(f8, f8, {_FLOATS}, {_FLOATS}, {_LONGS})", cache=True, nogil=True)
def distances_of_rows(lat, lon, lats, lons, rows):  # type: ignore[no-untyped-def]
    """Squared chords and metres from a point to m rows, equal to the last bit to what the place index answers."""
    query = _vector(lat, lon)
    chords2, metres = np.empty(rows.size, np.float64), np.empty(rows.size, np.float64)
    for i in range(rows.size):
        point = _vector(lats[rows[i]], lons[rows[i]])
        dx, dy, dz = point[0] - query[0], point[1] - query[1], point[2] - query[2]
        chords2[i] = dx * dx + dy * dy + dz * dz
        metres[i] = _metres(chords2[i])
    return chords2, metres


@njit(f"i8({_FLOATS}, {_FLOATS}, f8, f8, f8, f8, u8[::1])", cache=True, nogil=True)
def rows_in_box(lats, lons, west, south, east, north, words):  # type: ignore[no-untyped-def]
    """Sets in ``words`` (zeros) the bit of every row in a box of degrees, edges included; ``west > east`` crosses 180
    degrees. Returns how many there are. The longitudes 180 and -180 are one."""
    count = 0
    for row in range(lats.size):
        if not south <= lats[row] <= north:
            continue
        lon = lons[row]
        if west <= east:
            inside = west <= lon <= east or (abs(lon) == 180.0 and west <= -lon <= east)
        else:
            inside = lon >= west or lon <= east
        if inside:
            words[row >> 6] |= np.uint64(1) << np.uint64(row & 63)
            count += 1
    return count
